"""The examples are read back with protobuf's own parser, from tf.Example's definition as TensorFlow publishes it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput
from seaway.protocols import example, tfserving
from seaway.protocols.calls import ModelVersionInfo, RawRequest, Signature
from seaway.protocols.tensors import strings

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
from recordings import check_message, parameters

RAISED_BY_THE_GRAPH = {"reg-two-values", "regress-wrong-kind"}  # not by the protocol

STRING, FLOAT, INT64, MESSAGE = 9, 2, 3, 11
ONE, MANY = 1, 3


def example_class():
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name, *fields, into=file.message_type):
        descriptor = into.add(name=name)
        for number, (field, label, kind, of) in enumerate(fields, 1):
            descriptor.field.add(name=field, number=number, label=label, type=kind, type_name=of and f".t.{of}")
        return descriptor

    message("BytesList", ("value", MANY, 12, None))
    message("FloatList", ("value", MANY, FLOAT, None))
    message("Int64List", ("value", MANY, INT64, None))
    lists = [(f"{kind.lower()}_list", ONE, MESSAGE, f"{kind}List") for kind in ("Bytes", "Float", "Int64")]
    feature = message("Feature", *lists)
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", MANY, MESSAGE, "Features.FeatureEntry"))
    pair = (("key", ONE, STRING, None), ("value", ONE, MESSAGE, "Feature"))
    message("FeatureEntry", *pair, into=features.nested_type).options.map_entry = True
    message("Example", ("features", ONE, MESSAGE, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = example_class()


def decoded(content):
    """{feature: (kind, values)}, as protobuf reads it."""
    features = EXAMPLE.FromString(content).features.feature
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {name: (kind, list(getattr(features[name], kind).value) if kind else []) for name, kind in kinds.items()}


@pytest.mark.parametrize(
    "value, kind, values",
    [
        (1.5, "float_list", [1.5]),
        ([0.1, -2.0], "float_list", [float(np.float32(0.1)), -2.0]),
        ([1e300, float("inf")], "float_list", [float("inf")] * 2),
        (3, "int64_list", [3]),
        ([0, -1, 2**63 - 1, -(2**63), 300], "int64_list", [0, -1, 2**63 - 1, -(2**63), 300]),
        ([True, 0, False], "int64_list", [1, 0, 0]),
        ("ü", "bytes_list", ["ü".encode()]),
        (["", {"b64": "AP/+"}], "bytes_list", [b"", b"\0\xff\xfe"]),
        ("x" * 200, "bytes_list", [b"x" * 200]),
        ([], None, []),
    ],
)
def test_features(value, kind, values):
    (content,) = example.read_examples({"examples": [{"name": value}]})
    assert decoded(content) == {"name": (kind, values)}


def test_many_features_of_many_examples():
    first, second = example.read_examples({"examples": [{"a": 1, "b": [0.5], "ü": "c"}, {}]})
    assert decoded(first) == {"a": ("int64_list", [1]), "b": ("float_list", [0.5]), "ü": ("bytes_list", [b"c"])}
    assert decoded(second) == {}


def test_a_context_is_part_of_each_example_whose_own_features_win():
    first, second = example.read_examples({"context": {"a": 1, "c": 2}, "examples": [{"a": 9}, {"b": 3}]})
    assert decoded(first) == {"a": ("int64_list", [9]), "c": ("int64_list", [2])}
    assert decoded(second) == {"a": ("int64_list", [1]), "b": ("int64_list", [3]), "c": ("int64_list", [2])}


@pytest.mark.parametrize(
    "document, message",
    [
        ({}, "key 'examples' is expected"),
        ({"examples": {"x": 1}}, "to be an list/array"),
        ({"examples": []}, "is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{}, None]}, "got JSON Null"),
        ({"context": [], "examples": [{}]}, "got JSON Array"),
        ({"context": {"x": None}, "examples": [{}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": {"y": 1}}]}, "Feature: x has element with unexpected JSON type: Object"),
        ({"examples": [{"x": [10, 10.0]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": [10.0, 10]}]}, "expecting type: float"),
        ({"examples": [{"x": ["a", True]}]}, "expecting type: bytes"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64 element"),
        ({"examples": [{"x": {"b64": "#"}}]}, "Unable to base64 decode"),
    ],
)
def test_examples_that_cannot_be_read(document, message):
    with pytest.raises(InvalidInput, match=message):
        example.read_examples(document)


def test_of_equal_features_the_last_counts_and_all_are_read():
    body = b'{"context": {"c": 1, "c": 2}, "examples": [{}, {"x": 1.5, "y": [1], "x": "a"}], "examples": []}'
    first, second = example.read_examples(tfserving.read_predict(body).document)
    assert decoded(first) == {"c": ("int64_list", [2])}
    assert decoded(second) == {"c": ("int64_list", [2]), "x": ("bytes_list", [b"a"]), "y": ("int64_list", [1])}
    with pytest.raises(InvalidInput, match="Feature: x has element with unexpected JSON type: Null"):
        example.read_examples(tfserving.read_predict(b'{"examples": [{}, {"x": null, "x": 1}]}').document)


FEATURES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1),
    st.lists(st.text(), min_size=1),
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), FEATURES, max_size=4))
def test_protobuf_reads_what_was_written(features):
    (content,) = example.read_examples({"examples": [features]})
    kinds = {int: "int64_list", float: "float_list", str: "bytes_list"}
    expected = {
        name: (kinds[type(values[0])], [v.encode() if isinstance(v, str) else v for v in values])
        for name, values in features.items()
    }
    assert decoded(content) == expected


TEXTS = (Tensor("inputs", "str", (None,)),)


def outputs(*names):
    return tuple(Tensor(name, "float32", (None,)) for name in names)


@pytest.mark.parametrize(
    "verb, inputs, names, message",
    [
        ("regress", TEXTS * 2, ["outputs"], "Expected one input"),
        ("regress", TEXTS, ["outputs", "more"], "Expected one output"),
        ("regress", (Tensor("x", "float32", (None,)),), ["y"], "No regression inputs found in SignatureDef"),
        ("regress", (Tensor("inputs", "float32", (None,)),), ["outputs"], "takes no tf.Examples"),
        ("regress", TEXTS, ["scores"], "No regression outputs found"),
        ("classify", TEXTS * 2, ["scores"], "Expected one input"),
        ("classify", TEXTS, ["a", "b", "scores"], "Expected one or two output Tensors, found 3"),
        ("classify", (Tensor("x", "str", (None,)),), ["scores"], "No classification inputs found in SignatureDef"),
        ("classify", TEXTS, ["outputs"], 'at least one of "classes" or "scores"'),
    ],
)
def test_signatures_that_do_not_support_the_verb(verb, inputs, names, message):
    with pytest.raises(InvalidInput, match=message):
        example.required_outputs(verb, Signature(inputs, outputs(*names)))


@pytest.mark.parametrize(
    "verb, names, wanted",
    [
        ("regress", ["outputs"], ["outputs"]),
        ("classify", ["scores"], ["scores"]),
        ("classify", ["more", "classes"], ["classes"]),
        ("classify", ["scores", "classes"], ["classes", "scores"]),
    ],
)
def test_required_outputs(verb, names, wanted):
    assert example.required_outputs(verb, Signature(TEXTS, outputs(*names))) == wanted


F = np.float32
LABELS = strings([b"a", "ü".encode()], (1, 2))


@pytest.mark.parametrize(
    "verb, values, count, results",
    [
        ("regress", {"outputs": F([1.5, 0.1])}, 2, b"[1.5,0.1]"),
        ("regress", {"outputs": F([[3], [4]])}, 2, b"[3.0,4.0]"),
        ("regress", {"outputs": F([np.nan])}, 1, b"[NaN]"),
        ("classify", {"scores": F([[0.1, 2]])}, 1, b'[[["",0.1],["",2.0]]]'),
        ("classify", {"classes": LABELS}, 1, '[[["a",0.0],["ü",0.0]]]'.encode()),
        (
            "classify",
            {"classes": LABELS, "scores": F([[0.1, -np.inf]])},
            1,
            '[[["a", 0.1], ["ü", -Infinity]]]'.encode(),
        ),
        ("classify", {"scores": np.zeros((2, 0), F)}, 2, b"[[],[]]"),
    ],
)
def test_results(verb, values, count, results):
    written = example.write_results(verb, values, count)
    assert written.replace(b'"results": ', b'"results":') == b'{"results":' + results + b"}"


@pytest.mark.parametrize(
    "verb, values, message",
    [
        ("regress", {"outputs": F([[1, 2]])}, r"either \[batch_size\] or \[batch_size, 1\] but got \[1, 2\]"),
        ("regress", {"outputs": np.asarray(F(1))}, r"but got \[\]"),
        ("regress", {"outputs": F([1, 2])}, "did not match output batch size: 1 vs. 2"),
        ("regress", {"outputs": np.float64([1])}, "DT_FLOAT.  Got: float64"),
        ("classify", {"scores": F([1])}, r"\[batch_size num_classes\] but got \[1\]"),
        ("classify", {"scores": F([[1], [2]])}, "scores output batch size of 1. Got: 2"),
        ("classify", {"scores": np.int64([[1]])}, "Expected scores Tensor of float32. Got: int64"),
        ("classify", {"classes": F([[1]])}, "Expected classes Tensor of str. Got: float32"),
        ("classify", {"classes": LABELS, "scores": F([[1]])}, "should match in dim_size"),
    ],
)
def test_outputs_that_do_not_fit_results(verb, values, message):
    with pytest.raises(InvalidInput, match=message):
        example.write_results(verb, values, 1)


# ---- recorded responses of TensorFlow Serving


def x_over_2_plus_3(examples):
    """The recorded model, version 2: feature x, a float, or 0.0 if it is missing."""
    values = []
    for content in examples:
        _, feature = decoded(content).get("x", (None, []))
        values.append(feature[0] if feature else 0.0)
    return F([values]).T / 2 + 3


HALF = ModelVersionInfo("half", 2, "half/2@0", {
    "serving_default": Signature((Tensor("x", "float32", (None,)),), outputs("y")),
    "regress_x_to_y": Signature(TEXTS, outputs("outputs")),
    "classify_x_to_y": Signature(TEXTS, outputs("scores")),
})  # fmt: skip


def respond(verb, body):
    try:
        call = tfserving.read(RawRequest(verb, body), HALF)
        scores = x_over_2_plus_3(call.inputs["inputs"])
        return tfserving.write(call, dict.fromkeys(call.outputs, scores), HALF)
    except InvalidInput as error:
        return tfserving.error(error)


def is_classify_or_regress(recording):
    return recording.verb in ("classify", "regress") and recording.id not in RAISED_BY_THE_GRAPH


@pytest.mark.parametrize("recording", parameters(is_classify_or_regress))
def test_responses_match_tensorflow_serving(recording):
    reply = respond(recording.verb, recording.body)
    assert reply.status == recording.status, reply.body
    if reply.status == 200:
        assert repr(json.loads(reply.body)) == repr(json.loads(recording.text))  # of which NaN is equal, too
    else:
        check_message(recording, json.loads(reply.body)["error"])


def test_a_missing_feature_is_the_models_default():
    reply = respond("regress", b'{"signature_name": "regress_x_to_y", "examples": [{}, {"x": []}]}')
    assert reply.body == b'{"results":[3.0,3.0]}'


def test_a_body_is_checked_before_its_model_is_looked_up():
    tfserving.check(b'{"examples": [{}]}', "regress")
    with pytest.raises(InvalidInput, match="empty array"):
        tfserving.check(b'{"examples": []}', "regress")
    with pytest.raises(InvalidInput, match="empty array"):
        tfserving.read(RawRequest("regress", b'{"signature_name": "nope", "examples": []}'), HALF)
