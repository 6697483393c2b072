"""Claim: every classifier of torchvision's that ONNX Runtime runs comes over, whichever exporter wrote it.

    python -m benchmarks.conversion.models --folder measured [--only resnet18 vit_b_16] [--exporters script dynamo]

Each has random weights from a seed, and BatchNorm statistics with a spread; it is exported by PyTorch (`script`: the
tracing exporter, opset 17; `dynamo`: torch.export), converted, saved, loaded and compared with ONNX Runtime on batches
of 1 and 5: the largest difference as a share of the largest output, and how often both name the same class. Finished
models are kept in the folder, so that it can be interrupted; each runs in processes of its own. Prints a table.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BATCHES = (1, 5)
CLOSE = 1e-3
EXPORTERS = ("script", "dynamo")


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.models")
    parser.add_argument("--folder", type=Path, help="where results are kept")
    parser.add_argument("--only", nargs="+", help="names of models (default: all of torchvision's classifiers)")
    parser.add_argument("--exporters", nargs="+", choices=EXPORTERS, default=list(EXPORTERS))
    parser.add_argument("--export", nargs=3, metavar=("NAME", "EXPORTER", "PATH"), help="one model to an ONNX file")
    parser.add_argument("--check", type=Path, help="convert one ONNX file and print its figures as JSON")
    given = parser.parse_args()
    if given.export:
        export(*given.export)
    elif given.check:
        print(json.dumps(check(given.check)))
    elif not given.folder:
        parser.error("give --folder, where results are kept")
    else:
        compare(given.folder, given.only or names(), given.exporters)


def names() -> list[str]:
    """All that torchvision builds as a classifier of pictures."""
    code = "import torchvision; print(*torchvision.models.list_models(torchvision.models))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def export(name: str, exporter: str, path: str, opset: int = 17) -> None:
    import torch
    import torchvision

    from seaway.nets.build import build

    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention of inference has no ONNX operator
    torch.manual_seed(0)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    own = name == "emnist"  # the recipe's own CNN
    net = build("cnn", (28, 28), 62) if own else torchvision.models.get_model(name, weights=None, **options)
    net.eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        if not parameter.any():  # a head of zeros would say nothing of what is before it
            torch.nn.init.normal_(parameter, 0, 0.02)
    side = 299 if name == "inception_v3" else 224
    images = torch.randn(2, 1, 28, 28) if own else torch.randn(2, 3, side, side)
    with torch.no_grad():
        if exporter == "dynamo":
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(net, (images,), path, dynamo=True, dynamic_shapes=shapes, external_data=False)
        else:
            axes = {"image": {0: "n"}, "logits": {0: "n"}}
            torch.onnx.export(
                net, (images,), path, dynamo=False, opset_version=opset, dynamic_axes=axes,
                input_names=["image"], output_names=["logits"],
            )  # fmt: skip


def check(path: Path) -> dict[str, Any]:
    import numpy as np
    import onnxruntime

    from seaway import quiet

    tf = quiet.import_tensorflow()
    from components.convert.convert import convert

    began = time.process_time()
    saved = path.with_suffix(".saved")
    card = convert(path, saved)
    seconds = time.process_time() - began
    name = card.inputs[0].name
    call = tf.saved_model.load(str(saved)).signatures["serving_default"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    own = session.get_inputs()[0]
    differences, agreed = [], []
    for batch in BATCHES:
        images = np.random.default_rng(batch).normal(size=(batch, *own.shape[1:])).astype(np.float32)
        wanted = session.run(None, {own.name: images})[0]
        got = call(**{name: tf.constant(images)})[card.outputs[0].name].numpy()
        differences.append(float(np.abs(got - wanted).max() / np.abs(wanted).max()))
        agreed.append(float((got.argmax(1) == wanted.argmax(1)).mean()))
    megabytes = sum(f.stat().st_size for f in saved.rglob("*") if f.is_file()) / 1e6
    return {"difference": max(differences), "agreed": min(agreed), "seconds": seconds, "megabytes": megabytes}


def compare(folder: Path, chosen: list[str], exporters: list[str]) -> None:
    from benchmarks.tables import table

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in chosen:
        for exporter in exporters:
            kept = folder / f"{name}-{exporter}.json"
            if not kept.exists():
                kept.write_text(json.dumps(one(folder, name, exporter)))
            got = json.loads(kept.read_text())
            print(f"{name} {exporter}: {got}", file=sys.stderr, flush=True)
            rows.append([name, exporter, *(got.get(key, "") for key in ("said", "difference", "agreed", "seconds"))])
    right = [r for r in rows if not r[2] and r[3] <= CLOSE and r[4] == 1]
    print(f"{len(right)} of {len(rows)} right\n")
    print(table(["model", "exporter", "failed", "largest difference", "same class", "CPU s"], rows))


def one(folder: Path, name: str, exporter: str) -> dict[str, Any]:
    path = folder / f"{name}-{exporter}.onnx"
    try:
        for words in (("--export", name, exporter, path), ("--check", path)):
            command = [sys.executable, "-m", "benchmarks.conversion.models", *map(str, words)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
            if done.returncode:
                return {"said": f"{words[0]}: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"}
        return dict(json.loads(done.stdout.splitlines()[-1]))
    finally:
        path.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(".saved"), ignore_errors=True)


if __name__ == "__main__":
    main()
