"""Exports a wrapped net to an ONNX graph that keeps every weight unchanged, under its name in the state_dict."""

import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import rnn

from seaway.artifacts import artifact_metadata, network_place, onnx_file, onnx_model
from seaway.artifacts.artifact_metadata import Tensor, Tolerance
from seaway.errors import InvalidInput, ModelError
from seaway.export import comparison, control_flow, model_file, silence, symbolics, translations, wrap
from seaway.export.inputs import Examples
from seaway.export.tolerance import Outputs
from seaway.export.wrap import Wrapped
from seaway.nets.user import summary

# PyTorch's own default. ONNX Runtime 1.32 does not run the Attention of opset 23 with every mask that PyTorch takes.
OPSET = 20
# Which onnx-tf supports; the first that can represent the net is used: 13 decomposes newer operators (HardSwish) into
# older ones that it supports, 15 has scaled_dot_product_attention.
ONNX_TF, ONNX_TF_OPSETS = "onnx-tf", (13, 15)
TRACING, DYNAMO = "torchscript", "dynamo"
EXPORTERS = {"auto": (DYNAMO, TRACING), TRACING: (TRACING,), DYNAMO: (DYNAMO,)}  # `--exporter` → which, in order
TITLES = {TRACING: "torch.onnx, TorchScript", DYNAMO: "torch.onnx, torch.export"}
AGREES = "gives the same outputs"  # a second opinion


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
    calls: list[tuple[Examples, Outputs]],
    outputs: tuple[Tensor, ...],
    tolerances: dict[str, Tolerance],
    folder: Path,
    *,
    exporter: str = "auto",
    converter: str = "",
    second_opinion: bool = False,
) -> Exported:
    """Writes the first exporter's graph that holds on all calls to `folder`.

    `calls`: inputs and PyTorch's outputs, which `outputs` describe. `second_opinion`: the exporters that were not
    needed are tried too. Raises ModelError with the reason of each.
    """
    order: tuple[str, ...] = EXPORTERS[exporter]
    opsets: tuple[int, ...] = (OPSET,)
    if converter == ONNX_TF:
        order, opsets = (TRACING,), ONNX_TF_OPSETS
        if exporter == DYNAMO:
            raise InvalidInput(
                f"--exporter {DYNAMO} writes opset {OPSET}, but {ONNX_TF} supports opsets up to {opsets[-1]}; "
                f"use --exporter {TRACING}, or --converter seaway"
            )

    def attempt(name: str, folder: Path) -> onnx.ModelProto:
        export(wrapped, calls[0][0], outputs, folder, name, opsets)
        comparison.compare(folder, wrapped, calls, tolerances)
        return onnx_file.read(folder / model_file.MODEL)

    refused: dict[str, str] = {}
    for name in order:
        try:
            model = attempt(name, folder)
            checksums, unused = weights(model, wrapped, calls[0][0])
        except control_flow.DataDependent:
            raise
        except ModelError as error:
            refused[name] = str(error)
            continue
        others = [other for other in EXPORTERS["auto"] if second_opinion and other not in (name, *refused)]
        return Exported(model, name, refused, checksums, unused, {other: _opinion(attempt, other) for other in others})
    # The tracing exporter's reason is the clearer one, often with a line of the user's code.
    first, *rest = dict.fromkeys(refused[name] for name in reversed(order))
    raise ModelError(first + "".join(f" (and the torch.export exporter: {reason})" for reason in rest))


