"""Exports a wrapped net to an ONNX graph that keeps every weight unchanged, under its name in the state_dict."""

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.func import functional_call

from seaway.artifacts import artifact_metadata, golden, onnx_model
from seaway.artifacts.artifact_metadata import Tensor, Tolerance
from seaway.errors import ModelError
from seaway.export import control_flow, silence, symbolics, tolerance, translations, wrap
from seaway.export.inputs import Examples
from seaway.export.wrap import Wrapped
from seaway.nets.user import summary
from seaway.onnxruntime_import import import_onnxruntime

# The first that can represent the net is used. 13 decomposes newer operators (HardSwish) into older ones that any
# converter supports; 15 supports scaled_dot_product_attention and is the last for onnx-tf; 16 sums repeated indices
# (scatter_add, index_add); 18 supports their minimum and maximum, and bitwise operators.
OPSETS = (13, 15, 16, 18)
TRACING, DYNAMO = "torchscript", "dynamo"
DYNAMO_OPSET = 20  # the first with affine_grid
# `--exporter` → the exporters that are tried, in order. Tracing is first: it is quicker and its graphs are older.
EXPORTERS = {"auto": (TRACING, DYNAMO), TRACING: (TRACING,), DYNAMO: (DYNAMO,)}
TITLES = {TRACING: "torch.onnx, TorchScript", DYNAMO: "torch.onnx, torch.export"}
AGREES = "gives the same outputs"  # a second opinion
MAX_BYTES = 2**31 - 2**20  # a protobuf message is limited to 2 GiB
_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\(\d+\)")
MAX_SHOWN = 8  # integers of one input in a message


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph that gives PyTorch's outputs. `refused`: exporters that were tried before, and why not theirs;
    `second_opinion`: what became of those that were tried after it; `weights`, `unused`: as of `weights`."""

    model: onnx.ModelProto
    exporter: str
    refused: dict[str, str]
    weights: dict[str, str]
    unused: list[str]
    second_opinion: dict[str, str]


def export_right(
    wrapped: Wrapped,
    calls: list[Examples],
    outputs: tuple[Tensor, ...],
    tolerances: dict[str, Tolerance],
    exporter: str = "auto",
    second_opinion: bool = False,
) -> Exported:
    """The first exporter's graph that holds on all calls. Raises ModelError with the first one's reason, and the
    second's. `second_opinion`: the exporters that were not needed are tried too."""
    refused: dict[str, str] = {}
    for name in EXPORTERS[exporter]:
        try:
            model = export(wrapped, calls[0], outputs, name)
            compare(model, wrapped, calls, tolerances)
            checksums, unused = weights(model, wrapped, calls[0])
            others = [other for other in EXPORTERS["auto"] if second_opinion and other not in (name, *refused)]
            opinions = {other: _opinion(wrapped, calls, outputs, tolerances, other) for other in others}
            return Exported(model, name, refused, checksums, unused, opinions)
        except control_flow.DataDependent:
            raise
        except ModelError as error:
            refused[name] = str(error)
    first, *others = dict.fromkeys(refused.values())
    raise ModelError(first + "".join(f" (and the torch.export exporter: {reason})" for reason in others))


def _opinion(
    wrapped: Wrapped,
    calls: list[Examples],
    outputs: tuple[Tensor, ...],
    tolerances: dict[str, Tolerance],
    exporter: str,
) -> str:
    """Whether this exporter's graph also gives PyTorch's outputs; if not, why."""
    try:
        compare(export(wrapped, calls[0], outputs, exporter), wrapped, calls, tolerances)
    except ModelError as error:
        return str(error)
    return AGREES


