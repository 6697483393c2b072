"""The conversion report: `conversion.json` beside the SavedModel, and one printed line.

It counts in the file read and the files written, so it works for both converters, and is the same for the same model.

onnx         operators with counts (bodies of If, Loop and Scan included), nodes, bytes of the file and of the weights
saved_model  operators with counts, those that `serving_default` needs; nodes, without constants, identities and calls;
             bytes of its files; convolutions, those of them that run channels last, remaining Transposes
folded       constant-folded nodes (converter seaway)
constants    where each floating-point constant comes from, for the gate (converter seaway; artifacts/constants.py)
values       what carries each value of the ONNX graph, to find a wrong node (converter seaway; artifacts/carriers.py)
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from seaway.artifacts import onnx_model

FILE = "conversion.json"
CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2")
_NOT_COUNTED = ("Const", "Identity", "IdentityN", "NoOp", "Placeholder", "PartitionedCall", "StatefulPartitionedCall")


def make(model: Any, file: Path, saved_model: Path, net: Any) -> dict[str, Any]:
    """The report on a ModelProto, its file, and the SavedModel with the net converted from it."""
    before = Counter(node.op_type for node in onnx_model.nodes(model.graph))
    nodes = list(_reachable(saved_model))
    after = Counter(node.op for node in nodes)
    convolutions = [node for node in nodes if node.op in CONVOLUTIONS]
    report: dict[str, Any] = {
        "onnx": {
            "operators": dict(sorted(before.items())),
            "nodes": before.total(),
            "bytes": file.stat().st_size,
            "weights_bytes": sum(map(_bytes, model.graph.initializer)),
        },
        "saved_model": {
            "operators": dict(sorted(after.items())),
            "nodes": sum(count for op, count in after.items() if op not in _NOT_COUNTED),
            "bytes": sum(path.stat().st_size for path in saved_model.rglob("*") if path.is_file()),
            "convolutions": len(convolutions),
            "channels_last": sum(_channels_last(node) for node in convolutions),
            "transposes": after["Transpose"],
        },
    }
    if hasattr(net, "constants"):
        report |= {"folded": net.folded, "constants": [constant.to_json() for constant in net.constants]}
        report["values"] = {name: carrier.to_json() for name, carrier in net.values.items()}
    return report


def write(folder: Path, report: dict[str, Any]) -> None:
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in report.items())
    (folder / FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def line(report: dict[str, Any]) -> str:
    """The printed summary."""
    before, after = report["onnx"], report["saved_model"]
    facts = [f"{before['nodes']:,} nodes of ONNX became {after['nodes']:,} of TensorFlow"]
    if "folded" in report:
        facts.append(f"{report['folded']:,} constant-folded")
    if after["convolutions"]:
        facts.append(f"{after['channels_last']} of {after['convolutions']} convolutions channels last")
    facts.append(f"{after['transposes']} Transpose{'s' * (after['transposes'] != 1)} left")
    facts.append(f"{before['weights_bytes'] / 1e6:,.1f} MB of weights in {after['bytes'] / 1e6:,.1f} MB")
    return ", ".join(facts)


def _reachable(saved_model: Path) -> Iterator[Any]:
    """The nodes that `serving_default` needs, those of a function once."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes()).meta_graphs[0]
    bodies = {"": saved.graph_def.node} | {f.signature.name: f.node_def for f in saved.graph_def.library.function}
    nodes = {name: {node.name: node for node in body} for name, body in bodies.items()}
    wanted = {f.signature.name: [*f.ret.values(), *f.control_ret.values()] for f in saved.graph_def.library.function}
    pending = [("", info.name) for info in saved.signature_def["serving_default"].outputs.values()]
    seen: set[tuple[str, str]] = set()
    while pending:
        inside, tensor = pending.pop()
        name = tensor.removeprefix("^").partition(":")[0]
        if (inside, name) in seen or name not in nodes[inside]:  # a function's arguments are not nodes
            continue
        seen.add((inside, name))
        node = nodes[inside][name]
        yield node
        pending += [(inside, source) for source in node.input]
        pending += [(called, output) for called in _called(node) for output in wanted[called]]


def _called(node: Any) -> list[str]:
    values = node.attr.values()
    return [func.name for value in values for func in (value.func, *value.list.func) if func.name]


def _channels_last(node: Any) -> bool:
    """Whether a convolution runs channels last, which is TensorFlow's default."""
    return node.attr["data_format"].s in (b"", b"NHWC", b"NDHWC") if "data_format" in node.attr else True


def _bytes(weight: Any) -> int:
    kind = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
    return 0 if weight.data_type == onnx.TensorProto.STRING else math.prod(weight.dims) * int(kind.itemsize)
