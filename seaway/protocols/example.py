"""Classify and regress of TensorFlow Serving: features as JSON → serialised tf.Examples; scores → results.

    {"signature_name"?, "context"?: {feature: value or list}, "examples": [{feature: value or list}, …]}

The signature's sole input "inputs" takes the examples as strings. Its outputs are "classes" and "scores", one or both,
or, to regress, "outputs". As in TensorFlow Serving the signature's method_name is ignored, because TensorFlow 2
writes tensorflow/serving/predict for every signature. tf.Example is encoded here by hand (`protobuf_wire`):

    Example    {Features features = 1}
    Features   {map<string, Feature> feature = 1}      an entry is {string key = 1; Feature value = 2}
    Feature    {oneof kind {BytesList = 1, FloatList = 2, Int64List = 3}}, each {repeated … value = 1}, numbers packed
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seaway.errors import InvalidInput
from seaway.protocols import jsonerrors, jsontensor, protobuf_wire, tensors
from seaway.protocols.calls import Signature

INPUT = "inputs"
CLASSES, SCORES, VALUES = "classes", "scores", "outputs"

_BYTES, _FLOATS, _INT64S = 1, 2, 3  # Feature's field of each kind
_KINDS = {_BYTES: "bytes", _FLOATS: "float", _INT64S: "int64"}


# ---- examples


def read_examples(document: Mapping[str, Any]) -> list[bytes]:
    """Each of "examples" merged with "context"; an example's own features win. Raises InvalidInput."""
    context = _features(document["context"]) if "context" in document else {}
    if "examples" not in document:
        raise InvalidInput("key 'examples' is expected and was not found")
    rows = document["examples"]
    if not isinstance(rows, list):
        raise InvalidInput(f"JSON Value: {jsonerrors.excerpt(document)} Expecting 'examples' value to be an list/array")
    if not rows:
        raise InvalidInput("'examples' value is an empty array")
    return [_example({**context, **_features(row)}) for row in rows]


def _features(value: Any) -> dict[str, bytes]:
    """Feature's name → serialised Feature; the last of equal names counts, and all must be valid."""
    if not isinstance(value, dict):
        raise InvalidInput(f"Example must be JSON object but got JSON {jsonerrors.json_type(value)}")
    pairs = jsontensor.pairs(value)
    return {name: _feature(name, entry if isinstance(entry, list) else [entry]) for name, entry in pairs}


def _feature(name: str, values: list[Any]) -> bytes:
    kind, elements = 0, []
    for value in values:
        element_kind, element = _element(name, value)
        if kind not in (0, element_kind):
            raise InvalidInput(f"Unexpected element type in feature: {name} expecting type: {_KINDS[kind]}")
        kind = element_kind
        elements.append(element)
    if not kind:
        return b""  # no values: a feature without a kind, which parsers treat as missing
    return protobuf_wire.encode(kind, _value_list(kind, elements))


