"""OpenTelemetry traces of requests, exported by OTLP over HTTP. Imported only if there is an endpoint.

A request that has its response becomes a SERVER span, with the stages `queue` and `run` as children if a worker ran it.
Spans are made from the times that requests carry anyway, after the response is recorded. The SDK's batch processor
exports them in a thread of its own, from a queue of bounded length: what does not fit is dropped. The environment
variables OTEL_… configure the service's name, the sampler, the queue, and the exporter's headers and timeouts.
"""

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from seaway.errors import InvalidInput
from seaway.protocols.calls import Reply
from seaway.serve.supervisor.connection import Request, ServerState
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.pool import Pool
from seaway.serve.supervisor.watch import LOG_INTERVAL_S
from seaway.version import VERSION

log = logging.getLogger("seaway.serve")

PATH = "/v1/traces"  # of the traces below a collector's endpoint, as OTLP defines it
FLUSH_TIMEOUT_S = 2.0
MAX_PATH = 1024  # characters of a path in a span, because the queue holds many spans
UNNAMED = "unknown_service"  # what the SDK calls a service that the environment does not name

# Health checks: of the Open Inference Protocol over HTTP and gRPC, and gRPC's own; also gRPC's reflection.
_PROBE = re.compile(
    r"/v2/(health/(live|ready)|models/.+/ready)(\?.*)?"
    r"|/grpc\..*|/inference\.GRPCInferenceService/(ServerLive|ServerReady|ModelReady)"
)
_VERB = re.compile(r"(:predict|:classify|:regress|/infer|/metadata)$")
_PROPAGATOR = TraceContextTextMapPropagator()

Record = Callable[[Any, Reply], None]
Attributes = dict[str, Any]


class Tracing:
    """`endpoint` is a collector's, `pod` the name of this replica. Raises InvalidInput for wrong OTEL_… variables."""

    def __init__(self, endpoint: str, pod: str = "", tls: bool = False) -> None:
        self._endpoint, self._scheme = endpoint, "https" if tls else "http"
        self._common = {"seaway.pod": pod} if pod else {}
        _limit_log(endpoint)
        try:
            self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            self._processor = BatchSpanProcessor(OTLPSpanExporter(_url(endpoint)))
        except ValueError as error:
            raise InvalidInput(f"an OTEL_ variable in the environment cannot be used: {error}") from None
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("seaway", VERSION)

    def attach(self, state: ServerState, pool: Pool) -> None:
        """Records the responses of the data port, and of gRPC, which shares its state, and their stages."""
        state.on_response = self._followed_by_span(state.on_response)
        state.on_rejection = self._followed_by_span(state.on_rejection)
        observe = pool.on_responses

        def on_responses(jobs: Sequence[Job], header: dict[str, Any], began: float) -> None:
            observe(jobs, header, began)
            now = time.perf_counter()
            for job, reply in zip(jobs, header["replies"], strict=True):
                job.request.stages = (began, now, *reply[4])

        pool.on_responses = on_responses

    def stop(self) -> None:
        """Exports what is queued, within FLUSH_TIMEOUT_S; the SDK's own limit is 30 s."""
        flushing = threading.Thread(target=self._provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_TIMEOUT_S)
        if flushing.is_alive():
            log.warning("traces: %s did not take the last ones within %g s", self._endpoint, FLUSH_TIMEOUT_S)

    def _followed_by_span(self, record: Record) -> Record:
        def record_and_trace(request: Any, reply: Reply) -> None:
            record(request, reply)
            self._trace(request, reply)

        return record_and_trace

    def _trace(self, request: Any, reply: Reply) -> None:
        """Queues the spans of one request, unless it is a probe or not one of the protocols, or is not sampled."""
        http = isinstance(request, Request)
        if (http and not request.protocol) or _PROBE.fullmatch(request.target):
            return
        now, now_ns = time.perf_counter(), time.time_ns()

        def wall_ns(mark: float) -> int:
            return now_ns - round((now - mark) * 1e9)

        name, attributes = _http(request, reply, self._scheme) if http else _grpc(request, reply)
        attributes |= self._common | _of_any(request, reply)
        span = self._tracer.start_span(
            name, _parent(request.trace), SpanKind.SERVER, attributes, start_time=wall_ns(request.began)
        )
        if not span.is_recording():
            return
        if reply.status >= 500:
            span.set_status(StatusCode.ERROR)
        if stages := getattr(request, "stages", None):
            began, ended, parse, compute, write = stages
            self._queue_child(span, "queue", wall_ns(request.complete), wall_ns(began), {})
            seconds = {"seaway.parse_s": parse, "seaway.compute_s": compute, "seaway.write_s": write}
            self._queue_child(span, "run", wall_ns(began), wall_ns(ended), seconds)
        span.end(now_ns)

    def _queue_child(self, parent: Any, name: str, began: int, ended: int, attributes: Attributes) -> None:
        """Queues a span that has ended, without the tracer, which takes ten times as long."""
        context = parent.get_span_context()
        own = SpanContext(context.trace_id, self._provider.id_generator.generate_span_id(), False, context.trace_flags)
        self._processor.on_end(
            ReadableSpan(
                name, own, context, self._provider.resource, attributes,
                instrumentation_scope=parent.instrumentation_scope, start_time=began, end_time=ended,
            )
        )  # fmt: skip


