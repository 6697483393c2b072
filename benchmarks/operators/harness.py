"""One operator at one element type: exported by both exporters as Seaway does, run on every input, and compared."""

import functools
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from benchmarks.operators import values
from benchmarks.operators.cases import Case, Function, cases
from seaway.export import graph, silence, symbolics, translations, wrap

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
RELATIVE = {"float16": 4e-3, "float32": 1e-4, "float64": 1e-9}  # of the value, and of the largest one
EXAMPLE_BATCH = 2  # of the example that the exporters see
SAME, DIFFERS, CANNOT = "same", "differs", "cannot"
Inputs = dict[str, np.ndarray]
Run = Callable[[Inputs], np.ndarray]


@dataclass
class Outcome:
    """`kinds`: where it differs, kind of values → an example; `blame`: ONNX Runtime's, if ONNX's reference
    implementation computes from the same file what PyTorch does; `reason`: of CANNOT; `zeros`: 0 for -0 or reversed."""

    status: str = SAME
    reason: str = ""
    kinds: dict[str, str] = field(default_factory=dict)
    blame: list[str] = field(default_factory=list)
    zeros: bool = False


@dataclass
class Measured:
    """`saved_model`: the file that Seaway ships after conversion, where ONNX Runtime has PyTorch's outputs from it."""

    name: str
    dtype: str
    exporters: dict[str, Outcome] = field(default_factory=dict)
    saved_model: Outcome | None = None


class Calls(nn.Module):
    """A function as a module, with its inputs as graph.py's wrapper passes them."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


def measure(place: int, dtype: str) -> Measured:
    """The case at `place` of `cases()`; in a process of its own, which it may abort."""
    torch.set_num_threads(1)
    ONNXRegistry.from_torchlib = staticmethod(_registry)  # type: ignore[method-assign]
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), np.errstate(all="ignore"), wrap.plain_attention():
        warnings.simplefilter("ignore")
        return _measure(cases()[place], dtype)


_from_torchlib = functools.cache(ONNXRegistry.from_torchlib)


def _registry(opset_version: int) -> ONNXRegistry:
    """The exporter's own registry, which it builds again for each export: most of the time of a small one."""
    copy = ONNXRegistry()
    copy._opset_version = opset_version
    copy.functions = {name: list(functions) for name, functions in _from_torchlib(opset_version).functions.items()}
    return copy


def _measure(case: Case, dtype: str) -> Measured:
    function = case.make()
    module = Calls(function).eval()
    if dtype.startswith("float"):
        module.to(getattr(torch, dtype))
    examples = values.inputs(case.names, dtype or "int64", values.ORDINARY, EXAMPLE_BATCH)
    runs = list(expected(module, case.names, dtype or "int64"))
    result = Measured(case.name, dtype)
    files = {}
    for name, export in EXPORTS.items():
        model, reason = _attempt(export, module, examples)
        if model is None:
            result.exporters[name] = Outcome(CANNOT, reason)
            continue
        files[name] = model
        result.exporters[name] = compare_all(run_onnx(model), runs, reference(model))
    shipped = ships(result.exporters)
    if shipped:
        skipped = {values.DENORMALS, *result.exporters[shipped].kinds}
        result.saved_model = _compare_saved_model(files[shipped], [run for run in runs if run[0] not in skipped])
    return result


def _compare_saved_model(model: onnx.ModelProto, runs: list[tuple[str, Inputs, np.ndarray]]) -> Outcome:
    try:
        converted = run_tensorflow(model)
    except Exception as error:  # TensorFlow's errors share no base class
        return Outcome(CANNOT, first_line(error))
    return compare_all(converted, runs)


def ships(exporters: dict[str, Outcome]) -> str:
    """Which exporter's file `--exporter auto` ships; "" if neither: the first that is right on golden examples."""
    for name in graph.EXPORTERS["auto"]:
        outcome = exporters[name]
        if outcome.status != CANNOT and values.ORDINARY not in outcome.kinds:
            return name
    return ""


def expected(module: nn.Module, names: tuple[str, ...], dtype: str) -> Iterator[tuple[str, Inputs, np.ndarray]]:
    """Kind, inputs and PyTorch's output, without those that PyTorch refuses."""
    for kind, inputs in values.all_inputs(names, dtype):
        try:
            with torch.no_grad():
                output = module(*(torch.from_numpy(array.copy()) for array in inputs.values()))
        except (RuntimeError, IndexError):
            continue
        yield kind, inputs, output.numpy().copy()


