"""Traces of requests over HTTP and gRPC, as an OTLP receiver of the protocol's own message classes gets them."""

import contextlib
import gzip
import http.client
import itertools
import json
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest

from seaway.protocols import messages

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

EXAMPLES = Path(__file__).resolve().parents[3] / "seaway" / "example"
PREDICT, MODEL_INFER = "/v1/models/characters:predict", "/inference.GRPCInferenceService/ModelInfer"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
IMAGE = np.zeros((1, 28, 28, 1), np.float32)
BODY = json.dumps({"instances": IMAGE.tolist()})


class Collector:
    """An OTLP receiver over HTTP. It answers with `status`, each export after `delay_s`."""

    def __init__(self):
        self.exports, self.headers, self.status, self.delay_s = [], [], 200, 0.0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.headers.append(dict(self.headers))
                collector.exports.append(ExportTraceServiceRequest.FromString(body))
                time.sleep(collector.delay_s)
                with contextlib.suppress(OSError):
                    self.send_response(collector.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def resource(self):
        return values(self.exports[0].resource_spans[0].resource)

    def spans(self):
        return [
            span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def requests(self):
        return [span for span in self.spans() if span.kind == Span.SPAN_KIND_SERVER]

    def close(self):
        self.delay_s = 0.0
        self._server.shutdown()
        self._thread.join(10)
        self._server.socket.close()


@pytest.fixture
def collector():
    one = Collector()
    yield one
    one.close()


@pytest.fixture
def repository(tmp_path):
    """The example, and a version that cannot be loaded."""
    shutil.copytree(EXAMPLES, tmp_path / "models", ignore=lambda *_: ["seaway-example.json"])
    broken = tmp_path / "models" / "broken" / "1"
    (broken / "assets.extra").mkdir(parents=True)
    for file in ("saved_model.pb", "assets.extra/model.onnx"):
        (broken / file).write_bytes(b"not a model")
    return tmp_path / "models"


@pytest.fixture
def traced(start, collector, repository, monkeypatch):
    """Starts a server that exports its spans soon."""

    def begin(*options, **environment):
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        ends = () if "--otlp-endpoint" in options else ("--otlp-endpoint", collector.url)
        server = start(repository, "--backend", "onnx", "--grpc-port", "0", *ends, *options)
        server.wait(lambda: server.get("/v2/models/characters/ready").status == 200)
        server.wait(lambda: '"END"' in json.dumps(server.status()))  # by the admin port, which is not traced
        return server

    return begin


def values(holder):
    """Attributes of a span or resource, as Python values."""
    out = {}
    for one in holder.attributes:
        out[one.key] = getattr(one.value, one.value.WhichOneof("value"))
    return out


def infer_request(name="characters", version=""):
    request = messages.message("inference.ModelInferRequest")(model_name=name, model_version=version)
    tensor = request.inputs.add(name="image", datatype="FP32", shape=IMAGE.shape)
    tensor.contents.fp32_contents.extend(IMAGE.ravel().tolist())
    return request.SerializeToString()


def call(server, method, body, metadata=()):
    with grpc.insecure_channel(server.grpc, (("grpc.use_local_subchannel_pool", 1),)) as channel:
        return channel.unary_unary(method)(body, metadata=metadata, timeout=30)


def one_request(server, collector):
    server.wait(lambda: len(collector.requests()) >= 1, 20)
    [span] = collector.requests()
    return span


def test_a_prediction_over_http(traced, collector):
    server = traced("--pod", "pod-7")
    began = time.time_ns()
    reply = server.request("POST", PREDICT, BODY, {"traceparent": SAMPLED, "x-request-id": "mine"})
    ended = time.time_ns()
    assert (reply.status, reply.headers["traceparent"], reply.headers["x-request-id"]) == (200, SAMPLED, "mine")
    span = one_request(server, collector)
    assert span.name == "POST tfs:predict"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert began <= span.start_time_unix_nano < span.end_time_unix_nano <= ended
    assert values(span) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": PREDICT,
        "client.address": "127.0.0.1",
        "seaway.protocol": "tfs",
        "seaway.model": reply.headers["Seaway-Model"],
        "seaway.request_id": "mine",
        "seaway.pod": "pod-7",
    }
    queue, run = sorted((s for s in collector.spans() if s is not span), key=lambda s: s.start_time_unix_nano)
    assert (queue.name, run.name) == ("queue", "run")
    for child in (queue, run):
        assert (child.trace_id.hex(), child.parent_span_id) == (TRACE, span.span_id)
        assert child.kind == Span.SPAN_KIND_INTERNAL
    times = [span.start_time_unix_nano, queue.start_time_unix_nano, queue.end_time_unix_nano]
    times += [run.start_time_unix_nano, run.end_time_unix_nano, span.end_time_unix_nano]
    assert all(after - before > -1000 for before, after in itertools.pairwise(times)), times
    seconds = values(run)
    assert set(seconds) == {"seaway.parse_s", "seaway.compute_s", "seaway.write_s"}
    assert 0 < seconds["seaway.compute_s"] < (run.end_time_unix_nano - run.start_time_unix_nano) / 1e9
    assert collector.resource()["service.name"] == "seaway"
    assert server.stop() == 0


def test_a_prediction_over_grpc(traced, collector):
    server = traced()
    call(server, MODEL_INFER, infer_request(), (("traceparent", SAMPLED), ("x-request-id", "mine")))
    span = one_request(server, collector)
    assert span.name == MODEL_INFER[1:]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    found = values(span)
    assert found.pop("seaway.model").startswith("characters/1@")
    assert found == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "client.address": "127.0.0.1",
        "seaway.protocol": "oip-grpc",
        "seaway.request_id": "mine",
    }
    assert {s.name for s in collector.spans() if s.parent_span_id == span.span_id} == {"queue", "run"}


