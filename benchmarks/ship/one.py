"""Ships one network in this process, and compares what it published with PyTorch; `__main__` starts and watches it."""

import contextlib
import functools
import json
import os
import resource
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError

PRELOAD = "benchmarks.ship.warm"
# The processes share few cores with others: a thread that waits for another by spinning takes time from all.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
ROUNDING = 10.0  # times PyTorch's own distance from float64, as the gate allows
NUDGES = 8
LOG, RESULT = "log", "result.json"
MODEL, SAVED, PARITY, REPOSITORY = "onnx", "saved_model", "parity", "repository"


def child(source: str, name: str, folder: str, count: int, budget_s: float, rest: bool) -> None:
    """The process's work: writes what it prints into the folder's log, and the result beside it."""
    log = os.open(Path(folder) / LOG, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    warnings.simplefilter("ignore")
    from benchmarks.ship import lists

    entry = next(entry for entry in lists.read(source) if entry["name"] == name)
    result = run(f"{source}.{name}", entry, Path(folder), count, budget_s, rest)
    part = Path(folder) / f"{RESULT}.part"
    part.write_text(json.dumps(result), encoding="utf-8")
    part.rename(Path(folder) / RESULT)


def run(
    function: str, entry: dict[str, Any], folder: Path, count: int, budget_s: float, rest: bool = False
) -> dict[str, Any]:
    """Ships `builders:function`; the result's `class` is one of `__main__.CLASSES`. `rest`: a server is asked, too."""
    name = "net"
    (folder / REPOSITORY).mkdir(parents=True, exist_ok=True)
    stages: dict[str, Callable[[], Any]] = {
        "export": lambda: _export(function, entry, folder / MODEL, name),
        "convert": lambda: _convert(folder),
        "validate": lambda: _validate(folder),
        "publish": lambda: _publish(folder, name),
    }
    result: dict[str, Any] = {"class": "exact"}
    for stage, work in stages.items():
        began = time.process_time()
        print(json.dumps({"stage": stage}), flush=True)
        try:
            done = work()
        except SeawayError as error:
            result |= {"class": "refused", "stage": stage, "reason": str(error), "error": type(error).__name__}
        except Exception as error:  # the benchmark's point: anything else is a fault of Seaway's
            last = traceback.format_exc().strip().splitlines()
            result |= {"class": "traceback", "stage": stage, "reason": f"{type(error).__name__}: {error}"[:500]}
            result["trace"] = last[-12:]
        result.setdefault("seconds", {})[stage] = round(time.process_time() - began, 1)
        if stage == "export" and "reason" not in result:
            result["exporter"] = done.settings["exporter"]
            result["refused_exporters"] = done.settings.get("refused_exporters", {})
            result["tolerances"] = {key: value.abs for key, value in done.tolerances.items()}
        if "reason" in result:
            break
    began = time.process_time()
    print(json.dumps({"stage": "compare"}), flush=True)
    if "reason" not in result:
        figures, renamed, pytorch = _published(function, entry, folder, name, done, count, budget_s, rest)
        result |= figures | {"class": _verdict(figures)}
        if result["class"] == "wrong":
            result |= _rounding(renamed, pytorch, figures, count, budget_s)
    else:
        result["independent"] = _independent(function, entry, folder, budget_s)
    result["seconds"]["compare"] = round(time.process_time() - began, 1)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result["cpu_s"] = round(sum(each.ru_utime + each.ru_stime for each in usage), 1)
    result["peak_mb"] = round(usage[0].ru_maxrss / 1e3)
    return result


def _export(function: str, entry: dict[str, Any], folder: Path, name: str) -> Any:
    from seaway.export.export import export_model

    options = {"activation": entry["activation"]} if "activation" in entry else {}
    model = f"python:benchmarks.ship.builders:{function}"
    options["golden"] = _real_examples(entry, folder.with_name("golden.npz"))
    sizes = entry.get("sizes", [])
    return export_model(model, folder, weights=None, inputs=entry["inputs"], sizes=sizes, name=name, **options)


def _real_examples(entry: dict[str, Any], file: Path) -> Path | None:
    """Golden examples, at the highest sizes, where random numbers make no sense: masks without a token, boxes without
    an area. None for other networks. The comparison later has other examples."""
    import re

    import numpy as np

    from benchmarks.ship import exactness

    if not entry.keys() & {"masks", "boxes"} or not all(name for name, _, _ in exactness.specs(entry)):
        return None
    highest = [re.sub(r"=\d+\.\.", lambda found: "=", size) for size in entry.get("sizes", [])]
    fixed = entry | {"sizes": [f"{name}={size}..{size}" for name, size in (text.split("=") for text in highest)]}
    calls = [call for call, _ in zip(exactness.batches(fixed, seed=1), range(6), strict=False)]
    np.savez(file, **{name: np.concatenate([call[name] for call in calls]) for name in calls[0]})
    return file


def _convert(folder: Path) -> Any:
    from seaway.convert.convert import convert_artifact

    return convert_artifact(folder / MODEL, folder / SAVED)


def _validate(folder: Path) -> Any:
    from seaway.validate.validate import validate

    return validate(folder / MODEL, folder / SAVED, None, folder / PARITY)


def _publish(folder: Path, name: str) -> int:
    from seaway.publish.publish import publish

    return publish(folder / MODEL, folder / SAVED, folder / PARITY, folder / REPOSITORY, name)


def _published(
    function: str, entry: dict[str, Any], folder: Path, name: str, version: int, count: int, budget_s: float, rest: bool
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """PyTorch against the published SavedModel, the ONNX file beside it, and a server; then the entry with names, and
    what builds the network's function."""
    from benchmarks.ship import exactness
    from seaway.artifacts import interface, model_repository
    from seaway.validate import runners

    metadata = model_repository.read_metadata(folder / REPOSITORY, name, version)
    for part in (MODEL, SAVED):
        shutil.rmtree(folder / part)  # so that only what was published can be compared
    place = model_repository.path(folder / REPOSITORY, name, version)
    default = interface.default_outputs(metadata.outputs)
    signatures = ["serving_default", *(tensor.name for tensor in metadata.outputs if tensor not in default)]
    runtimes = {
        "saved_model": runners.tensorflow(place)(signatures),
        "onnx": runners.onnx_runtime(place / model_repository.EXTRA / "model.onnx"),
    }
    names = [tensor.name for tensor in metadata.inputs]
    activation = entry.get("activation", "softmax")
    outputs = [tensor.name for tensor in metadata.outputs]
    pytorch = _pytorch(function, outputs, activation)
    renamed = _renamed(entry, names)
    with contextlib.ExitStack() as stack:
        if rest:
            runtimes["rest"] = stack.enter_context(_served(folder, name, metadata, signatures))
        figures = exactness.compare(renamed, pytorch, runtimes, count, budget_s)
    return figures, renamed, functools.partial(_pytorch, function, outputs, activation)


@contextlib.contextmanager
def _served(folder: Path, name: str, metadata: Any, signatures: list[str]) -> Iterator[Any]:
    """What asks a server of the repository, over TensorFlow Serving's REST API."""
    import socket

    from seaway.artifacts import interface
    from seaway.load.client import Client
    from seaway.pipeline import local
    from seaway.protocols import client_codecs

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    default = [tensor.name for tensor in interface.default_outputs(metadata.outputs)]
    with local.server(folder / REPOSITORY, port, folder / "server.log") as (url, *_):
        client = Client(url)
        while not _loaded(client, name):
            time.sleep(0.2)

        def run(inputs: dict[str, Any]) -> dict[str, Any]:
            arrays: dict[str, Any] = {}
            for signature in signatures:
                outputs = default if signature == interface.DEFAULT else [signature]
                found = client.predict_outputs(client_codecs.TFS, name, inputs, outputs, None, signature, whole=True)
                arrays |= found[0]
            return arrays

        yield run


def _loaded(client: Any, name: str) -> bool:
    try:
        return any(status.state == "AVAILABLE" for status in client.status(name))
    except SeawayError:
        return False


def _rounding(
    renamed: dict[str, Any], pytorch: Any, figures: dict[str, Any], count: int, budget_s: float
) -> dict[str, Any]:
    """Whether no runtime could be exact: PyTorch's own float32 is about as far from its float64, or from itself once
    its weights move by ROUNDING times their rounding errors, so that a near tie of two experts ends the other way."""
    from benchmarks.ship import exactness

    nudged = {str(seed): pytorch(nudge=seed) for seed in range(1, NUDGES + 1)}
    moved = exactness.compare(renamed, pytorch(), nudged, count, budget_s)
    allowed = {name: max(output["share"].values()) for name, output in moved["outputs"].items()}
    reason = f"PyTorch's float32 is {max(allowed.values()):.2g} of the range from itself with weights moved by rounding"
    try:
        own = exactness.compare(renamed, pytorch(double=True), {"pytorch": pytorch()}, count, budget_s)
    except Exception as error:  # the network may not run in float64
        reason += f"; not compared with float64: {type(error).__name__}"
    else:
        shares = {name: output["share"]["pytorch"] for name, output in own["outputs"].items()}
        allowed = {name: max(allowed[name], ROUNDING * share) for name, share in shares.items()}
        reason += f", {max(shares.values()):.2g} from its float64"
    coarse = all(
        max(output["share"].values()) <= max(exactness.SHARE, allowed[name])
        for name, output in figures["outputs"].items()
    )
    return {"class": "coarse" if coarse else "wrong", "reason": reason}


def _renamed(entry: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The entry with a name for each input, where forward()'s own are meant."""
    inputs = [
        text if text.startswith(f"{name}:") else f"{name}:{text}"
        for text, name in zip(entry["inputs"], names, strict=True)
    ]
    return entry | {"inputs": inputs}


def _pytorch(
    function: str, outputs: list[str], activation: str = "softmax", double: bool = False, nudge: int = 0
) -> Any:
    """The network itself, built once more: its outputs by the metadata's names, which are in its order. `double`: in
    float64. `nudge`: a seed, by which each weight is moved by at most ROUNDING times its rounding error."""
    import torch

    from benchmarks.ship import builders

    net = getattr(builders, function)()
    if double:
        net = net.double()
        for module in net.modules():
            if hasattr(module, "set_experts_implementation"):
                module.set_experts_implementation("eager")  # torch's grouped_mm has no float64
                break
    if nudge:
        generator = torch.Generator().manual_seed(nudge)
        with torch.no_grad():
            for weight in net.parameters():
                if weight.dtype == torch.float32:
                    weight *= 1 + (torch.rand(weight.shape, generator=generator) - 0.5) * ROUNDING * 2**-23

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        if double:
            inputs = {name: array.astype(float) if array.dtype.kind == "f" else array for name, array in inputs.items()}
        values = list(builders.call(net, inputs).values())
        if outputs == ["scores", "logits"]:
            values = [values[0].softmax(dim=1) if activation == "softmax" else values[0], values[0]]
        if len(values) != len(outputs):
            raise ValueError(f"{len(values)} outputs instead of {', '.join(outputs)}")
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}

    return run


def _verdict(figures: dict[str, Any]) -> str:
    from benchmarks.ship import exactness

    return exactness.verdict(figures)


def _independent(function: str, entry: dict[str, Any], folder: Path, budget_s: float) -> str:
    """Whether the refused network is exact without Seaway's exporter and gate: by PyTorch's own exporters, then the
    converter. "exact" is a wrongly refused one; else why not."""
    from benchmarks.ship import exactness
    from seaway.convert import convert
    from seaway.validate import runners

    path, saved, reasons = folder / "independent.onnx", folder / "independent", []
    for exporter in (_torchscript, _dynamo):
        try:
            names, outputs = exporter(function, entry, path)
            shutil.rmtree(saved, ignore_errors=True)
            metadata = convert.convert(path, saved)
            inputs = [tensor.name for tensor in metadata.inputs]
            run = runners.tensorflow(saved)(["serving_default"])
            runtimes = {
                "saved_model": lambda arrays, run=run, inputs=inputs: run(
                    dict(zip(inputs, arrays.values(), strict=True))
                )
            }
            named = _renamed(entry, names)
            figures = exactness.compare(named, _pytorch(function, outputs), runtimes, 40, budget_s / 2)
            reasons.append(exactness.verdict(figures))
        except Exception as error:  # PyTorch's exporters raise many kinds
            reasons.append(f"{type(error).__name__}: {error}".strip().splitlines()[0][:200])
        if reasons[-1] == "exact":
            return "exact"
    return "; ".join(reasons)


def _torchscript(function: str, entry: dict[str, Any], path: Path) -> tuple[list[str], list[str]]:
    return _by_pytorch(function, entry, path, dynamo=False)


def _dynamo(function: str, entry: dict[str, Any], path: Path) -> tuple[list[str], list[str]]:
    return _by_pytorch(function, entry, path, dynamo=True)


def _by_pytorch(function: str, entry: dict[str, Any], path: Path, *, dynamo: bool) -> tuple[list[str], list[str]]:
    """Exports at batch 2 with a dynamic batch and the largest open sizes; the names of inputs and outputs."""
    import inspect

    import torch

    from benchmarks.ship import builders, exactness

    net = getattr(builders, function)()
    torch.backends.mha.set_fastpath_enabled(False)
    parameters = list(inspect.signature(net.forward).parameters)
    names = [name or parameters[i] for i, (name, _, _) in enumerate(exactness.specs(entry))]
    stream = exactness.batches(_renamed(entry, names))
    next(stream)
    arrays = next(stream)
    inputs = tuple(torch.from_numpy(array) for array in arrays.values())
    outputs = [f"out{i}" for i in range(len(builders.call(net, arrays)))]
    open_axes = [
        {0: "batch"} | {i + 1: dim for i, dim in enumerate(dims) if not dim.isdigit()}
        for _, dims, _ in exactness.specs(entry)
    ]
    with torch.no_grad():
        if dynamo:
            shapes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in open_axes)
            torch.onnx.export(
                net,
                inputs,
                path,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=names,
                output_names=outputs,
                verbose=False,
            )
        else:
            axes = dict(zip(names, open_axes, strict=True)) | {name: {0: "batch"} for name in outputs}
            torch.onnx.export(
                net,
                inputs,
                path,
                dynamo=False,
                opset_version=18,
                dynamic_axes=axes,
                input_names=names,
                output_names=outputs,
            )
    return names, outputs
