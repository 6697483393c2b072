"""Claim: every torchvision classifier that ONNX Runtime runs is converted correctly, from either exporter.

    python -m benchmarks.conversion.models --folder measured [--only resnet18 vit_b_16] [--exporters script dynamo]
        [--kind classification|segmentation|detection]

Each has seeded random weights and BatchNorm statistics with a spread; PyTorch exports it (`script`: the tracing
exporter, opset 17; `dynamo`: torch.export), then it is converted, saved, loaded and compared with ONNX Runtime on
batches of 1 and 5: the largest difference as a share of the largest output, and how often both predict the same class.
The folder keeps results, so the run can be interrupted; each model runs in its own processes. Prints a table.
Segmentation: the class of each pixel. Detection: one image; "same class" is the share of boxes that both find. Random
weights' boxes have almost equal scores, so rounding decides which are kept. "itself" is therefore that share between
two runs of ONNX Runtime on images that differ by one part in a million; the converted model must reach it, and at least
MIN_AGREEMENT.
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
TOLERANCE, BOX_TOLERANCE = 1e-3, 1e-2  # as a share of the largest output
MIN_AGREEMENT = 0.9  # of boxes: if even ONNX Runtime reproduces fewer, the comparison says nothing
EXPORTERS = ("script", "dynamo")
DETECTIONS = ("scores", "boxes", "labels")  # the outputs of detection, before masks or keypoints
OUTPUT_LAYERS = ("cls_logits", "cls_score", "bbox_pred", "bbox_reg")  # detection's layers for scores and boxes
KINDS = {  # torchvision's module, and the side of the images
    "classification": ("", 224),
    "segmentation": (".segmentation", 128),
    "detection": (".detection", 320),
}


OWN = "emnist"  # the recipe's own CNN
SIDES = {"inception_v3": 299, OWN: 28}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.models")
    parser.add_argument("--folder", type=Path, help="a folder that keeps results")
    parser.add_argument("--only", nargs="+", help="names of models (default: all of torchvision's classifiers)")
    parser.add_argument("--exporters", nargs="+", choices=EXPORTERS, default=list(EXPORTERS))
    parser.add_argument("--kind", choices=KINDS, default="classification")
    parser.add_argument("--export", nargs=3, metavar=("NAME", "EXPORTER", "PATH"), help="one model to an ONNX file")
    parser.add_argument("--check", type=Path, help="convert one ONNX file and print its figures as JSON")
    arguments = parser.parse_args()
    if arguments.export:
        export(*arguments.export)
    elif arguments.check:
        print(json.dumps(check(arguments.check)))
    elif not arguments.folder:
        parser.error("give --folder")
    else:
        compare(arguments.folder, arguments.only or names(arguments.kind), arguments.exporters)


def names(kind: str) -> list[str]:
    """All models of a kind in torchvision."""
    code = f"import torchvision; print(*torchvision.models.list_models(torchvision.models{KINDS[kind][0]}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def export(name: str, exporter: str, path: str, side: int | None = None, opset: int = 17) -> None:
    """Exports the net with random weights, for images of `side` or the kind's default."""
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
    """The net in eval mode, from a batch to tensors, and its kind."""
    import torch

    net, kind = _own() if name == OWN else _torchvision(name)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        if not parameter.any():  # a head of zeros would hide the layers before it
            torch.nn.init.normal_(parameter, 0, 0.02)
    if kind == "detection":
        (net.roi_heads if hasattr(net, "roi_heads") else net).score_thresh = 0.0  # scores of random weights are low
        rescale(net)
    return (net if kind == "classification" else tensors(net, kind)), kind


def rescale(net: Any) -> None:
    """Scales the output layers to a standard deviation of 1: random weights give scores and boxes so large that
    rounding moves them by pixels."""
    import torch

    def once(layer: Any, _: Any, output: Any) -> Any:
        hooks.pop(layer).remove()
        factor = 1 / output.std()
        for parameter in layer.parameters():
            parameter.data.mul_(factor)
        return output * factor

    last = [layer for name, layer in net.named_modules() if name.endswith(OUTPUT_LAYERS) or "head.module_list." in name]
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
    """Wraps segmentation, which returns a dictionary, and detection, which takes a list and returns dictionaries."""
    import torch

    class Tensors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: torch.Tensor) -> Any:
            if kind == "segmentation":
                return self.net(images)["out"]
            (detections,) = self.net([images[0]])
            return tuple(detections[name] for name in (*DETECTIONS, *sorted({*detections} - {*DETECTIONS})))

    return Tensors().eval()