def _opinion(attempt: Callable[[str, Path], onnx.ModelProto], exporter: str) -> str:
    """Whether this exporter's graph also gives PyTorch's outputs; if not, why."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            attempt(exporter, Path(folder))
        except ModelError as error:
            return str(error)
    return AGREES


def export(
    wrapped: Wrapped,
    examples: Examples,
    outputs: tuple[Tensor, ...],
    folder: Path,
    exporter: str = DYNAMO,
    opsets: tuple[int, ...] = (OPSET,),
) -> onnx.ModelProto:
    """Writes the checked ONNX graph, whose batch and open sizes are dynamic, to `folder`; returns it.

    `opsets`: of the tracing exporter; the first that can represent the net. Raises ModelError.
    """
    inputs = wrap.tensors(wrap.batch_of(examples, 2) if wrapped.inputs.batch else examples)
    names = [tensor.name for tensor in outputs]
    if exporter == DYNAMO:
        model = _export_program(wrapped, inputs, names)
    else:
        with control_flow.listening() as notes:
            model = _trace(wrapped, inputs, outputs, opsets)
        control_flow.check(wrapped, inputs, notes)
    _undo_deduplication(model.graph, wrapped)
    _restore_names(model.graph, wrapped)
    _declare(model.graph, wrapped, outputs)
    path = model_file.write(model, folder)
    try:
        onnx.checker.check_model(str(path), full_check=True)
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
        checksums[tensor.name] = artifact_metadata.checksum(onnx_file.array(tensor))
        if checksums[tensor.name] != artifact_metadata.checksum(state[name].numpy()):
            raise ModelError(
                f"the exported graph has different weights for {name} than the model: this is a bug in Seaway; "
                "please report it"
            )
    _check_unused(wrapped, examples, missing)
    return checksums, missing


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


def _trace(
    wrapped: Wrapped, inputs: tuple[torch.Tensor, ...], outputs: tuple[Tensor, ...], opsets: tuple[int, ...]
) -> onnx.ModelProto:
    size = sum(tensor.nbytes for tensor in wrapped.state_dict().values())
    if size > model_file.MAX_BYTES:
        raise ModelError(f"the tracing exporter writes up to 2 GiB, but the weights take {size / 2**30:.1f} GiB")
    names = [tensor.name for tensor in wrapped.inputs.tensors]
    dynamic = {name: axes for name, axes in zip(names, wrapped.inputs.dynamic_axes(), strict=True) if axes}
    for output in outputs:
        open_sides = {axis: f"{output.name}_{axis}" for axis, side in enumerate(output.shape) if side is None}
        dynamic |= {output.name: open_sides} if open_sides else {}

    def at(opset: int) -> onnx.ModelProto:
        buffer = io.BytesIO()
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
                # In eval mode, PRESERVE keeps batch normalization separate from the convolution, and without folding
                # weights stay unchanged: each can be found by its checksum at every later hop.
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
            )
        model = onnx.load_from_string(buffer.getvalue())
        del model.graph.output[len(outputs) :]  # those of _padded
        return model

    unsupported = ""
    for opset in opsets:
        try:
            try:
                return at(opset)
            except RuntimeError as error:
                if "_M_range_check" not in str(error):  # what it says of a packed sequence that nothing reads
                    raise
                with _padded(wrapped):
                    return at(opset)
        except torch.onnx.errors.OnnxExporterError as error:
            unsupported = str(error).splitlines()[0].split(", try exporting with")[0].rstrip(".")
        except Exception as error:  # forward() has just run, so the exporter failed
            raise ModelError(f"the model cannot be exported to ONNX opset {opset}: {summary(error)}") from error
    newer = "" if OPSET in opsets else f", or use --converter seaway, for which Seaway exports opset {OPSET}"
    raise ModelError(
        f"the model cannot be exported to ONNX: {unsupported}; rewrite that operation with simpler ones{newer}"
    )


@contextmanager
def _padded(wrapped: Wrapped) -> Iterator[None]:
    """Inside, `wrapped` also returns each packed sequence that a recurrent layer returns, padded."""
    sequences: list[torch.Tensor] = []

    def collect(layer: nn.Module, inputs: Any, returned: Any) -> None:
        if isinstance(returned[0], rnn.PackedSequence):
            sequences.append(rnn.pad_packed_sequence(returned[0])[0])

    handles = [layer.register_forward_hook(collect) for layer in wrapped.modules() if isinstance(layer, nn.RNNBase)]
    handles.append(wrapped.register_forward_hook(lambda module, inputs, returned: (*returned, *sequences)))
    handles.append(wrapped.register_forward_pre_hook(lambda module, inputs: sequences.clear()))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _export_program(wrapped: Wrapped, inputs: tuple[torch.Tensor, ...], outputs: list[str]) -> onnx.ModelProto:
    """By torch.export, which traces symbolically. Its optimizer, which is not used, would fold weights."""

    def export(shapes: tuple[dict[int, Any], ...]) -> onnx.ModelProto:
        program = torch.onnx.export(
            wrapped,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in wrapped.inputs.tensors],
            output_names=outputs,
            dynamic_shapes={"inputs": shapes},
            custom_translation_table=translations.table(),
            optimize=False,
            verbose=False,
        )
        assert program is not None
        return program.model_proto

    shapes = control_flow.dynamic_shapes(wrapped)
    try:
        with torch.no_grad(), silence.discard_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own deprecations
            model = export(shapes)
            if _fixes_a_size(model.graph, wrapped):
                # Named sizes must be free of conditions, which those of a net that works in chunks are not: torch.onnx
                # then fixes them. These may have conditions, which the comparison at other sizes proves harmless. If
                # there is no such graph, the size may be fixed where it is declared alone.
                with suppress(Exception):
                    model = export(tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in shapes))
    except Exception as error:  # torch.export raises many kinds; each means that it cannot export forward()
        raise ModelError(f"the model cannot be exported to ONNX opset {OPSET}: {_cause(error)}") from error
    _strip(model.graph)
    return model


def _fixes_a_size(graph: onnx.GraphProto, wrapped: Wrapped) -> bool:
    """Whether an open size of an input is fixed in the exported graph."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    axes = zip(wrapped.inputs.tensors, wrapped.inputs.dynamic_axes(), strict=True)
    return any(
        dims[tensor.name][axis].HasField("dim_value") for tensor, names in axes if tensor.name in dims for axis in names
    )