def export(
    wrapped: Wrapped, examples: Examples, outputs: tuple[Tensor, ...], exporter: str = TRACING
) -> onnx.ModelProto:
    """The checked ONNX graph, whose batch and open sizes are dynamic. Raises ModelError."""
    size = sum(tensor.nbytes for tensor in wrapped.state_dict().values())
    if size > MAX_BYTES:
        raise ModelError(
            f"the model's weights take {size / 2**30:.1f} GiB, but an ONNX file is limited to 2 GiB: use a "
            "smaller model"
        )
    inputs = wrap.tensors(wrap.batch_of(examples, 2) if wrapped.inputs.batch else examples)
    names = [tensor.name for tensor in outputs]
    if exporter == DYNAMO:
        model = _export_program(wrapped, inputs, names)
    else:
        with control_flow.listening() as notes:
            model = _trace(wrapped, inputs, outputs)
        control_flow.check(wrapped, inputs, notes)
    _undo_deduplication(model.graph)
    _restore_names(model.graph, wrapped)
    _declare(model.graph, wrapped, outputs)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    return model


def _declare(graph: onnx.GraphProto, wrapped: Wrapped, outputs: tuple[Tensor, ...]) -> None:
    """Sets the shapes of inputs and outputs: exporters may declare fixed sizes that the nodes do not need."""
    del graph.value_info[:]
    by_name = {value.name: value for value in graph.input}
    tensors = wrapped.inputs.tensors
    if by_name.keys() - {tensor.name for tensor in tensors}:
        raise ModelError(f"the exported graph has the inputs {', '.join(by_name)}, which forward() does not have")
    missing = [tensor for tensor in tensors if tensor.name not in by_name]
    for tensor in missing:  # forward() does not use it
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        by_name[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, dtype, None)
    ordered = [by_name[tensor.name] for tensor in tensors]
    for value, tensor, names in zip(ordered, tensors, wrapped.inputs.dynamic_axes(), strict=True):
        onnx_model.set_shape(value, tensor, names)
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in ordered]
    del graph.input[:]
    graph.input.extend(copies)
    for value, tensor in zip(graph.output, outputs, strict=True):
        onnx_model.set_shape(value, tensor, {0: "batch"} if wrapped.inputs.batch else {})


def weights(model: onnx.ModelProto, wrapped: Wrapped, examples: Examples) -> tuple[dict[str, str], list[str]]:
    """Checksums of the net's float weights (two elements or more) in the graph, and the names of unused ones.

    Of weights that share their storage, the graph contains only the first. Raises ModelError if a value in the graph
    differs from the net's, or a weight on which the outputs depend is missing.
    """
    graph = {tensor.name: tensor for tensor in model.graph.initializer}
    state = {k: v for k, v in wrapped.net.state_dict().items() if v.is_floating_point() and v.numel() > 1}
    initializers = {name: graph.get(name) or graph.get(f"net.{name}") for name in state}
    shared = {state[name].data_ptr() for name, tensor in initializers.items() if tensor is not None}
    missing = [name for name, tensor in initializers.items() if tensor is None and state[name].data_ptr() not in shared]
    checksums = {}
    for name, tensor in initializers.items():
        if tensor is None:
            continue
        checksums[tensor.name] = artifact_metadata.checksum(numpy_helper.to_array(tensor))
        if checksums[tensor.name] != artifact_metadata.checksum(state[name].numpy()):
            raise ModelError(
                f"the exported graph has different weights for {name} than the model: this is a bug in Seaway; "
                "please report it"
            )
    _check_unused(wrapped, examples, missing)
    return checksums, missing


