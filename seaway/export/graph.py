"""From a wrapped net to an ONNX graph that keeps every weight whole, under the name it has in the net's state_dict."""

import io

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.func import functional_call

from seaway.artifacts import card as cards
from seaway.artifacts import golden
from seaway.artifacts.card import Tolerance
from seaway.errors import ModelError
from seaway.export import control_flow, quiet, symbolics, wrap
from seaway.export.inputs import OUTPUTS
from seaway.export.wrap import Wrapped
from seaway.nets.user import summary
from seaway.ort import import_onnxruntime

# The first that can say what the net does. 13 spells out newer operators (HardSwish) in older ones that any converter
# knows; 15 has what scaled_dot_product_attention needs and is the last that onnx-tf reads; 16 adds up repeated indices
# (scatter_add, index_add); 18 takes extremes of them and has bitwise operators.
OPSETS = (13, 15, 16, 18)
# torch.onnx's newer exporter starts at opset 18 and renames and folds weights; this one does as it is told.
EXPORTER = "torch.onnx, TorchScript"
LARGEST = 2**31 - 2**20  # a protobuf ends at 2 GiB
SHOWN = 8  # integers of one input in a message


def export(wrapped: Wrapped, examples: dict[str, np.ndarray], classes: int) -> onnx.ModelProto:
    """The checked ONNX graph with a free batch. Raises ModelError."""
    size = sum(tensor.nbytes for tensor in wrapped.state_dict().values())
    if size > LARGEST:
        raise ModelError(
            f"the net's weights take {size / 2**30:.1f} GiB, and one ONNX file ends at 2 GiB: use a smaller net"
        )
    inputs = wrap.tensors(wrap.batch_of(examples, 2))
    with control_flow.listening() as notes:
        model = _trace(wrapped, inputs)
    control_flow.settle(wrapped, inputs, notes)
    _undo_deduplication(model.graph)
    _restore_names(model.graph, wrapped)
    for output in model.graph.output:
        sizes = output.type.tensor_type.shape
        del sizes.dim[:]
        sizes.dim.add().dim_param = "batch"
        sizes.dim.add().dim_value = classes
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    return model


def weights(
    model: onnx.ModelProto, wrapped: Wrapped, examples: dict[str, np.ndarray]
) -> tuple[dict[str, str], list[str]]:
    """Checksums of the net's float weights (two elements or more) in the graph, and the names of those unused.

    Of weights that share their storage, the graph holds the first alone.
    Raises ModelError where the graph's values are not the net's, or one is missing that the outputs depend on.
    """
    graph = {tensor.name: tensor for tensor in model.graph.initializer}
    state = {k: v for k, v in wrapped.net.state_dict().items() if v.is_floating_point() and v.numel() > 1}
    kept = {name: graph.get(name) or graph.get(f"net.{name}") for name in state}
    shared = {state[name].data_ptr() for name, tensor in kept.items() if tensor is not None}
    absent = [name for name, tensor in kept.items() if tensor is None and state[name].data_ptr() not in shared]
    found = {}
    for name, tensor in kept.items():
        if tensor is None:
            continue
        found[tensor.name] = cards.checksum(numpy_helper.to_array(tensor))
        if found[tensor.name] != cards.checksum(state[name].numpy()):
            raise ModelError(f"the exported graph holds other values than the net for {name}; report this with the net")
    _check_unused(wrapped, examples, absent)
    return found, absent


def compare(
    model: onnx.ModelProto, wrapped: Wrapped, examples: dict[str, np.ndarray], tolerances: dict[str, Tolerance]
) -> None:
    """Proves in ONNX Runtime that the graph answers as PyTorch, at other batches than traced. Raises ModelError."""
    count = len(next(iter(examples.values())))
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised below, with what to do
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no base class
        raise ModelError(f"ONNX Runtime does not load the exported graph: {summary(error)}") from error
    for batch in dict.fromkeys((1, 3, count)):
        rows = wrap.batch_of(examples, batch)
        expected = wrap.run(wrapped, rows)
        try:
            got = session.run(list(OUTPUTS), rows)
        except Exception as error:
            raise ModelError(
                f"the exported graph runs at batch 2 but not at batch {batch}, so forward() fixes a size: keep the "
                f"batch free with x.flatten(1) or x.shape[0] ({summary(error)})"
            ) from error
        for name, array in zip(OUTPUTS, got, strict=True):
            result = golden.compare(array, expected[name], tolerances[name])
            if result.wrong or result.flipped:
                raise ModelError(
                    f"ONNX Runtime gives other {name} than PyTorch at batch {batch}: {result.wrong} examples "
                    f"differ, by up to {result.max_abs:.3g} (allowed {tolerances[name].abs:.3g})"
                    f"{_first_integers(rows, array, expected[name], tolerances[name])}: the graph does not do what "
                    "forward() does; look for numbers or sizes that forward() takes out of tensors"
                )