def _cause(error: BaseException) -> str:
    """The first of a chain of errors, of which the exporter raises long ones."""
    while error.__cause__ is not None:
        error = error.__cause__
    return summary(error)


def _strip(graph: onnx.GraphProto) -> None:
    """Removes notes with stack traces, which contain paths of this machine, but for each node's place in the net."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if isinstance(part, onnx.NodeProto):
            network_place.shorten_notes(part)
        else:
            del part.metadata_props[:]
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _strip(inner)


def _undo_deduplication(graph: onnx.GraphProto, wrapped: Wrapped) -> None:
    """Undoes the exporter's sharing of equal tensors through Identity nodes, which hides weights' names; and removes
    what it writes for clone(), so that the weight itself is followed."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    weights = wrapped.state_dict().keys()
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in stored]:
        (name,) = node.output
        if name in outputs:
            continue
        if name in weights or f"net.{name}" in weights:
            copy = graph.initializer.add()
            copy.CopyFrom(stored[node.input[0]])
            copy.name = name
        else:
            onnx_model.rename(graph, {name: node.input[0]})
        graph.node.remove(node)


def _restore_names(graph: onnx.GraphProto, wrapped: Wrapped) -> None:
    """Renames `net.conv.weight` to `conv.weight`, unless another value has that name; of names that share a tensor, the
    exporter may keep any: it gets the first."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output)}
    stored = {initializer.name for initializer in graph.initializer}
    first: dict[tuple[Any, ...], str] = {}  # the name of each tensor that is not stored under it
    prefixed = {}
    for name, tensor in wrapped.net.state_dict().items():
        key = tensor.data_ptr(), tensor.shape, tensor.stride()
        if f"net.{name}" not in stored:
            first.setdefault(key, name)
            continue
        new = first.pop(key, name)
        if new not in taken:
            prefixed[f"net.{name}"] = new
    for initializer in graph.initializer:
        initializer.name = prefixed.get(initializer.name, initializer.name)
    onnx_model.rename(graph, prefixed)