def _element(name: str, value: Any) -> tuple[int, Any]:
    """The kind of list for a value, and the value as that list stores it. Integers beyond 64 bits arrive as floats."""
    if isinstance(value, bool):
        return _INT64S, int(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return _INT64S, value
        raise InvalidInput(f"Feature: {name} has uint64 element. Only int64 is supported.")
    if isinstance(value, float):
        return _FLOATS, value
    text = jsontensor.to_bytes(value)
    if text is not None:
        return _BYTES, text
    raise InvalidInput(f"Feature: {name} has element with unexpected JSON type: {jsonerrors.json_type(value)}")


def _value_list(kind: int, values: list[Any]) -> bytes:
    if kind == _BYTES:
        return b"".join(protobuf_wire.encode(1, value) for value in values)
    if kind == _INT64S:
        return protobuf_wire.encode(1, b"".join(map(protobuf_wire.varint, values)))
    with np.errstate(over="ignore"):
        return protobuf_wire.encode(1, np.array(values, "<f4").tobytes())


def _example(features: Mapping[str, bytes]) -> bytes:
    names = (name.encode("utf-8", "surrogateescape") for name in features)
    entries = (
        protobuf_wire.encode(1, name) + protobuf_wire.encode(2, feature)
        for name, feature in zip(names, features.values(), strict=True)
    )
    return protobuf_wire.encode(1, b"".join(protobuf_wire.encode(1, entry) for entry in entries))


# ---- signatures


def required_outputs(verb: str, signature: Signature) -> list[str]:
    """The outputs that classify or regress needs. Raises InvalidInput if the signature does not support the verb."""
    outputs = [tensor.name for tensor in signature.outputs]
    if len(signature.inputs) != 1:
        raise InvalidInput("Expected one input Tensor.")
    if verb == "regress" and len(outputs) != 1:
        raise InvalidInput("Expected one output Tensor.")
    if verb == "classify" and len(outputs) not in (1, 2):
        raise InvalidInput(f"Expected one or two output Tensors, found {len(outputs)}")
    tensor = signature.inputs[0]
    if tensor.name != INPUT:
        what = "regression" if verb == "regress" else "classification"
        raise InvalidInput(f'No {what} inputs found in SignatureDef: it takes "{tensor.name}"; call it with :predict')
    if tensor.dtype != tensors.STRING:
        raise InvalidInput(f'"{INPUT}" is of type {tensor.dtype} and takes no tf.Examples; call it with :predict')
    required = [name for name in ((VALUES,) if verb == "regress" else (CLASSES, SCORES)) if name in outputs]
    if not required and verb == "regress":
        raise InvalidInput(f"No regression outputs found in SignatureDef: it returns {', '.join(outputs)}")
    if not required:
        raise InvalidInput(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature has: {', '.join(outputs)}"
        )
    return required


# ---- results


def write_results(verb: str, outputs: Mapping[str, np.ndarray], count: int) -> bytes:
    """The body {"results": …}: for classify [[[label, score], …], …], for regress [value, …]. Raises InvalidInput."""
    results = regressions(outputs[VALUES], count) if verb == "regress" else classifications(outputs, count)
    return jsontensor.dump({"results": results})


def regressions(values: np.ndarray, count: int) -> Any:
    """[value, …]. Raises InvalidInput for values that are none of `count` examples."""
    if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != 1):
        raise InvalidInput(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(values.shape)}"
        )
    if len(values) != count:
        raise InvalidInput(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        raise InvalidInput(f"Expected output Tensor of DT_FLOAT.  Got: {tensors.dtype_name(values)}")
    return jsontensor.from_array(values.reshape(-1))


def classifications(outputs: Mapping[str, np.ndarray], count: int) -> list[list[list[Any]]]:
    """[[[label, score], …], …]; without "classes" the labels are "", without "scores" the scores 0.0."""
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    present = [(name, array) for name, array in ((CLASSES, classes), (SCORES, scores)) if array is not None]
    for name, array in present:
        if array.ndim != 2:
            raise InvalidInput(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        dtype, expected = tensors.dtype_name(array), tensors.STRING if name == CLASSES else "float32"
        if dtype != expected:
            raise InvalidInput(f"Expected {name} Tensor of {expected}. Got: {dtype}")
        if len(array) != count:
            raise InvalidInput(f"Expected {name} output batch size of {count}. Got: {len(array)}")
    if len({array.shape for _, array in present}) > 1:
        raise InvalidInput(
            f"Tensors class and score should match in dim_size(1). Got {[array.shape[1] for _, array in present]}"
        )
    shape = present[0][1].shape
    labels = [[""] * shape[1]] * shape[0] if classes is None else jsontensor.from_array(classes)
    numbers = [[0.0] * shape[1]] * shape[0] if scores is None else jsontensor.shortest(scores)
    return [list(map(list, zip(*row, strict=True))) for row in zip(labels, numbers, strict=True)]
