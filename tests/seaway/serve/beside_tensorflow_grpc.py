"""gRPC with real clients: tensorflow-serving-api 2.21, tritonclient 2.73, and grpcio for bytes that neither sends."""

import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tritonclient.grpc
from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tritonclient.utils import InferenceServerException

from seaway.protocols import messages

PREDICT = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


@pytest.fixture(scope="module")
def tfs(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def triton(server):
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        yield client


def predict(model, signature="", output_filter=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def refused(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments, **{"timeout": TIMEOUT_S, **options})
    return raised.value.code().name, raised.value.details()


def raw(channel, path):
    """The method on bytes."""
    return channel.unary_unary(path, request_serializer=None, response_deserializer=None)


# ---- TensorFlow Serving


def test_predict(tfs):
    response, call = tfs.Predict.with_call(predict("half", x=np.float32([1, 2, 80])), timeout=TIMEOUT_S)
    assert list(response.outputs["y"].float_val) == [3.5, 4, 43]
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", 2)
    assert response.model_spec.signature_name == "serving_default"
    metadata = {pair.key: pair.value for pair in call.trailing_metadata()}
    assert metadata["seaway-model"].startswith("half/2@")
    assert metadata["seaway-backend"] == "savedmodel"
    assert metadata["x-request-id"]


def test_request_ids_and_traces_are_the_clients(server, tfs):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = (("x-request-id", "mine-1"), ("traceparent", trace))
    _, call = tfs.Predict.with_call(predict("half", x=[1.0]), timeout=TIMEOUT_S, metadata=sent)
    assert ("x-request-id", "mine-1") in [(pair.key, pair.value) for pair in call.trailing_metadata()]
    server.wait(lambda: any('"mine-1"' in line and trace.split("-")[1] in line for line in server.log))
    assert any('"mine-1"' in line and PREDICT in line and '"client": "127.0.0.1"' in line for line in server.log)


def test_versions_labels_and_signatures(tfs):
    request = predict("half", x=[1.0])
    request.model_spec.version.value = 2
    assert list(tfs.Predict(request, timeout=TIMEOUT_S).outputs["y"].float_val) == [3.5]
    request.model_spec.version_label = "stable"
    response = tfs.Predict(request, timeout=TIMEOUT_S)
    assert (list(response.outputs["y"].float_val), response.model_spec.version.value) == ([2.5], 1)
    assert list(tfs.Predict(predict("half", "twice", x=[4.0]), timeout=TIMEOUT_S).outputs["double"].float_val) == [8]


def test_several_inputs_and_outputs_and_the_filter(tfs):
    request = predict("multi", a=np.float32([[1, 2]]), b=np.int32([3]))
    outputs = tfs.Predict(request, timeout=TIMEOUT_S).outputs
    assert {name: tf.make_ndarray(tensor).tolist() for name, tensor in outputs.items()} == {
        "sum": [6],
        "label": [b"3"],
        "pair": [[6, -6]],
    }
    request.output_filter.append("pair")
    assert list(tfs.Predict(request, timeout=TIMEOUT_S).outputs) == ["pair"]


def test_every_type_both_ways(tfs):
    names = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
    sent = {f"in_{name}": np.array([[1, 2], [3, 4]], name) for name in names}
    sent["in_string"] = np.array([[b"a", b"\xff"], [b"", b"d"]], object)
    got = tfs.Predict(predict("every", **sent), timeout=TIMEOUT_S).outputs
    for name in names:
        array = tf.make_ndarray(got[f"out_{name}"])
        assert array.dtype == name
        np.testing.assert_array_equal(array, sent[f"in_{name}"])
    assert tf.make_ndarray(got["out_string"]).tolist() == sent["in_string"].tolist()
    for kind in ("bool",):
        assert tf.make_ndarray(tfs.Predict(predict("types", kind, x=[True, False])).outputs["y"]).tolist() == [0, 1]


def test_classify_regress_and_both(tfs):
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(80.0)
    classification = classification_pb2.ClassificationRequest()
    classification.model_spec.name, classification.model_spec.signature_name = "half", "classify_x_to_y"
    classification.input.example_list.examples.append(example)
    [row] = tfs.Classify(classification, timeout=TIMEOUT_S).result.classifications
    assert [(one.label, one.score) for one in row.classes] == [("", 43)]

    regression = regression_pb2.RegressionRequest()
    regression.model_spec.name, regression.model_spec.signature_name = "half", "regress_x_to_y"
    regression.input.example_list_with_context.context.CopyFrom(example)
    regression.input.example_list_with_context.examples.extend([tf.train.Example(), example])
    response = tfs.Regress(regression, timeout=TIMEOUT_S)
    assert [one.value for one in response.result.regressions] == [43, 43]
    assert response.model_spec.version.value == 2

    both = inference_pb2.MultiInferenceRequest(input=classification.input)
    both.tasks.add(model_spec=classification.model_spec, method_name="tensorflow/serving/classify")
    both.tasks.add(model_spec=regression.model_spec, method_name="tensorflow/serving/regress")
    first, second = tfs.MultiInference(both, timeout=TIMEOUT_S).results
    assert first.classification_result.classifications[0].classes[0].score == 43
    assert second.regression_result.regressions[0].value == 43
    assert second.model_spec.signature_name == "regress_x_to_y"

    assert refused(tfs.Regress, regression_pb2.RegressionRequest(model_spec=regression.model_spec)) == (
        "INVALID_ARGUMENT",
        "Input is empty.",
    )
    both.tasks[1].method_name = "tensorflow/serving/predict"
    assert refused(tfs.MultiInference, both)[0] == "UNIMPLEMENTED"
    both.tasks[1].CopyFrom(both.tasks[0])
    both.tasks[1].model_spec.signature_name = "missing"
    assert refused(tfs.MultiInference, both) == (
        "INVALID_ARGUMENT",
        "Requested signature not found in model graph: missing",
    )
    both.tasks[1].CopyFrom(both.tasks[0])
    assert refused(tfs.MultiInference, both) == (
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: classify_x_to_y",
    )


def test_metadata_and_status(server, tfs, channel):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half"
    response = tfs.GetModelMetadata(request, timeout=TIMEOUT_S)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    rest = server.get("/v1/models/half/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert definitions.signature_def.keys() == rest.keys()
    spec = definitions.signature_def["serving_default"].inputs["x"]
    assert (spec.dtype, [dim.size for dim in spec.tensor_shape.dim]) == (tf.float32.as_datatype_enum, [-1])
    assert refused(tfs.GetModelMetadata, get_model_metadata_pb2.GetModelMetadataRequest(model_spec=request.model_spec))[
        1
    ].startswith("GetModelMetadataRequest must specify")

    models = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    rows = models.GetModelStatus(request, timeout=TIMEOUT_S).model_version_status
    assert [(row.version, row.state, row.status.error_code) for row in rows] == [(2, 30, 0), (1, 30, 0)]
    request.model_spec.version.value = 9
    assert refused(models.GetModelStatus, request) == ("NOT_FOUND", "Could not find version 9 of model half")


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (predict("", x=[1.0]), "INVALID_ARGUMENT", "empty model name"),
        (predict("nope", x=[1.0]), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
        (predict("half"), "INVALID_ARGUMENT", "input size does not match signature: 0!=1"),
        (predict("half", x=[1.0], z=[1.0]), "INVALID_ARGUMENT", "Sent extra: {z}"),
        (predict("half", "zzz", x=[1.0]), "FAILED_PRECONDITION", 'Serving signature key "zzz" not found.'),
        (predict("half", x=np.float64([1])), "INVALID_ARGUMENT", "float64"),
        (predict("half", "", ["q"], x=[1.0]), "INVALID_ARGUMENT", "output tensor alias not found in signature: q"),
        (predict("half", "", ["y", "y"], x=[1.0]), "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    ],
)
def test_errors_of_predict(tfs, request_, code, said):
    found, details = refused(tfs.Predict, request_)
    assert (found, said in details) == (code, True), details


def test_an_unknown_label(tfs):
    request = predict("half", x=[1.0])
    request.model_spec.version_label = "zz"
    assert refused(tfs.Predict, request) == ("INVALID_ARGUMENT", "Unrecognized servable version label: zz")


def test_methods_that_do_not_exist(channel):
    path = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
    assert refused(raw(channel, path), b"")[0] == "UNIMPLEMENTED"


# ---- Open Inference Protocol


def infer_input(name, array):
    tensor = tritonclient.grpc.InferInput(name, array.shape, tritonclient.utils.np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def test_triton_client(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("half")
    assert triton.is_model_ready("half", "1")
    assert not_found(lambda: triton.is_model_ready("nope"))
    assert triton.get_server_metadata().name == "seaway"
    metadata = triton.get_model_metadata("multi")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("multi", ["7"], "tensorflow_savedmodel")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("a", "FP32", [-1, 2]),
        ("b", "INT32", [-1]),
    ]
    inputs = [infer_input("a", np.float32([[1, 2]])), infer_input("b", np.int32([3]))]
    result = triton.infer("multi", inputs, request_id="r-1")
    assert result.as_numpy("sum").tolist() == [6]
    assert result.as_numpy("label").tolist() == [b"3"]
    assert result.as_numpy("pair").tolist() == [[6, -6]]
    assert (result.get_response().id, result.get_response().model_version) == ("r-1", "7")
    only = triton.infer("multi", inputs, outputs=[tritonclient.grpc.InferRequestedOutput("pair")])
    assert [output.name for output in only.get_response().outputs] == ["pair"]
    best = triton.infer("multi", inputs, outputs=[tritonclient.grpc.InferRequestedOutput("pair", class_count=1)])
    assert best.as_numpy("pair").tolist() == [[b"6.0:0"]]
    twice = triton.infer("half", [infer_input("x", np.float32([4]))], parameters={"signature_name": "twice"})
    assert twice.as_numpy("double").tolist() == [8]


def not_found(call):
    with pytest.raises(InferenceServerException) as raised:
        call()
    return raised.value.status() == "StatusCode.NOT_FOUND"


def test_versions_and_labels_of_oip(triton):
    x = [infer_input("x", np.float32([1]))]
    assert triton.infer("half", x, model_version="1").as_numpy("y").tolist() == [2.5]
    assert triton.infer("half", x, model_version="canary").as_numpy("y").tolist() == [3.5]
    assert not_found(lambda: triton.infer("half", x, model_version="77"))


ModelInferRequest = messages.message("inference.ModelInferRequest")
ModelInferResponse = messages.message("inference.ModelInferResponse")


def infer(channel, **fields):
    """A request in the message's own words, as KServe's clients write it: typed contents."""
    call = raw(channel, "/inference.GRPCInferenceService/ModelInfer")
    return ModelInferResponse.FromString(call(ModelInferRequest(**fields).SerializeToString(), timeout=TIMEOUT_S))


def test_typed_contents_get_typed_contents(channel):
    tensors = [
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1, 2]}},
        {"name": "b", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [3]}},
    ]
    response = infer(channel, model_name="multi", inputs=tensors)
    contents = {output.name: output.contents for output in response.outputs}
    assert list(contents["sum"].fp32_contents) == [6]
    assert list(contents["label"].bytes_contents) == [b"3"]
    assert not response.raw_output_contents


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "the request names no model"),
        ({"model_name": "half"}, "no signature of half/2 takes 0 inputs"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1]}}]},
            "shape [2] needs 2 elements of data, but got 1",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"int_contents": [1]}}]},
            "is sent in fp32_contents, not in int_contents",
        ),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1]}]}, "x' is INT8, but serving_default takes FP32"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}], "raw_input_contents": [b"1", b"2"]},
            "raw_input_contents has 2 blocks for 1 inputs",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}], "raw_input_contents": [b"1234"]},
            "needs 8 bytes",
        ),
        (
            {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}],
                "raw_input_contents": [b"1234"],
            },
            "contents beside raw_input_contents",
        ),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}], "raw_input_contents": [b""]}, "none of them"),
    ],
)
def test_errors_of_infer(channel, fields, said):
    fields = {"model_name": "half", **fields} if fields else {}
    with pytest.raises(grpc.RpcError) as raised:
        infer(channel, **fields)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert said in raised.value.details()