def compare_all(run: Run, runs: list[tuple[str, Inputs, np.ndarray]], other: Run | None = None) -> Outcome:
    """`run`'s outputs beside the expected ones; `other` decides whom to blame."""
    outcome = Outcome()
    for kind, inputs, right in runs:
        if kind in outcome.kinds:
            continue
        try:
            actual = run(inputs)
        except Exception as error:  # each runtime has its own kinds
            outcome.kinds[kind] = f"cannot run: {first_line(error)}"
            continue
        difference = differs(actual, right, inputs)
        if difference:
            outcome.kinds[kind] = difference
            again = _quietly(other, inputs) if other else None
            if again is not None and not differs(again, right, inputs):
                outcome.blame.append(kind)
        elif right.dtype.kind == "f":
            outcome.zeros |= bool((np.signbit(actual) != np.signbit(right))[(actual == 0) & (right == 0)].any())
    outcome.status = DIFFERS if outcome.kinds else SAME
    return outcome


def differs(actual: np.ndarray, right: np.ndarray, inputs: Inputs) -> str:
    """The first difference in words; "" without any. NaN equals NaN, 0 equals -0, and floats may round otherwise."""
    if actual.dtype != right.dtype:
        return f"{actual.dtype} instead of {right.dtype}"
    if actual.shape != right.shape:
        return f"shape {list(actual.shape)} instead of {list(right.shape)}"
    if right.dtype.kind != "f":
        wrong = actual != right
    else:
        relative, finite = RELATIVE[right.dtype.name], np.abs(right[np.isfinite(right)])
        scale = max(float(finite.max(initial=0)) * relative, float(np.finfo(right.dtype).tiny))
        wrong = ~np.isclose(actual, right, rtol=relative, atol=scale, equal_nan=True)
    if not wrong.any():
        return ""
    place = tuple(np.argwhere(wrong)[0])
    shown = [f"{name} {array[place]:.6g}" for name, array in inputs.items() if array.shape == right.shape]
    return f"{', '.join(shown)}{': ' if shown else ''}{_number(right[place])}, not {_number(actual[place])}"


def _number(value: Any) -> str:
    return str(bool(value)) if value.dtype == bool else f"{value:.6g}"


def first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _attempt(export: Callable[..., Any], module: nn.Module, examples: Inputs) -> tuple[Any, str]:
    try:
        with torch.no_grad(), silence.discard_stderr():
            model = export(module, examples)
    except Exception as error:  # the exporters raise many kinds
        return None, first_line(error)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return None, f"not valid ONNX: {first_line(error)}"
    try:
        run_onnx(model)
    except Exception as error:
        return None, f"ONNX Runtime: {first_line(error)}"
    return model, ""


def trace(module: nn.Module, examples: Inputs) -> onnx.ModelProto:
    """As seaway.export.graph does it."""
    buffer = io.BytesIO()
    with symbolics.registered():
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in examples.values()),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=graph.OPSET,
            input_names=list(examples),
            output_names=["output"],
            dynamic_axes={name: {0: "batch"} for name in examples},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def export_program(module: nn.Module, examples: Inputs) -> onnx.ModelProto:
    """As seaway.export.graph does it."""
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module,
        tuple(torch.from_numpy(array) for array in examples.values()),
        dynamo=True,
        opset_version=graph.OPSET,
        input_names=list(examples),
        output_names=["output"],
        dynamic_shapes={"inputs": tuple({0: batch} for _ in examples)},
        custom_translation_table=translations.table(),
        optimize=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


EXPORTS: dict[str, Callable[[nn.Module, Inputs], onnx.ModelProto]] = {
    graph.TRACING: trace,
    graph.DYNAMO: export_program,
}


def run_onnx(model: onnx.ModelProto) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    return lambda inputs: session.run(None, {k: v for k, v in inputs.items() if k in taken})[0]  # type: ignore[no-any-return]


def reference(model: onnx.ModelProto) -> Run:
    """ONNX's own implementation in Python, made at the first call."""
    from onnx.reference import ReferenceEvaluator

    taken = {value.name for value in model.graph.input}
    return lambda inputs: ReferenceEvaluator(model).run(None, {k: v for k, v in inputs.items() if k in taken})[0]  # type: ignore[no-any-return]


def run_tensorflow(model: onnx.ModelProto) -> Run:
    """Seaway's converter, as the SavedModel's function with a dynamic batch."""
    from seaway import tensorflow_import

    tensorflow_import.import_tensorflow()
    import tensorflow as tf

    from seaway.convert.native import net

    converted = net.convert(model)
    specs = {
        value.name: tf.TensorSpec(
            [None if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim],
            tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
        )
        for value in model.graph.input
    }
    function = tf.function(lambda inputs: converted(inputs), input_signature=[specs], autograph=False)
    output = model.graph.output[0].name
    return lambda inputs: function({name: tf.constant(inputs[name]) for name in specs})[output].numpy()  # type: ignore[no-any-return]


def _quietly(run: Run, inputs: Inputs) -> np.ndarray | None:
    try:
        return run(inputs)
    except Exception:
        return None