class _Limited(logging.Handler):
    """Writes the first message in each LOG_INTERVAL_S, without its traceback, to the server's log."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint, self._next = endpoint, -math.inf

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOG_INTERVAL_S
            log.warning("traces to %s: %s", self._endpoint, record.getMessage())


def _limit_log(endpoint: str) -> None:
    """The SDK logs each failure, and each span that it drops."""
    sdk = logging.getLogger("opentelemetry")
    sdk.handlers, sdk.propagate = [_Limited(endpoint)], False
    sdk.setLevel(logging.WARNING)


def _url(endpoint: str) -> str:
    base = endpoint.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def _resource() -> Resource:
    """This server, as the environment describes it; by default the service is `seaway`."""
    found = Resource({"service.version": VERSION}).merge(Resource.create())
    named = not str(found.attributes["service.name"]).startswith(UNNAMED)
    return found if named else found.merge(Resource({"service.name": "seaway"}))


def _parent(trace: str) -> Context:
    """The context of a request's `traceparent`; an empty one, which begins a new trace, without one. The propagator
    rejects what W3C's Trace Context calls invalid: version ff, and IDs of zeros."""
    return _PROPAGATOR.extract({"traceparent": trace}, Context()) if trace else Context()


def _of_any(request: Any, reply: Reply) -> Attributes:
    """Attributes of requests of all protocols; those without a value are left out."""
    values = {
        "client.address": request.client,
        "seaway.protocol": request.protocol,
        "seaway.model": reply.headers.get("Seaway-Model") or request.key,
        "seaway.request_id": request.id,
    }
    return {name: value for name, value in values.items() if value}


def _http(request: Request, reply: Reply, scheme: str) -> tuple[str, Attributes]:
    """The name and attributes of a span, by the semantic conventions for HTTP. Clients cannot create span names."""
    path = request.target.partition("?")[0]
    attributes: Attributes = {
        "http.request.method": request.method or "_OTHER",
        "http.response.status_code": reply.status,
        "url.scheme": scheme,
        "url.path": path[:MAX_PATH],
    }
    if reply.status >= 500:
        attributes["error.type"] = str(reply.status)
    verb = _VERB.search(path)
    return f"{request.method or 'HTTP'} {request.protocol}{verb[0] if verb else ''}", attributes


def _grpc(request: Any, reply: Reply) -> tuple[str, Attributes]:
    """The name and attributes of a span, by the semantic conventions for gRPC."""
    from seaway.serve.supervisor.grpc_server import status_code

    service, _, method = request.target[1:].rpartition("/")
    code = status_code(reply.status)
    attributes: Attributes = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": code.value[0],
    }
    if reply.status >= 500:
        attributes["error.type"] = code.name
    return request.target[1:], attributes