# ---- health and reflection


def health(channel, service):
    call = raw(channel, "/grpc.health.v1.Health/Check")
    request = messages.message("grpc.health.v1.HealthCheckRequest")(service=service)
    response = messages.message("grpc.health.v1.HealthCheckResponse")
    return response.FromString(call(request.SerializeToString(), timeout=TIMEOUT_S)).status


def test_health(channel):
    for service in ("", "tensorflow.serving.PredictionService", "inference.GRPCInferenceService"):
        assert health(channel, service) == 1
    assert refused(raw(channel, "/grpc.health.v1.Health/Check"), b"\x0a\x01?")[0] == "NOT_FOUND"
    with pytest.raises(grpc.RpcError) as raised:
        next(channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a", timeout=TIMEOUT_S))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x01?", timeout=TIMEOUT_S)
    assert next(watch) == b"\x08\x03"
    watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(channel, version):
    package = f"grpc.reflection.{version}"
    request = messages.message(f"{package}.ServerReflectionRequest")
    response = messages.message(f"{package}.ServerReflectionResponse")
    asked = [
        request(list_services=""),
        request(file_containing_symbol="inference.GRPCInferenceService"),
        request(file_by_filename="nothing.proto"),
        request(all_extension_numbers_of_type="x"),
    ]
    call = channel.stream_stream(f"/{package}.ServerReflection/ServerReflectionInfo")
    services, file, missing, other = map(
        response.FromString, call(iter([one.SerializeToString() for one in asked]), timeout=TIMEOUT_S)
    )
    broken = channel.stream_stream(f"/{package}.ServerReflection/ServerReflectionInfo")(
        iter([b"\x0a"]), timeout=TIMEOUT_S
    )
    with pytest.raises(grpc.RpcError) as raised:
        next(broken)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    names = {service.name for service in services.list_services_response.service}
    assert names >= {"tensorflow.serving.PredictionService", "inference.GRPCInferenceService", "grpc.health.v1.Health"}
    [described] = map(
        descriptor_pb2.FileDescriptorProto.FromString, file.file_descriptor_response.file_descriptor_proto
    )
    assert described.service[0].name == "GRPCInferenceService"
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert other.error_response.error_code == grpc.StatusCode.UNIMPLEMENTED.value[0]


