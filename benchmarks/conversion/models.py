"""Claim: every classifier of torchvision's that ONNX Runtime runs comes over, whichever exporter wrote it.

    python -m benchmarks.conversion.models --folder measured [--only resnet18 vit_b_16] [--exporters script dynamo]
        [--kind classification|segmentation|detection]

Each has random weights from a seed, and BatchNorm statistics with a spread; it is exported by PyTorch (`script`: the
tracing exporter, opset 17; `dynamo`: torch.export), converted, saved, loaded and compared with ONNX Runtime on batches
of 1 and 5: the largest difference as a share of the largest output, and how often both name the same class. Finished
models are kept in the folder, so that it can be interrupted; each runs in processes of its own. Prints a table.
Segmentation: the class of each pixel. Detection: one picture; "same class" is the share of boxes that both find. Among
random weights' boxes, all but equally good, rounding decides which stay, so "itself" is that share for ONNX Runtime and
itself on pictures that differ by one part in a million: that much is asked of the converted model, and MOST at least.
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
CLOSE, ALIKE = 1e-3, 1e-2  # of the largest output: one that is right, and a box that is the same
MOST = 0.9  # of boxes: where even ONNX Runtime finds fewer again, nothing can be told
EXPORTERS = ("script", "dynamo")
FOUND = ("scores", "boxes", "labels")  # the outputs of detection, before masks or keypoints
LAST = ("cls_logits", "cls_score", "bbox_pred", "bbox_reg")  # detection's layers that give scores and boxes
KINDS = {  # torchvision's module, and the side of the pictures
    "classification": ("", 224),
    "segmentation": (".segmentation", 128),
    "detection": (".detection", 320),
}


OWN = "emnist"  # the recipe's own CNN
SIDES = {"inception_v3": 299, OWN: 28}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.models")
    parser.add_argument("--folder", type=Path, help="where results are kept")
    parser.add_argument("--only", nargs="+", help="names of models (default: all of torchvision's classifiers)")
    parser.add_argument("--exporters", nargs="+", choices=EXPORTERS, default=list(EXPORTERS))
    parser.add_argument("--kind", choices=KINDS, default="classification")
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
        compare(given.folder, given.only or names(given.kind), given.exporters)


def names(kind: str) -> list[str]:
    """All that torchvision has of a kind."""
    code = f"import torchvision; print(*torchvision.models.list_models(torchvision.models{KINDS[kind][0]}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def export(name: str, exporter: str, path: str, side: int | None = None, opset: int = 17) -> None:
    """The net with random weights to an ONNX file, for pictures of `side` or of its kind's."""
    import torch

    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention of inference has no ONNX operator
    torch.manual_seed(0)
    net, kind = build(name)
    side = side or SIDES.get(name, KINDS[kind][1])
    batch = 1 if kind == "detection" else 2
    images = torch.randn(batch, 1 if name == OWN else 3, side, side)
    with torch.no_grad():
        if exporter == "dynamo":
            shapes = ({0: torch.export.Dim.DYNAMIC},) if batch > 1 else None
            torch.onnx.export(net, (images,), path, dynamo=True, dynamic_shapes=shapes)
        else:
            axes = {"image": {0: "n"}, "logits": {0: "n"}} if batch > 1 else {}
            names = {"input_names": ["image"], **({"output_names": ["logits"]} if batch > 1 else {})}
            torch.onnx.export(net, (images,), path, dynamo=False, opset_version=opset, dynamic_axes=axes, **names)


def build(name: str) -> tuple[Any, str]:
    """The net, ready for inference, that takes a batch and gives tensors; and its kind."""
    import torch

    net, kind = _own() if name == OWN else _torchvision(name)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        if not parameter.any():  # a head of zeros would say nothing of what is before it
            torch.nn.init.normal_(parameter, 0, 0.02)
    if kind == "detection":
        (net.roi_heads if hasattr(net, "roi_heads") else net).score_thresh = 0.0  # scores of random weights are low
        moderate(net)
    return (net if kind == "classification" else tensors(net, kind)), kind


def moderate(net: Any) -> None:
    """Random weights give scores and boxes so large that rounding moves them by pixels: they get a spread of 1."""
    import torch

    def once(layer: Any, _: Any, output: Any) -> Any:
        hooks.pop(layer).remove()
        factor = 1 / output.std()
        for parameter in layer.parameters():
            parameter.data.mul_(factor)
        return output * factor

    last = [layer for name, layer in net.named_modules() if name.endswith(LAST) or "head.module_list." in name]
    hooks = {layer: layer.register_forward_hook(once) for layer in last if hasattr(layer, "weight")}
    side = KINDS["detection"][1]
    with torch.no_grad():
        net([torch.randn(3, side, side)])


def _own() -> tuple[Any, str]:
    from seaway.nets import build as nets

    return nets.build("cnn", (28, 28), 62).eval(), "classification"


def _torchvision(name: str) -> tuple[Any, str]:
    import torchvision

    options: dict[str, Any] = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    module = torchvision.models.get_model_builder(name).__module__
    kind = next((kind for kind, (part, _) in KINDS.items() if part and part in module), "classification")
    if kind != "classification":
        options["weights_backbone"] = None
    return torchvision.models.get_model(name, weights=None, **options).eval(), kind