def check(path: Path) -> dict[str, Any]:
    """Compares the converted model with ONNX Runtime: the largest difference over all outputs; "agreed": the share with
    the same class (of the first output) or the same boxes; "itself": that of ONNX Runtime with itself."""
    import numpy as np
    import onnxruntime

    from seaway import tensorflow_import

    tf = tensorflow_import.import_tensorflow()
    from seaway.convert.convert import convert

    began = time.process_time()
    saved = path.with_suffix(".saved")
    metadata = convert(path, saved, "seaway")
    seconds = time.process_time() - began
    name = metadata.inputs[0].name
    call = tf.saved_model.load(str(saved)).signatures["serving_default"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    model_input = session.get_inputs()[0]
    differences, agreed, itself = [], [], []
    for batch in BATCHES if not isinstance(model_input.shape[0], int) else (model_input.shape[0],):
        images = np.random.default_rng(batch).normal(size=(batch, *model_input.shape[1:])).astype(np.float32)
        expected = session.run(None, {model_input.name: images})
        results = call(**{name: tf.constant(images)})
        outputs = [results[tensor.name].numpy() for tensor in metadata.outputs]
        if outputs[0].ndim == 1:
            difference, same = boxes(outputs, expected)
            for seed in range(3):
                noise = 1 + 1e-6 * np.random.default_rng(seed).normal(size=images.shape)
                itself.append(
                    boxes(session.run(None, {model_input.name: (images * noise).astype(np.float32)}), expected)[1]
                )
        else:
            if [output.shape for output in outputs] != [value.shape for value in expected]:
                raise ValueError(
                    f"{[output.shape for output in outputs]} instead of {[value.shape for value in expected]}"
                )
            difference = max(
                float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(outputs, expected, strict=True)
            )
            same = float(np.mean(outputs[0].argmax(1) == expected[0].argmax(1)))
        differences.append(difference)
        agreed.append(same)
    megabytes = sum(f.stat().st_size for f in saved.rglob("*") if f.is_file()) / 1e6
    figures = {"difference": max(differences), "agreed": min(agreed), "seconds": seconds, "megabytes": megabytes}
    return figures | ({"itself": min(itself)} if itself else {})


def boxes(outputs: list[Any], expected: list[Any]) -> tuple[float, float]:
    """The largest difference of boxes that both have within BOX_TOLERANCE, as a share of each output's largest value,
    and the share of such boxes. The order is ignored, because equal scores may come in any order."""
    import numpy as np

    scales = [max(1e-9, float(np.abs(one).max(initial=0))) for one in expected]

    def rows(outputs: list[Any]) -> Any:
        scaled = [one / scale for one, scale in zip(outputs, scales, strict=True)]
        return np.concatenate([one.reshape(len(one), int(np.prod(one.shape[1:]))) for one in scaled], 1)

    mine, theirs = rows(outputs), rows(expected)
    nearest = [float(np.abs(mine - row).max(1).min(initial=1)) for row in theirs]
    same = [distance for distance in nearest if distance <= BOX_TOLERANCE]
    return max(same, default=0), len(same) / max(len(mine), len(theirs), 1)


def compare(folder: Path, chosen: list[str], exporters: list[str]) -> None:
    from benchmarks.tables import table

    folder.mkdir(parents=True, exist_ok=True)
    rows, count = [], 0
    for name in chosen:
        for exporter in exporters:
            file = folder / f"{name}-{exporter}.json"
            if not file.exists():
                file.write_text(json.dumps(one(folder, name, exporter)))
            figures = json.loads(file.read_text())
            print(f"{name} {exporter}: {figures}", file=sys.stderr, flush=True)
            keys = ("said", "difference", "agreed", "itself", "seconds")
            rows.append([name, exporter, *(figures.get(key, "") for key in keys)])
            count += right(figures)
    print(f"{count} of {len(rows)} passed\n")
    print(table(["model", "exporter", "failed", "largest difference", "same class", "itself", "CPU s"], rows))


def right(figures: dict[str, Any]) -> bool:
    """Whether the figures of `check` are good enough; False if it failed."""
    if "said" in figures:
        return False
    if "itself" in figures:
        return bool(figures["agreed"] >= max(MIN_AGREEMENT, figures["itself"]))
    return bool(figures["difference"] <= TOLERANCE and figures["agreed"] == 1)


def one(folder: Path, name: str, exporter: str) -> dict[str, Any]:
    work_folder = folder / f"{name}-{exporter}"  # weights over 2 GB are exported to files beside the model
    work_folder.mkdir(exist_ok=True)
    path = work_folder / "model.onnx"
    try:
        for words in (("--export", name, exporter, path), ("--check", path)):
            command = [sys.executable, "-m", "benchmarks.conversion.models", *map(str, words)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
            if done.returncode:
                return {"said": f"{words[0]}: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"}
        return dict(json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(work_folder, ignore_errors=True)


if __name__ == "__main__":
    main()
