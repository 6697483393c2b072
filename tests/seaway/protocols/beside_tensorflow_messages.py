"""Our message classes beside the real ones: TensorFlow 2.21, tensorflow-serving-api 2.21, tritonclient 2.73.

All of them are imported in this process, with the same names: ours are in a pool of their own.
"""

import numpy as np
import pytest
import tensorflow as tf
import tritonclient.grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2,
    regression_pb2,
)
from tritonclient.grpc import service_pb2

from seaway.errors import InvalidInput, Unsupported
from seaway.protocols import messages, protobuf_wire, tensorproto

REAL = [
    (predict_pb2.PredictRequest, {"predict_streamed_options", "client_id", "request_options"}),
    (predict_pb2.PredictResponse, set()),
    (classification_pb2.ClassificationRequest, set()),
    (classification_pb2.ClassificationResponse, set()),
    (regression_pb2.RegressionRequest, set()),
    (regression_pb2.RegressionResponse, set()),
    (inference_pb2.MultiInferenceRequest, set()),
    (inference_pb2.MultiInferenceResponse, set()),
    (get_model_metadata_pb2.GetModelMetadataRequest, set()),
    (get_model_metadata_pb2.GetModelMetadataResponse, set()),
    (get_model_metadata_pb2.SignatureDefMap, set()),
    (get_model_status_pb2.GetModelStatusRequest, set()),
    (get_model_status_pb2.GetModelStatusResponse, set()),
    (service_pb2.ServerLiveResponse, set()),
    (service_pb2.ServerReadyResponse, set()),
    (service_pb2.ModelReadyRequest, set()),
    (service_pb2.ModelReadyResponse, set()),
    (service_pb2.ServerMetadataResponse, set()),
    (service_pb2.ModelMetadataRequest, set()),
    (service_pb2.ModelMetadataResponse, set()),
    (service_pb2.ModelInferRequest, set()),
    (service_pb2.ModelInferResponse, set()),
]
LEFT_OUT = {"resource_handle_val", "variant_val", "float8_val", "composite_tensor"}
OURS_ALONE = {"properties"}  # of KServe's ModelMetadataResponse


def fields(descriptor, left_out, seen=()):
    """Each field below a message: path → number, kind, whether it is repeated, and its oneof."""
    found = {}
    for field in descriptor.fields:
        if field.name in left_out | LEFT_OUT | OURS_ALONE:
            continue
        oneof = field.containing_oneof.name if field.containing_oneof else ""
        found[field.name] = (field.number, field.type, field.is_repeated, oneof)
        inner = field.message_type
        if inner and inner.full_name not in seen:
            below = fields(inner, left_out, (*seen, inner.full_name))
            found |= {f"{field.name}.{path}": value for path, value in below.items()}
    return found


@pytest.mark.parametrize(("real", "left_out"), REAL, ids=lambda value: getattr(value, "__name__", ""))
def test_fields_are_those_of_the_real_messages(real, left_out):
    ours = messages.message(real.DESCRIPTOR.full_name)
    assert ours is not real
    # StatusProto's code is an enum there, of the same wire format
    expected = {path: value for path, value in fields(real.DESCRIPTOR, left_out).items() if "error_code" not in path}
    assert {p: v for p, v in fields(ours.DESCRIPTOR, set()).items() if "error_code" not in p} == expected


def test_types_have_tensorflows_numbers():
    for value in tensorproto.DataType.values:
        assert types_pb2.DataType.Value(value.name) == value.number


def test_services_have_the_real_methods():
    for name, real in (
        ("tensorflow.serving.PredictionService", prediction_service_pb2.DESCRIPTOR.services_by_name),
        ("inference.GRPCInferenceService", service_pb2.DESCRIPTOR.services_by_name),
    ):
        ours = messages.POOL.FindServiceByName(name)
        methods = real[name.rpartition(".")[2]].methods_by_name
        for method in ours.methods:
            assert method.input_type.full_name == methods[method.name].input_type.full_name
            assert method.output_type.full_name == methods[method.name].output_type.full_name


# ---- tensors

TYPES = ["float32", "float64", "int32", "uint8", "int16", "int8", "int64", "uint16", "float16", "uint32", "uint64"]