def tensors(net: Any, kind: str) -> Any:
    """Segmentation gives a dictionary, detection takes a list and gives one of dictionaries."""
    import torch

    class Tensors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: torch.Tensor) -> Any:
            if kind == "segmentation":
                return self.net(images)["out"]
            (found,) = self.net([images[0]])
            return tuple(found[name] for name in (*FOUND, *sorted({*found} - {*FOUND})))

    return Tensors().eval()


def check(path: Path) -> dict[str, Any]:
    """How far the converted model is from ONNX Runtime, over all outputs; "agreed": of the first, the same class, or of
    boxes those that both have, and "itself" the same of ONNX Runtime and itself."""
    import numpy as np
    import onnxruntime

    from seaway import quiet

    tf = quiet.import_tensorflow()
    from seaway.convert.convert import convert

    began = time.process_time()
    saved = path.with_suffix(".saved")
    card = convert(path, saved, "seaway")
    seconds = time.process_time() - began
    name = card.inputs[0].name
    call = tf.saved_model.load(str(saved)).signatures["serving_default"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    own = session.get_inputs()[0]
    differences, agreed, itself = [], [], []
    for batch in BATCHES if not isinstance(own.shape[0], int) else (own.shape[0],):
        images = np.random.default_rng(batch).normal(size=(batch, *own.shape[1:])).astype(np.float32)
        wanted = session.run(None, {own.name: images})
        found = call(**{name: tf.constant(images)})
        got = [found[tensor.name].numpy() for tensor in card.outputs]
        if got[0].ndim == 1:
            difference, same = boxes(got, wanted)
            for seed in range(3):
                noise = 1 + 1e-6 * np.random.default_rng(seed).normal(size=images.shape)
                itself.append(boxes(session.run(None, {own.name: (images * noise).astype(np.float32)}), wanted)[1])
        else:
            if [mine.shape for mine in got] != [one.shape for one in wanted]:
                raise ValueError(f"{[mine.shape for mine in got]} in place of {[one.shape for one in wanted]}")
            difference = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, wanted, strict=True))
            same = float(np.mean(got[0].argmax(1) == wanted[0].argmax(1)))
        differences.append(difference)
        agreed.append(same)
    megabytes = sum(f.stat().st_size for f in saved.rglob("*") if f.is_file()) / 1e6
    figures = {"difference": max(differences), "agreed": min(agreed), "seconds": seconds, "megabytes": megabytes}
    return figures | ({"itself": min(itself)} if itself else {})


def boxes(got: list[Any], wanted: list[Any]) -> tuple[float, float]:
    """The largest difference in boxes that both have to within ALIKE, as a share of each output's largest value; and
    how many those are, as a share. In any order, since equal scores may stand in any."""
    import numpy as np

    scales = [max(1e-9, float(np.abs(one).max(initial=0))) for one in wanted]

    def rows(outputs: list[Any]) -> Any:
        scaled = [one / scale for one, scale in zip(outputs, scales, strict=True)]
        return np.concatenate([one.reshape(len(one), int(np.prod(one.shape[1:]))) for one in scaled], 1)

    mine, theirs = rows(got), rows(wanted)
    nearest = [float(np.abs(mine - row).max(1).min(initial=1)) for row in theirs]
    same = [distance for distance in nearest if distance <= ALIKE]
    return max(same, default=0), len(same) / max(len(mine), len(theirs), 1)


def compare(folder: Path, chosen: list[str], exporters: list[str]) -> None:
    from benchmarks.tables import table

    folder.mkdir(parents=True, exist_ok=True)
    rows, count = [], 0
    for name in chosen:
        for exporter in exporters:
            kept = folder / f"{name}-{exporter}.json"
            if not kept.exists():
                kept.write_text(json.dumps(one(folder, name, exporter)))
            got = json.loads(kept.read_text())
            print(f"{name} {exporter}: {got}", file=sys.stderr, flush=True)
            keys = ("said", "difference", "agreed", "itself", "seconds")
            rows.append([name, exporter, *(got.get(key, "") for key in keys)])
            count += right(got)
    print(f"{count} of {len(rows)} right\n")
    print(table(["model", "exporter", "failed", "largest difference", "same class", "itself", "CPU s"], rows))


def right(got: dict[str, Any]) -> bool:
    """Whether what `check` found, if it came so far, is all that can be asked."""
    if "said" in got:
        return False
    if "itself" in got:
        return bool(got["agreed"] >= max(MOST, got["itself"]))
    return bool(got["difference"] <= CLOSE and got["agreed"] == 1)


def one(folder: Path, name: str, exporter: str) -> dict[str, Any]:
    own = folder / f"{name}-{exporter}"  # weights of over 2 GB are exported to files beside the model
    own.mkdir(exist_ok=True)
    path = own / "model.onnx"
    try:
        for words in (("--export", name, exporter, path), ("--check", path)):
            command = [sys.executable, "-m", "benchmarks.conversion.models", *map(str, words)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
            if done.returncode:
                return {"said": f"{words[0]}: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"}
        return dict(json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()