def test_errors(traced, collector):
    server = traced()
    assert server.get("/v2/models/none?key=secret").status == 404
    assert server.request("POST", "/v1/models/broken/versions/1:predict", BODY).status == 503
    codes = []
    for name, version in (("none", ""), ("broken", "1")):
        with pytest.raises(grpc.RpcError) as raised:
            call(server, MODEL_INFER, infer_request(name, version))
        codes.append(raised.value.code())
    assert codes == [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE]
    server.wait(lambda: len(collector.requests()) == 4, 20)
    spans = {}
    for span in collector.requests():
        found = values(span)
        spans[found.get("http.response.status_code", found.get("rpc.grpc.status_code"))] = span
    assert {code: span.status.code for code, span in spans.items()} == {
        404: Status.STATUS_CODE_UNSET,
        503: Status.STATUS_CODE_ERROR,
        grpc.StatusCode.NOT_FOUND.value[0]: Status.STATUS_CODE_UNSET,
        grpc.StatusCode.UNAVAILABLE.value[0]: Status.STATUS_CODE_ERROR,
    }
    assert values(spans[503])["error.type"] == "503"
    assert values(spans[14])["error.type"] == "UNAVAILABLE"
    assert (values(spans[404])["url.path"], "seaway.model" in values(spans[404])) == ("/v2/models/none", False)
    assert len({span.trace_id for span in spans.values()}) == 4  # a new trace each
    assert {span.parent_span_id for span in spans.values()} == {b""}