def example(dtype, shape):
    numbers = np.random.default_rng(0).normal(size=shape) * 50
    return np.asarray(numbers).astype(dtype) if dtype != "bool" else np.asarray(numbers > 0)


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4), (1, 28, 28, 1)], ids=str)
@pytest.mark.parametrize("dtype", [*TYPES, "bool", "complex64", "complex128"])
def test_tensors_are_read_and_written_as_tensorflow_does(dtype, shape):
    array = example(dtype, shape)
    written = tf.make_ndarray(tensor_pb2.TensorProto.FromString(tensorproto.write(array, "x")))
    read = tensorproto.read(tf.make_tensor_proto(array).SerializeToString(), "x")
    for other in (written, read, tensorproto.read(tensorproto.write(array, "x"), "x")):
        assert (other.dtype, other.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(other, array)


def test_responses_have_the_fields_that_clients_read():
    assert list(tensor_pb2.TensorProto.FromString(tensorproto.write(np.float32([1, 2]), "x")).float_val) == [1, 2]
    assert list(tensor_pb2.TensorProto.FromString(tensorproto.write(np.int64([-1, 2]), "x")).int64_val) == [-1, 2]
    strings = tensor_pb2.TensorProto.FromString(tensorproto.write(np.array([b"a", b"\xff"], object), "x"))
    assert list(strings.string_val) == [b"a", b"\xff"]


@pytest.mark.parametrize("dtype", TYPES)
def test_the_last_number_is_repeated(dtype):
    proto = tf.make_tensor_proto(np.asarray(3, dtype), shape=[2, 2])
    np.testing.assert_array_equal(tensorproto.read(proto.SerializeToString(), "x"), np.full((2, 2), 3, dtype))
    empty = tensor_pb2.TensorProto(dtype=proto.dtype, tensor_shape=proto.tensor_shape)
    np.testing.assert_array_equal(tensorproto.read(empty.SerializeToString(), "x"), tf.make_ndarray(empty))


def test_typed_fields_and_strings():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT8, int_val=[1, -2])
    proto.tensor_shape.dim.add(size=2)
    np.testing.assert_array_equal(tensorproto.read(proto.SerializeToString(), "x"), np.int8([1, -2]))
    strings = tf.make_tensor_proto(np.array([[b"a"], [b"\xff\0"]], object)).SerializeToString()
    assert tensorproto.read(strings, "x").tolist() == [[b"a"], [b"\xff\0"]]


def broken(**fields):
    proto = tensor_pb2.TensorProto(dtype=fields.pop("dtype", types_pb2.DT_FLOAT))
    for size in fields.pop("shape", ()):
        proto.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(proto, name).extend(value)
        else:
            setattr(proto, name, value)
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("serialised", "said"),
    [
        (broken(shape=[2], float_val=[1, 2, 3]), "needs 2 elements, but got 3"),
        (broken(shape=[2], tensor_content=b"123"), "needs 8 bytes of data, but got 3"),
        (broken(shape=[-1], float_val=[1]), "send the actual sizes"),
        (broken(shape=[1] * 33, float_val=[1]), "33 dimensions"),
        (broken(shape=[1 << 40], float_val=[1]), "more than"),
        (broken(dtype=types_pb2.DT_INT8, shape=[1], int_val=[300]), "outside the range of int8"),
        (broken(dtype=types_pb2.DT_RESOURCE), "DT_RESOURCE, which is not supported"),
        (broken(dtype=types_pb2.DT_BFLOAT16, shape=[1], half_val=[1]), "DT_BFLOAT16, which is not supported"),
        (b"\x12\x02\x18\x01\x08\x01", "unknown rank"),
        (b"\x0a", "cut off"),
        (b"\x00", "number 0"),
    ],
)
def test_broken_tensors_are_refused(serialised, said):
    with pytest.raises((InvalidInput, Unsupported), match=said) as raised:
        tensorproto.read(serialised, "input 'x'")
    assert raised.value.status == 400


# ---- wire


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_invalid(data):
    """What the scan accepts, protobuf's parser need not; but nothing else than InvalidInput is raised."""
    try:
        found = list(protobuf_wire.fields(data))
    except InvalidInput:
        return
    assert all(0 < number < 1 << 29 for number, _ in found)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), st.text(max_size=20), st.lists(st.binary(max_size=9)))
def test_fields_are_those_that_protobuf_wrote(name, version, signature, blocks):
    request = service_pb2.ModelInferRequest(model_name=name, id=signature, raw_input_contents=blocks)
    request.parameters["n"].int64_param = version
    without, taken = protobuf_wire.take_out(request.SerializeToString(), 7)
    assert [bytes(block) for block in taken] == blocks
    del request.raw_input_contents[:]
    assert service_pb2.ModelInferRequest.FromString(without) == request
    assert protobuf_wire.varint(version) == protobuf_wire.varint(version + 2**64)


def test_reflection_gives_complete_files():
    files = messages.files("tensorflow.serving.PredictionService", by_symbol=True)
    pool = descriptor_pool.DescriptorPool()
    waiting = {file.name: file for file in map(descriptor_pb2.FileDescriptorProto.FromString, files)}
    while waiting:
        ready = [name for name, file in waiting.items() if not waiting.keys() & set(file.dependency)]
        for name in ready:
            pool.Add(waiting.pop(name))
    assert pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]
    with pytest.raises(KeyError):
        messages.files("nothing.Here", by_symbol=True)


def test_clients_beside_ours_still_work():
    tensor = tritonclient.grpc.InferInput("x", [1], "FP32")
    tensor.set_data_from_numpy(np.float32([1]))
    assert tensor.name() == "x"
