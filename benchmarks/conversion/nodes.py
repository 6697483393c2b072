"""Claim: how many of ONNX's own tests of single operators pass after conversion, saving and loading.

    python -m benchmarks.conversion.nodes [--only NAME] [--converter seaway|onnx-tf] [--failures failures.txt]

onnx.backend.test has them, each with a model, inputs, expected outputs and tolerances. Every test is converted, written
into a SavedModel (fifty tests per SavedModel, as signatures), loaded and called. Tests with types that TensorFlow lacks
are out of scope, and counted by reason. One converter per run: pass --converter.
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
GROUP_SIZE = 50

# Element types that TensorFlow lacks, or cannot convert, compare or store.
UNSUPPORTED_TYPES = ("FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2")
# Known failures in scope, by parts of the tests' names.
KNOWN_FAILURES = {
    "attention_3d_causal_bf16": "expects a Softmax with each step rounded to a half, which is less accurate",
    "attention_4d_attn_mask_causal_bf16": "as above",
    "attention_4d_causal_bf16": "as above",
    "attention_4d_causal_fp16": "as above",
    "attention_4d_causal_padded_kv_bf16": "as above",
    "attention_4d_padded_kv_bf16": "as above",
    "training_dropout": "expects the numbers of numpy's generator, the same at each call",
    "image_decoder_decode_jpeg2k": "TensorFlow does not read JPEG 2000",
    "maxunpool_export_with_output_shape": "expects another output than ONNX Runtime's",
    "resize_downsample_scales_linear_align_corners": "as above",
    "resize_downsample_scales_cubic_align_corners": "as above",
}
RANDOM = ("bernoulli", "randomuniform", "randomnormal", "multinomial")  # only shapes and types are compared


@dataclass(frozen=True, slots=True)
class Result:
    """`error` is empty if the test passed."""

    name: str
    error: str


def cases(only: str = "") -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in load_model_tests(kind="node") if only in case.name]


def out_of_scope(model: Any) -> str:
    """Why a model is out of scope; "" if it is in scope."""
    other_domains = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx", "ai.onnx.ml"})
    if other_domains:
        return f"operators of the domain {', '.join(other_domains)}"
    optional = sorted({node.op_type for node in model.graph.node if node.op_type.startswith("Optional")})
    if optional:
        return f"optional values ({', '.join(optional)})"
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            return f"a {value.type.WhichOneof('value').removesuffix('_type')} as input or output"
        name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        if name.startswith(UNSUPPORTED_TYPES):
            return f"element type {name.lower()}"
    return ""


def run(selected: Sequence[Any], convert: Callable[[Any], Any], saved: bool = True) -> Iterator[Result]:
    """The results of the selected tests; `saved`: through SavedModels."""
    rest = iter(selected)
    while group := list(itertools.islice(rest, GROUP_SIZE)):
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
        except Exception as error:  # any error is this test's result
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
    """A concrete function with inputs in_0, in_1 … and outputs out_0, out_1 …, because not all names in the tests are
    valid argument names."""
    import tensorflow as tf

    names = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]

    def call(**arguments: Any) -> dict[str, Any]:
        results = net({name: arguments[f"in_{i}"] for i, name in enumerate(names)})
        return {f"out_{i}": results[name] for i, name in enumerate(outputs)}

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
            arguments = {f"in_{i}": _tensor(_array(value)) for i, value in enumerate(inputs)}
            results = function(**arguments)
            for i, value in enumerate(expected):
                _assert_same(np.asarray(results[f"out_{i}"].numpy()), _array(value), case)
    except (AssertionError, tf.errors.OpError, ValueError) as error:
        return _line(error)
    return ""


def _array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _tensor(array: np.ndarray) -> Any:
    import tensorflow as tf

    if array.dtype.kind not in "OSU":
        return tf.constant(array)
    return tf.constant([_bytes(text) for text in array.reshape(-1)], tf.string, array.shape)


def _assert_same(actual: np.ndarray, expected: np.ndarray, case: Any) -> None:
    text = expected.dtype.kind in "OSU"
    assert actual.shape == expected.shape, f"shape {actual.shape}, not {expected.shape}"
    if text:
        assert [_bytes(t) for t in actual.reshape(-1)] == [_bytes(t) for t in expected.reshape(-1)], "other strings"
        return
    assert actual.dtype == expected.dtype, f"type {actual.dtype}, not {expected.dtype}"
    if any(word in case.name for word in RANDOM):
        return
    if actual.dtype.kind in "fV":
        actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(actual, expected, rtol=case.rtol, atol=case.atol)


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.nodes")
    parser.add_argument("--only", default="", help="only tests with this in their name")
    parser.add_argument("--converter", default="seaway")
    parser.add_argument("--failures", type=Path, help="a file for the failures and their errors")
    arguments = parser.parse_args()
    from seaway import tensorflow_import

    tensorflow_import.import_tensorflow()
    from benchmarks.tables import table
    from seaway.convert.convert import CONVERTERS

    all_cases = cases(arguments.only)
    scope = {case.name: out_of_scope(case.model) for case in all_cases}
    in_scope = [case for case in all_cases if not scope[case.name]]
    failed = []
    for number, result in enumerate(run(in_scope, CONVERTERS[arguments.converter]), 1):
        failed += [result] if result.error else []
        if number % GROUP_SIZE == 0 and sys.stderr.isatty():
            print(f"\r{number} of {len(in_scope)}, {len(failed)} failed", end="", file=sys.stderr)
    reasons = collections.Counter(reason for reason in scope.values() if reason)
    print(f"onnx {onnx.__version__}, {arguments.converter}: {len(in_scope) - len(failed)} of {len(in_scope)} passed\n")
    print(table(["out of scope", "tests"], [[reason, count] for reason, count in reasons.most_common()]))
    for result in failed:
        print(f"{result.name}: {result.error}", file=arguments.failures.open("a") if arguments.failures else sys.stdout)


if __name__ == "__main__":
    main()