def _first_integers(rows: dict[str, np.ndarray], got: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> str:
    """Of the first example that differs its integer inputs, whose values are often the reason; "" without any."""
    for row in range(len(expected)):
        result = golden.compare(got[row : row + 1], expected[row : row + 1], tolerance)
        if result.wrong or result.flipped:
            integers = {name: array[row].ravel() for name, array in rows.items() if array.dtype.kind in "iu"}
            shown = (f"{name} {', '.join(map(str, numbers[:SHOWN]))}" for name, numbers in integers.items())
            return f", the first of them for {'; '.join(shown)}" if integers else ""
    return ""


def _check_unused(wrapped: Wrapped, examples: dict[str, np.ndarray], absent: list[str]) -> None:
    """Without those weights, that is with NaN in their place, the outputs must be as they are."""
    lost = {f"net.{name}": torch.full_like(wrapped.net.state_dict()[name], torch.nan) for name in absent}
    with torch.no_grad():
        logits = functional_call(wrapped, lost, wrap.tensors(wrap.batch_of(examples, 1)))[1] if lost else torch.zeros(1)
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"of {', '.join(absent)}, at least one is used by forward() but not in the exported graph as it is; "
            "use it in forward() directly, not through Python numbers or code that runs only once"
        )


def _trace(wrapped: Wrapped, inputs: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    names = [tensor.name for tensor in wrapped.inputs]
    unsupported = ""
    for opset in OPSETS:
        buffer = io.BytesIO()
        try:
            with torch.no_grad(), quiet.stderr(), symbolics.registered():
                torch.onnx.export(
                    wrapped,
                    inputs,
                    buffer,  # type: ignore[arg-type]
                    dynamo=False,
                    opset_version=opset,
                    input_names=names,
                    output_names=list(OUTPUTS),
                    dynamic_axes={name: {0: "batch"} for name in (*names, *OUTPUTS)},
                    # In eval mode, PRESERVE keeps batch normalisation apart from the convolution before it, and no
                    # folding keeps weights as they are: so each can be followed by its checksum at every later hop.
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                )
        except torch.onnx.errors.OnnxExporterError as error:
            unsupported = str(error).splitlines()[0].split(", try exporting with")[0].rstrip(".")
            continue
        except Exception as error:  # forward() has just run, so this is the exporter's own
            raise ModelError(f"the net cannot be exported to ONNX opset {opset}: {summary(error)}") from error
        return onnx.load_from_string(buffer.getvalue())
    raise ModelError(f"the net cannot be exported to ONNX: {unsupported}; write that operation with simpler ones")


def _undo_deduplication(graph: onnx.GraphProto) -> None:
    """The exporter stores equal tensors once, behind Identity nodes; a weight's name then leads to no weight."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in stored]:
        if node.output[0] in OUTPUTS:
            continue
        copy = graph.initializer.add()
        copy.CopyFrom(stored[node.input[0]])
        copy.name = node.output[0]
        graph.node.remove(node)


def _restore_names(graph: onnx.GraphProto, wrapped: Wrapped) -> None:
    """`net.conv.weight` becomes `conv.weight`, except where that is another value's name already."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output)}
    prefixed = {f"net.{name}": name for name in wrapped.net.state_dict() if name not in taken}
    for tensor in graph.initializer:
        tensor.name = prefixed.get(tensor.name, tensor.name)
    _rename_inputs(graph, prefixed)


def _rename_inputs(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:  # the branches of If and the bodies of Loop see the outer names
            for inner in (attribute.g, *attribute.graphs):
                _rename_inputs(inner, names)