# ---- limits, deadlines, floods


def test_too_large_a_message(tfs):
    code, details = refused(tfs.Predict, predict("half", x=np.zeros(400_000, np.float32)))
    assert (code, "larger than max" in details) == ("RESOURCE_EXHAUSTED", True)


def test_a_compressed_message_that_is_too_large(tfs):
    """16 MB of zeros are 16 KB as gzip; the limit is for what they are in memory."""
    large = predict("half", x=np.zeros(4_000_000, np.float32))
    with pytest.raises(grpc.RpcError) as raised:
        tfs.Predict(large, timeout=TIMEOUT_S, compression=grpc.Compression.Gzip)
    assert raised.value.code().name == "RESOURCE_EXHAUSTED"
    small = predict("half", x=np.zeros(1000, np.float32))
    assert len(tfs.Predict(small, timeout=TIMEOUT_S, compression=grpc.Compression.Gzip).outputs["y"].float_val) == 1000


def test_a_deadline_frees_the_queue(server, tfs):
    slow = predict("hard", "slow", steps=np.int32([300_000]))
    waiting = [tfs.Predict.future(slow, timeout=0.3) for _ in range(5)]
    assert {call.exception(timeout=TIMEOUT_S).code().name for call in waiting} == {"DEADLINE_EXCEEDED"}
    assert list(tfs.Predict(predict("half", x=[1.0]), timeout=TIMEOUT_S).outputs["y"].float_val) == [3.5]
    server.wait(lambda: re.search(r"^seaway_queue_length 0(\.0)?$", server.metrics(), re.MULTILINE))


