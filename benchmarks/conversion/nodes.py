"""Claim: of ONNX's own tests of single operators, so many are right after conversion, saving and loading.

    python -m benchmarks.conversion.nodes [--only NAME] [--converter seaway|onnx-tf] [--failures failures.txt]

onnx.backend.test has them, each with a model, inputs and expected outputs; the tolerances are its own. Every test is
converted, written into a SavedModel (fifty of them into one, as signatures), loaded from there and called. What
TensorFlow has no types for is out of scope, named and counted by reason. No peer in the same run: pass --converter.
"""

import argparse
import collections
import itertools
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
TOGETHER = 50

# Element types that TensorFlow lacks, or has without kernels to convert, compare or store them.
FOREIGN_TYPES = ("FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2")
# What is in scope and not right, by parts of the tests' names.
KNOWN = {
    "attention_3d_causal_bf16": "differs in the last bit of a half, which is more than ONNX's tolerance of 0.1 %",
    "attention_4d_attn_mask_causal_bf16": "as above",
    "attention_4d_causal_bf16": "as above",
    "attention_4d_causal_fp16": "as above",
    "attention_4d_causal_padded_kv_bf16": "as above",
    "attention_4d_gqa_with_past_and_present_fp16": "as above",
    "attention_4d_padded_kv_bf16": "as above",
    "causal_conv_with_state_silu_fp16": "as above",
    "celu_bfloat16": "as above",
    "training_dropout": "wants the draws of numpy's generator",
    "image_decoder_decode_jpeg2k": "TensorFlow reads no JPEG 2000",
    "image_decoder_decode_tiff": "TensorFlow reads no TIFF",
    "image_decoder_decode_pnm": "TensorFlow reads no PNM",
    "maxunpool_export_with_output_shape": "expects another output than ONNX Runtime gives",
    "resize_downsample_scales_linear_align_corners": "as above",
    "resize_downsample_scales_cubic_align_corners": "as above",
}
DRAWN = ("bernoulli", "randomuniform", "randomnormal", "multinomial")  # no two draws are alike: shapes and types alone


@dataclass(frozen=True, slots=True)
class Result:
    """`said` is empty where the test passed."""

    name: str
    said: str


def cases(only: str = "") -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in load_model_tests(kind="node") if only in case.name]


def out_of_scope(model: Any) -> str:
    """Why a model is none that can be carried over; "" for one that can."""
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign:
        return f"operators of the domain {', '.join(foreign)}"
    optional = sorted({node.op_type for node in model.graph.node if node.op_type.startswith("Optional")})
    if optional:
        return f"optional values ({', '.join(optional)})"
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            return f"a {value.type.WhichOneof('value').removesuffix('_type')} as input or output"
        name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        if name.startswith(FOREIGN_TYPES):
            return f"element type {name.lower()}"
    return ""


def run(given: Sequence[Any], convert: Callable[[Any], Any], saved: bool = True) -> Iterator[Result]:
    """The results of the tests that are in scope; `saved`: through SavedModels."""
    rest = iter(given)
    while group := list(itertools.islice(rest, TOGETHER)):
        yield from _group(group, convert, saved)


def _group(group: Sequence[Any], convert: Callable[[Any], Any], saved: bool) -> Iterator[Result]:
    import tensorflow as tf

    module, functions = tf.Module(), {}
    module.nets = []
    for number, case in enumerate(group):
        try:
            net = convert(case.model)
            functions[f"test_{number}"] = _function(net, case.model)
            module.nets.append(net)
        except Exception as error:  # whatever it is, it is this test's result
            yield Result(case.name, _line(error))
    with tempfile.TemporaryDirectory() as folder:
        if saved and functions:
            tf.saved_model.save(module, folder, signatures=functions)
            loaded = tf.saved_model.load(folder).signatures
            functions = {name: loaded[name] for name in functions}
        for name, function in functions.items():
            case = group[int(name.removeprefix("test_"))]
            yield Result(case.name, _compared(case, function))


def _function(net: Any, model: Any) -> Any:
    """A concrete function of inputs in_0, in_1 … and outputs out_0, out_1 …: not every name of a test can be an
    argument's."""
    import tensorflow as tf

    names = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]

    def call(**given: Any) -> dict[str, Any]:
        got = net({name: given[f"in_{i}"] for i, name in enumerate(names)})
        return {f"out_{i}": got[name] for i, name in enumerate(outputs)}

    specs = {f"in_{i}": _spec(value, f"in_{i}") for i, value in enumerate(model.graph.input)}
    return tf.function(call, autograph=False).get_concrete_function(**specs)


def _spec(value: Any, name: str) -> Any:
    import tensorflow as tf

    kind = value.type.tensor_type
    text = kind.elem_type == onnx.TensorProto.STRING
    dtype = tf.string if text else tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    return tf.TensorSpec(sizes if kind.HasField("shape") else None, dtype, name)


def _compared(case: Any, function: Any) -> str:
    import tensorflow as tf

    try:
        for inputs, expected in case.data_sets:
            given = {f"in_{i}": _fed(_array(value)) for i, value in enumerate(inputs)}
            got = function(**given)
            for i, wanted in enumerate(expected):
                _same(np.asarray(got[f"out_{i}"].numpy()), _array(wanted), case)
    except (AssertionError, tf.errors.OpError, ValueError) as error:
        return _line(error)
    return ""


def _array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _fed(array: np.ndarray) -> Any:
    import tensorflow as tf

    if array.dtype.kind not in "OSU":
        return tf.constant(array)
    return tf.constant([_bytes(text) for text in array.reshape(-1)], tf.string, array.shape)


def _same(got: np.ndarray, wanted: np.ndarray, case: Any) -> None:
    text = wanted.dtype.kind in "OSU"
    assert got.shape == wanted.shape, f"shape {got.shape}, not {wanted.shape}"
    if text:
        assert [_bytes(t) for t in got.reshape(-1)] == [_bytes(t) for t in wanted.reshape(-1)], "other strings"
        return
    assert got.dtype == wanted.dtype, f"type {got.dtype}, not {wanted.dtype}"
    if any(word in case.name for word in DRAWN):
        return
    if got.dtype.kind in "fV":
        got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_allclose(got, wanted, rtol=case.rtol, atol=case.atol)


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.nodes")
    parser.add_argument("--only", default="", help="tests with this in their names")
    parser.add_argument("--converter", default="seaway")
    parser.add_argument("--failures", type=Path, help="where to write what failed, and why")
    given = parser.parse_args()
    from seaway import quiet

    quiet.import_tensorflow()
    from benchmarks.tables import table
    from seaway.convert.convert import CONVERTERS

    every = cases(given.only)
    scope = {case.name: out_of_scope(case.model) for case in every}
    inside = [case for case in every if not scope[case.name]]
    failed = []
    for number, result in enumerate(run(inside, CONVERTERS[given.converter]), 1):
        failed += [result] if result.said else []
        if number % TOGETHER == 0 and sys.stderr.isatty():
            print(f"\r{number} of {len(inside)}, {len(failed)} failed", end="", file=sys.stderr)
    reasons = collections.Counter(reason for reason in scope.values() if reason)
    print(f"onnx {onnx.__version__}, {given.converter}: {len(inside) - len(failed)} of {len(inside)} right\n")
    print(table(["out of scope", "tests"], [[reason, count] for reason, count in reasons.most_common()]))
    for result in failed:
        print(f"{result.name}: {result.said}", file=given.failures.open("a") if given.failures else sys.stdout)


if __name__ == "__main__":
    main()