def test_requests_that_cannot_be_read(traced, collector):
    server = traced("--max-body-bytes", "1000")
    large = b"POST %b HTTP/1.1\r\ncontent-length: 1001\r\n\r\n" % PREDICT.encode()
    for sent in (large, b"neither\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(sent)
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 4")
    server.wait(lambda: len(collector.requests()) == 2, 20)
    first, second = sorted(collector.requests(), key=lambda span: -values(span)["http.response.status_code"])
    assert (first.name, values(first)["http.response.status_code"]) == ("POST tfs:predict", 413)
    assert (second.name, values(second)["http.response.status_code"]) == ("HTTP unknown", 400)


@pytest.mark.parametrize("invalid", [f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "nonsense"])
def test_an_invalid_parent_begins_a_new_trace(traced, collector, invalid):
    server = traced()
    assert server.request("POST", PREDICT, BODY, {"traceparent": invalid}).status == 200
    span = one_request(server, collector)
    assert (span.parent_span_id, span.trace_id.hex() == TRACE, span.trace_id == bytes(16)) == (b"", False, False)


def test_what_is_not_traced(traced, collector):
    """Unsampled requests, health checks, the page, and the admin port."""
    server = traced()
    assert server.request("POST", PREDICT, BODY, {"traceparent": UNSAMPLED}).status == 200
    call(server, MODEL_INFER, infer_request(), (("traceparent", UNSAMPLED),))
    paths = "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/characters/ready", "/docs"
    assert {server.get(path).status for path in paths} == {200}
    for method in ("ServerLive", "ServerReady"):
        call(server, f"/inference.GRPCInferenceService/{method}", b"")
    call(server, "/grpc.health.v1.Health/Check", b"")
    assert server.metrics()
    assert server.request("POST", PREDICT, BODY, {"x-request-id": "last"}).status == 200
    assert values(one_request(server, collector))["seaway.request_id"] == "last"


def test_the_environment_configures_the_rest(traced, collector):
    server = traced(
        OTEL_SERVICE_NAME="reader",
        OTEL_RESOURCE_ATTRIBUTES="team=letters",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20secret",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0",
        OTEL_BSP_MAX_QUEUE_SIZE="1000",
    )
    assert server.request("POST", PREDICT, BODY).status == 200  # which the sampler drops
    assert server.request("POST", PREDICT, BODY, {"traceparent": SAMPLED}).status == 200
    assert one_request(server, collector).trace_id.hex() == TRACE
    resource = collector.resource()
    assert (resource["service.name"], resource["team"]) == ("reader", "letters")
    sent = {name.lower(): value for name, value in collector.headers[-1].items()}
    assert (sent["authorization"], sent["content-encoding"]) == ("Bearer secret", "gzip")


def test_what_is_queued_is_exported_at_shutdown(traced, collector):
    server = traced(OTEL_BSP_SCHEDULE_DELAY="60000")
    for _ in range(5):
        assert server.request("POST", PREDICT, BODY, {"traceparent": SAMPLED}).status == 200
    assert collector.exports == []
    assert server.stop() == 0
    assert len([span for span in collector.requests() if span.trace_id.hex() == TRACE]) == 5


@pytest.mark.parametrize("failure", ["down", "500", "503", "slow"])
def test_a_failing_collector_does_no_harm(traced, collector, failure):
    """Responses are as fast as ever, the log gets a line, and the server stops in time."""
    collector.status = int(failure) if failure.isdecimal() else 200
    collector.delay_s = 60.0 if failure == "slow" else 0.0
    endpoint = collector.url
    if failure == "down":
        with socket.create_server(("127.0.0.1", 0)) as free:
            endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    server = traced(
        "--otlp-endpoint", endpoint, OTEL_BSP_MAX_QUEUE_SIZE="64", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8"
    )  # fmt: skip
    slowest = 0.0
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        until = time.monotonic() + 4
        while time.monotonic() < until:
            began = time.monotonic()
            connection.request("POST", PREDICT, BODY)
            reply = connection.getresponse()
            assert (reply.status, bool(reply.read())) == (200, True)
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 2
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 6  # the drain, 2 s for the collector, and the workers' end
    lines = [line for line in server.log if "traces" in line]
    assert 1 <= len(lines) <= 2, server.log  # at the failure, and at the end
    assert "Traceback" not in "".join(server.log)