def test_a_cancelled_call(server, tfs):
    call = tfs.Predict.future(predict("hard", "slow", steps=np.int32([20_000])), timeout=TIMEOUT_S)
    time.sleep(0.1)
    call.cancel()
    assert call.cancelled()
    assert list(tfs.Predict(predict("half", x=[1.0]), timeout=TIMEOUT_S).outputs["y"].float_val) == [3.5]


def test_garbage_is_refused_and_nothing_is_lost(server, channel, tfs):
    random = np.random.default_rng(0)
    good = predict("half", x=[1.0]).SerializeToString()
    call = raw(channel, PREDICT)
    codes = set()
    for _ in range(300):
        broken = bytearray(good)
        for _ in range(random.integers(1, 4)):
            broken[random.integers(len(broken))] = random.integers(256)
        cut = bytes(broken[: random.integers(len(broken) + 1)]) if random.random() < 0.3 else bytes(broken)
        try:
            call(cut, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            codes.add(error.code().name)
    assert codes <= {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
    assert "INVALID_ARGUMENT" in codes
    assert list(tfs.Predict(predict("half", x=[1.0]), timeout=TIMEOUT_S).outputs["y"].float_val) == [3.5]
    assert "Traceback" not in "".join(server.log)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# HPACK: literal fields without indexing
def header(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEADERS = b"".join(
    header(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", PREDICT.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)
FLOODS = {
    "rapid reset": [frame(1, 4, 2 * n + 1, HEADERS) + frame(3, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(3000)],
    "settings": [frame(4, 0, 0, b"\0\x03\0\0\0\x64")] * 20_000,
    "ping": [frame(6, 0, 0, b"12345678")] * 20_000,
    "continuation": [frame(1, 0, 1, HEADERS), *[frame(9, 0, 1, header(b"x" * 100, b"y" * 100))] * 20_000],
    "window": [frame(8, 0, 0, b"\0\0\0\1")] * 20_000,
    "garbage": [os.urandom(1000)] * 20,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_end_their_connection_at_worst(server, tfs, kind):
    host, _, port = server.grpc.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as flooding:
        try:
            flooding.sendall(PREFACE + frame(4, 0, 0))
            for part in FLOODS[kind]:
                flooding.sendall(part)
        except OSError:
            pass  # the server has closed the connection
        assert list(tfs.Predict(predict("half", x=[1.0]), timeout=TIMEOUT_S).outputs["y"].float_val) == [3.5]
    assert server.process.poll() is None


def test_slow_messages_take_a_share_of_the_memory_at_most(start, models, tmp_path):
    """Clients that announce a large message and send nothing: a few are waited for, the others refused at once."""
    running = start(models, "--grpc-port", "0", "--max-body-bytes", "1000000", "--max-held-bytes", "8000000",
                    "--read-timeout-s", "3")  # fmt: skip
    running.wait_ready()
    refused_, done = [], threading.Event()

    def trickle():
        def message():
            done.wait(20)
            yield b""

        with grpc.insecure_channel(running.grpc) as own:
            try:
                own.stream_unary(PREDICT)(message(), timeout=20)
            except grpc.RpcError as error:
                refused_.append(error.code().name)

    threads = [threading.Thread(target=trickle) for _ in range(6)]
    for thread in threads:
        thread.start()
    with grpc.insecure_channel(running.grpc) as own:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(own)
        for _ in range(20):
            assert list(stub.Predict(predict("half", x=[1.0]), timeout=TIMEOUT_S).outputs["y"].float_val) == [3.5]
    for thread in threads:
        thread.join(30)
    done.set()
    assert sorted(refused_) == ["DEADLINE_EXCEEDED"] * 2 + ["RESOURCE_EXHAUSTED"] * 4


def test_draining_answers_what_is_in_flight(start, models):
    running = start(models, "--grpc-port", "0", "--drain-s", "1")
    running.wait_ready()
    with grpc.insecure_channel(running.grpc) as own:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(own)
        call = stub.Predict.future(predict("hard", "slow", steps=np.int32([5000])), timeout=TIMEOUT_S)
        time.sleep(0.2)
        watch = own.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=TIMEOUT_S)
        assert next(watch) == b"\x08\x01"
        stopping = threading.Thread(target=running.stop)
        stopping.start()
        assert next(watch) == b"\x08\x02"
        assert list(call.result(timeout=TIMEOUT_S).outputs["y"].float_val) == [5000]
        assert list(watch) == [], "it ends, or the server would wait for it"
        stopping.join()
    assert running.process.returncode == 0


def test_a_port_in_use_is_an_error_of_one_line(server, start, models, server_class):
    port = server.grpc.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "seaway.serve", "--model-repository", str(models), "--port", "0", "--grpc-port", port],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} for gRPC" in done.stderr
    assert "Traceback" not in done.stderr