def compare(model: onnx.ModelProto, wrapped: Wrapped, calls: list[Examples], tolerances: dict[str, Tolerance]) -> None:
    """Checks in ONNX Runtime that the graph gives PyTorch's outputs for all calls, and for other batches of the first.

    Raises ModelError.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised below, with advice
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no base class
        if missing := _NO_KERNEL.search(str(error)):
            half = tolerance.computes_in_half(wrapped)
            remedy = f" in {half}, in which the network computes; call .float() on it" if half else " for these types"
            raise ModelError(f"ONNX Runtime has no kernel for {missing[1]}{remedy}") from error
        raise ModelError(f"ONNX Runtime cannot load the exported graph: {summary(error)}") from error
    for examples in _varied(wrapped, calls):
        expected = wrap.run(wrapped, examples)
        try:
            outputs = session.run(list(expected), examples)
        except Exception as error:
            raise ModelError(
                f"the exported graph does not run for {_sizes(wrapped, examples)}, so forward() fixes a size: keep it "
                f"free with x.flatten(1) or x.shape[0] ({summary(error)})"
            ) from error
        for (name, reference), array in zip(expected.items(), outputs, strict=True):
            compared = golden.compare(array, reference, tolerances[name])
            if compared.wrong or compared.flipped:
                how = f"{compared.wrong} differ, by up to {compared.max_abs:.3g} (allowed {tolerances[name].abs:.3g})"
                if array.shape != reference.shape:
                    how = f"its shape is {list(array.shape)}, not {list(reference.shape)}"
                raise ModelError(
                    f"ONNX Runtime gives other {name} than PyTorch for {_sizes(wrapped, examples)}: {how}"
                    f"{_first_integers(wrapped, examples, array, reference, tolerances[name])}: {_reason(wrapped)}"
                )


def _varied(wrapped: Wrapped, calls: list[Examples]) -> Iterator[Examples]:
    if wrapped.inputs.batch:
        count = len(next(iter(calls[0].values())))
        yield from (wrap.batch_of(calls[0], batch) for batch in dict.fromkeys((1, 3, count)))
        yield from calls[1:]
    else:
        yield from calls


def _sizes(wrapped: Wrapped, examples: Examples) -> str:
    """The batch and the open sizes of a call, in words."""
    named: dict[str, int] = {}
    if wrapped.inputs.batch:
        named["batch"] = len(next(iter(examples.values())))
    for name, axes in wrapped.inputs.axes.items():
        sides = examples[name].shape[wrapped.inputs.batch :]
        named |= {axis: side for axis, side in zip(axes, sides, strict=True) if isinstance(axis, str)}
    return ", ".join(f"{name} {size}" for name, size in named.items()) or "the same inputs"


def _reason(wrapped: Wrapped) -> str:
    if half := tolerance.computes_in_half(wrapped):
        return f"the network computes in {half}, which each runtime rounds otherwise; call .float() on it"
    return "the graph does not do what forward() does; look for numbers or sizes that forward() reads out of tensors"


def _first_integers(
    wrapped: Wrapped, rows: Examples, outputs: np.ndarray, expected: np.ndarray, tolerance: Tolerance
) -> str:
    """The integer inputs of the first differing example, which are often the reason; "" without any."""
    if outputs.shape != expected.shape or not expected.ndim or len(expected) != len(next(iter(rows.values()))):
        return ""
    for row in range(len(expected) if wrapped.inputs.batch else 0):
        result = golden.compare(outputs[row : row + 1], expected[row : row + 1], tolerance)
        if result.wrong or result.flipped:
            integers = {name: array[row].ravel() for name, array in rows.items() if array.dtype.kind in "iu"}
            shown = (f"{name} {', '.join(map(str, numbers[:MAX_SHOWN]))}" for name, numbers in integers.items())
            return f", the first of them for {'; '.join(shown)}" if integers else ""
    return ""


def _check_unused(wrapped: Wrapped, examples: Examples, missing: list[str]) -> None:
    """Replaces those weights by NaN: the outputs must not change."""
    replaced = {f"net.{name}": torch.full_like(wrapped.net.state_dict()[name], torch.nan) for name in missing}
    if not replaced:
        return
    inputs = wrap.tensors(wrap.batch_of(examples, 1) if wrapped.inputs.batch else examples)
    with torch.no_grad():
        pairs = zip(wrapped(*inputs), functional_call(wrapped, replaced, inputs), strict=True)
    if not all(a.shape == b.shape and np.array_equal(a.numpy(), b.numpy(), equal_nan=True) for a, b in pairs):
        raise ModelError(
            f"of {', '.join(missing)}, forward() uses at least one that is not in the exported graph unchanged; "
            "use it in forward() directly, not through Python numbers or code that runs only once"
        )


def _trace(wrapped: Wrapped, inputs: tuple[torch.Tensor, ...], outputs: tuple[Tensor, ...]) -> onnx.ModelProto:
    names = [tensor.name for tensor in wrapped.inputs.tensors]
    dynamic = {name: axes for name, axes in zip(names, wrapped.inputs.dynamic_axes(), strict=True) if axes}
    for output in outputs:
        open_sides = {axis: f"{output.name}_{axis}" for axis, side in enumerate(output.shape) if side is None}
        dynamic |= {output.name: open_sides} if open_sides else {}
    unsupported = ""
    for opset in OPSETS:
        buffer = io.BytesIO()
        try:
            with torch.no_grad(), silence.discard_stderr(), symbolics.registered():
                torch.onnx.export(
                    wrapped,
                    inputs,
                    buffer,  # type: ignore[arg-type]
                    dynamo=False,
                    opset_version=opset,
                    input_names=names,
                    output_names=[output.name for output in outputs],
                    dynamic_axes=dynamic,
                    # In eval mode, PRESERVE keeps batch normalization separate from the convolution, and without
                    # folding weights stay unchanged: each can be found by its checksum at every later hop.
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                )
        except torch.onnx.errors.OnnxExporterError as error:
            unsupported = str(error).splitlines()[0].split(", try exporting with")[0].rstrip(".")
            continue
        except Exception as error:  # forward() has just run, so the exporter failed
            if "_M_range_check" in str(error):  # what it says of a packed sequence that nothing reads
                raise ModelError(
                    "the tracing exporter needs the outputs of a packed sequence: call pad_packed_sequence on them, "
                    "also where forward() only returns the state"
                ) from error
            raise ModelError(f"the model cannot be exported to ONNX opset {opset}: {summary(error)}") from error
        return onnx.load_from_string(buffer.getvalue())
    raise ModelError(f"the model cannot be exported to ONNX: {unsupported}; rewrite that operation with simpler ones")


def _export_program(wrapped: Wrapped, inputs: tuple[torch.Tensor, ...], outputs: list[str]) -> onnx.ModelProto:
    """By torch.export, which traces symbolically. Its optimizer, which is not used, would fold weights."""
    try:
        with torch.no_grad(), silence.discard_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own deprecations
            program = torch.onnx.export(
                wrapped,
                inputs,
                dynamo=True,
                opset_version=DYNAMO_OPSET,
                input_names=[tensor.name for tensor in wrapped.inputs.tensors],
                output_names=outputs,
                dynamic_shapes={"inputs": control_flow.dynamic_shapes(wrapped)},
                custom_translation_table=translations.table(),
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # torch.export raises many kinds; each means that it cannot export forward()
        raise ModelError(f"the model cannot be exported to ONNX opset {DYNAMO_OPSET}: {_cause(error)}") from error
    assert program is not None
    model = program.model_proto
    _strip(model.graph)
    return model


def _cause(error: BaseException) -> str:
    """The first of a chain of errors, of which the exporter raises long ones."""
    while error.__cause__ is not None:
        error = error.__cause__
    return summary(error)


def _strip(graph: onnx.GraphProto) -> None:
    """Removes notes with stack traces, which contain paths of this machine."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _strip(inner)


def _undo_deduplication(graph: onnx.GraphProto) -> None:
    """Undoes the exporter's sharing of equal tensors through Identity nodes, which hides weights' names."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in stored]:
        if node.output[0] in outputs:
            continue
        copy = graph.initializer.add()
        copy.CopyFrom(stored[node.input[0]])
        copy.name = node.output[0]
        graph.node.remove(node)


def _restore_names(graph: onnx.GraphProto, wrapped: Wrapped) -> None:
    """Renames `net.conv.weight` to `conv.weight`, unless another value has that name."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output)}
    prefixed = {f"net.{name}": name for name in wrapped.net.state_dict() if name not in taken}
    for tensor in graph.initializer:
        tensor.name = prefixed.get(tensor.name, tensor.name)
    onnx_model.rename(graph, prefixed)
