"""The gRPC port: TensorFlow Serving's services and the Open Inference Protocol, over the same queue as HTTP.

Handlers get bytes and read only which model is meant (`protobuf_wire`); workers parse. Limits, beside those of jobs:

    connections       at most MAX_CONNECTIONS, and MAX_STREAMS requests at once on each
    a message         RESOURCE_EXHAUSTED above `max_body_bytes`, before it is read
    time              a request that has not arrived after `read_timeout_s` is ended with DEADLINE_EXCEEDED
    memory            UNAVAILABLE if all bodies in memory would exceed `max_held_bytes`. A message that has not arrived
                      after GRACE_S is slow, and counts with the size that it may have; slow ones may take
                      MAX_SLOW_SHARE of that limit, and further ones get RESOURCE_EXHAUSTED

A call that its client cancels, or whose deadline passes, is dropped from the queue. Every response of a model carries
`seaway-model` and `seaway-backend`, and every response `x-request-id`, as trailing metadata.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # it warns of each fork, as of workers that exec anyway

import grpc
from google.protobuf.message import DecodeError

from seaway.errors import InvalidInput, SeawayError, Unavailable
from seaway.protocols import messages, oip, oip_grpc, protobuf_wire, tfs_grpc
from seaway.protocols.calls import DEFAULT_SIGNATURE, Reply
from seaway.serve.supervisor.connection import Limits, ServerState, request_id, trace_parent
from seaway.serve.supervisor.endpoints import SERVER, loaded_info
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.model_manager import ModelManager
from seaway.serve.supervisor.models import ModelVersion
from seaway.serve.supervisor.tls import HANDSHAKE_TIMEOUT_S, Source
from seaway.version import VERSION

log = logging.getLogger("seaway.serve")

MAX_CONNECTIONS, MAX_STREAMS = 4096, 256
MAX_METADATA_BYTES = 16 << 10
MAX_DETAILS = 2000  # characters of an error; clients limit the size of trailing metadata
GRACE_S = 0.1
MAX_SLOW_SHARE = 0.25
WATCH_INTERVAL_S = 0.5
OF_MODELS = ("Seaway-Model", "Seaway-Backend")  # headers that become trailing metadata
TFS, OIP = "tfs-grpc", "oip-grpc"  # protocols in logs and metrics

HEALTH = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.http2.bdp_probe", 0),  # or windows, which bound what is read before a handler asks, grow to megabytes
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_send_message_length", -1),
)


def status_code(status: int) -> grpc.StatusCode:
    """gRPC's code for a reply's HTTP status."""
    return grpc.StatusCode.OK if status < 300 else _CODES.get(status, grpc.StatusCode.INTERNAL)


class GrpcRequest:
    """One request, as a job sees it: the counterpart of HTTP's `connection.Request`."""

    __slots__ = (
        *("began", "body", "client", "complete", "id", "key", "method", "protocol", "responded", "target", "trace"),
        *("response", "stages"),
    )
    stages: tuple[float, ...]  # see `jobs.Request`

    def __init__(self, target: str, body: bytes, metadata: Mapping[str, Any], client: str, began: float) -> None:
        self.method, self.target, self.body, self.client = "POST", target, body, client
        self.id, self.trace = request_id(metadata.get("x-request-id")), trace_parent(metadata.get("traceparent"))
        self.began, self.complete = began, time.perf_counter()
        self.protocol = self.key = ""
        self.responded = False
        self.response: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    @property
    def abandoned(self) -> bool:
        return self.responded or self.response.done()

    def respond(self, reply: Reply) -> None:
        if not self.abandoned:
            self.responded = True
            self.response.set_result(reply)

    def part(self, body: bytes) -> "GrpcRequest":
        """Another request within this one."""
        part = GrpcRequest(self.target, body, {}, self.client, self.began)
        part.id, part.trace, part.protocol = self.id, self.trace, self.protocol
        return part


Method = Callable[[GrpcRequest], Awaitable[Reply]]


class GrpcServer:
    """`state` is that of HTTP's data port: it counts the bodies in memory, and records responses."""

    def __init__(self, manager: ModelManager, state: ServerState, pod: str = "") -> None:
        self._manager, self._state = manager, state
        self._pod = (("seaway-pod", pod),) if pod else ()
        self._slow_bytes = 0
        self._server: Any = None
        self.port = 0

    async def start(self, address: str, max_waiting: int, credentials: Source | None = None) -> None:
        """Listens, with TLS if there are credentials; sets `port`. Raises Unavailable."""
        handshake_s = min(HANDSHAKE_TIMEOUT_S, self._state.limits.read_timeout_s)
        options = (
            *_OPTIONS,
            ("grpc.max_receive_message_length", self._state.limits.max_body_bytes),
            ("grpc.server_handshake_timeout_ms", round(1000 * handshake_s)),
        )
        # Those above it get RESOURCE_EXHAUSTED; health checks must still get through
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * max_waiting + 64)
        self._server.add_generic_rpc_handlers((_Handlers(self._handlers()),))
        try:
            if credentials:
                self.port = int(self._server.add_secure_port(address, _server_credentials(credentials)))
            else:
                self.port = int(self._server.add_insecure_port(address))
        except RuntimeError:
            raise Unavailable(
                f"cannot listen on {address} for gRPC: is the port in use? choose another --grpc-port"
            ) from None
        await self._server.start()

    async def stop(self, timeout_s: float) -> None:
        """Refuses new calls, and waits for those in flight."""
        await self._server.stop(timeout_s)

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        unary: dict[str, Method] = {
            **{f"/{tfs_grpc.PREDICTION}/{verb}": self._tfs(verb) for verb in tfs_grpc.VERBS},
            f"/{tfs_grpc.PREDICTION}/MultiInference": self._multi_inference,
            f"/{tfs_grpc.PREDICTION}/GetModelMetadata": self._get_model_metadata,
            f"/{tfs_grpc.MODEL}/GetModelStatus": self._get_model_status,
            f"/{oip_grpc.SERVICE}/ServerLive": self._server_live,
            f"/{oip_grpc.SERVICE}/ServerReady": self._server_ready,
            f"/{oip_grpc.SERVICE}/ServerMetadata": self._server_metadata,
            f"/{oip_grpc.SERVICE}/ModelReady": self._model_ready,
            f"/{oip_grpc.SERVICE}/ModelMetadata": self._model_metadata,
            f"/{oip_grpc.SERVICE}/ModelInfer": self._model_infer,
            f"/{HEALTH}/Check": self._health_check,
        }
        # As a stream of requests, of which the first is read: so a handler, not gRPC, decides when to receive it.
        handlers = {
            path: grpc.stream_unary_rpc_method_handler(self._responder(path, method)) for path, method in unary.items()
        }
        handlers[f"/{HEALTH}/Watch"] = grpc.unary_stream_rpc_method_handler(self._health_watch)
        for version in ("v1", "v1alpha"):
            name = f"grpc.reflection.{version}"
            handlers[f"/{name}.ServerReflection/ServerReflectionInfo"] = grpc.stream_stream_rpc_method_handler(
                _reflection(name)
            )
        return handlers

    # ---- every call

    def _responder(self, path: str, method: Method) -> Callable[[Any, Any], Awaitable[bytes]]:
        async def respond(_: Any, context: Any) -> bytes:
            began = time.perf_counter()
            metadata = dict(context.invocation_metadata())
            body = b""
            try:
                body = await self._receive(context)
                self._state.held_bytes += len(body)
                call = GrpcRequest(path, body, metadata, _client(context.peer()), began)
                try:
                    reply = await method(call)
                except SeawayError as error:
                    reply = tfs_grpc.error(error)
                except asyncio.CancelledError:
                    self._state.on_response(call, Reply(499, b""))
                    raise
                except Exception:
                    log.exception("%s failed", path)
                    reply = tfs_grpc.error(SeawayError("the server failed on this request; its log has the traceback"))
                finally:
                    self._state.held_bytes -= len(body)
                    call.body = b""
                    call.response.cancel()
            except SeawayError as error:
                call = GrpcRequest(path, b"", metadata, _client(context.peer()), began)
                reply = tfs_grpc.error(error)
            self._state.on_response(call, reply)
            trailing = [("x-request-id", call.id), *self._pod]
            trailing += [(name.lower(), reply.headers[name]) for name in OF_MODELS if name in reply.headers]
            context.set_trailing_metadata(tuple(trailing))
            content = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
            if reply.status < 300:
                return content
            context.set_code(status_code(reply.status))
            context.set_details(content.decode(errors="replace")[:MAX_DETAILS])
            return b""

        return respond

    async def _receive(self, context: Any) -> bytes:
        """The request's message, within the limits of time and memory. Raises SeawayError."""
        limits = self._state.limits
        slow = _Slow(self, asyncio.current_task())
        try:
            message = await context.read()
        except asyncio.CancelledError:
            slow.raise_error()
            raise
        finally:
            slow.end()
        if not isinstance(message, bytes):
            raise SeawayError("the call has no message; send one", status=400)
        if self._state.held_bytes + len(message) > limits.max_held_bytes:
            raise Unavailable(
                "the requests in progress use all the memory allowed for bodies (--max-held-bytes): try again"
            )
        return message

    @property
    def limits(self) -> Limits:
        return self._state.limits

    def reserve(self, size: int) -> bool:
        """Counts a slow message among the bodies in memory, unless that would be too much; at least one may be."""
        state, slow = self._state, self._slow_bytes + size
        if slow > max(size, MAX_SLOW_SHARE * self.limits.max_held_bytes):
            return False
        if state.held_bytes + size > self.limits.max_held_bytes:
            return False
        self.release(-size)
        return True

    def release(self, size: int) -> None:
        self._slow_bytes -= size
        self._state.held_bytes -= size

    async def _run(self, call: GrpcRequest, version: ModelVersion, protocol: str, verb: str) -> Reply:
        call.protocol = protocol
        self._manager.submit(Job(call, version, protocol, verb, {}, call.complete))
        return await call.response

    def _find(self, spec: tfs_grpc.Spec) -> ModelVersion:
        return self._manager.find(spec.name, spec.version, spec.label)

    # ---- TensorFlow Serving

    def _tfs(self, verb: str) -> Method:
        async def run(call: GrpcRequest) -> Reply:
            call.protocol = TFS
            return await self._run(call, self._find(tfs_grpc.find(call.body)), TFS, verb)

        return run

    async def _multi_inference(self, call: GrpcRequest) -> Reply:
        call.protocol = TFS
        parts, specs = tfs_grpc.split(call.body)
        version = self._find(tfs_grpc.check_named(specs[0]))
        call.key = version.key
        known = loaded_info(version).signatures
        for spec in specs:
            if (name := spec.signature or DEFAULT_SIGNATURE) not in known:
                raise InvalidInput(f"Requested signature not found in model graph: {name}")
        answers = []
        for verb, body in parts:  # not at once: each has the whole input
            reply = await self._run(call.part(body), version, TFS, verb)
            if reply.status >= 300:
                return reply
            answers.append((verb, reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)))
        return Reply(200, tfs_grpc.join(answers), tfs_grpc.TYPE, dict(version.headers))

    async def _get_model_metadata(self, call: GrpcRequest) -> Reply:
        call.protocol = TFS
        spec = tfs_grpc.find(call.body)
        tfs_grpc.check_metadata_request(call.body)
        version = self._find(spec)
        return _of_model(version, tfs_grpc.write_metadata(loaded_info(version)))

    async def _get_model_status(self, call: GrpcRequest) -> Reply:
        call.protocol = TFS
        spec = tfs_grpc.find(call.body)  # a label is ignored, as over REST
        return Reply(200, tfs_grpc.write_status(self._manager.statuses(spec.name, spec.version)), tfs_grpc.TYPE)

    # ---- Open Inference Protocol

    async def _server_live(self, call: GrpcRequest) -> Reply:
        call.protocol = OIP
        return Reply(200, oip_grpc.write_ready(True), tfs_grpc.TYPE)

    async def _server_ready(self, call: GrpcRequest) -> Reply:
        call.protocol = OIP
        return Reply(200, oip_grpc.write_ready(not self._manager.not_ready_reason()), tfs_grpc.TYPE)

    async def _server_metadata(self, call: GrpcRequest) -> Reply:
        call.protocol = OIP
        return Reply(200, oip_grpc.write_server_metadata(SERVER, VERSION, oip.EXTENSIONS[1:]), tfs_grpc.TYPE)

    async def _model_ready(self, call: GrpcRequest) -> Reply:
        call.protocol = OIP
        spec = oip_grpc.find(call.body)
        try:
            version = self._manager.find_ready(spec.name, spec.version, spec.label)
        except Unavailable:
            return Reply(200, oip_grpc.write_ready(False), tfs_grpc.TYPE)
        return _of_model(version, oip_grpc.write_ready(True))

    async def _model_metadata(self, call: GrpcRequest) -> Reply:
        call.protocol = OIP
        version = self._find(oip_grpc.find(call.body))
        numbers = [str(number) for number in self._manager.models[version.model].available()]
        return _of_model(version, oip_grpc.write_model_metadata(loaded_info(version), numbers))

    async def _model_infer(self, call: GrpcRequest) -> Reply:
        call.protocol = OIP
        return await self._run(call, self._find(oip_grpc.find(call.body)), OIP, "ModelInfer")

    # ---- health

    def _health(self, service: str) -> int:
        if service not in ("", *messages.SERVICES):
            return _SERVICE_UNKNOWN
        return _NOT_SERVING if self._manager.not_ready_reason() else _SERVING

    async def _health_check(self, call: GrpcRequest) -> Reply:
        status = self._health(_service(call.body))
        if status == _SERVICE_UNKNOWN:
            raise SeawayError("no such service; ask for one of " + ", ".join(messages.SERVICES), status=404)
        return Reply(200, _health_response(status), tfs_grpc.TYPE)

    async def _health_watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            service = _service(request)
        except InvalidInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        said = None
        while True:
            status = self._health(service)
            if status != said:
                said = status
                yield _health_response(status)
            if self._state.draining and status != _SERVING:
                return  # or the server would wait for it as for a request
            await asyncio.sleep(WATCH_INTERVAL_S)


class _Slow:
    """Watches over the reading of one message: after GRACE_S it counts as slow, and cancels it if that is too much, or
    too long."""

    __slots__ = ("_error", "_reserved", "_server", "_task", "_timer")

    def __init__(self, server: GrpcServer, task: "asyncio.Task[Any] | None") -> None:
        self._server, self._task, self._reserved = server, task, 0
        self._error: SeawayError | None = None
        self._timer = asyncio.get_running_loop().call_later(GRACE_S, self._begin)

    def _begin(self) -> None:
        limits = self._server.limits
        if not self._server.reserve(limits.max_body_bytes):
            self._cancel(SeawayError("too many messages are being received already: try again", status=429))
            return
        self._reserved = limits.max_body_bytes
        message = f"the request was not complete after {limits.read_timeout_s:g} s"
        self._timer = asyncio.get_running_loop().call_later(
            limits.read_timeout_s - GRACE_S, self._cancel, SeawayError(message, status=408)
        )

    def _cancel(self, error: SeawayError) -> None:
        self._error = error
        if self._task:
            self._task.cancel()

    def raise_error(self) -> None:
        """Raises the reason of a cancellation, if it was this one's."""
        if self._error and self._task:
            self._task.uncancel()
            raise self._error

    def end(self) -> None:
        self._timer.cancel()
        self._server.release(self._reserved)


def _server_credentials(source: Source) -> grpc.ServerCredentials:
    """gRPC's credentials, which follow the source; gRPC asks at each handshake, in a thread of its own."""
    used = source()

    def configuration() -> grpc.ServerCertificateConfiguration:
        pem = used.pem
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.client_ca or None)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        if (now := source()) is used:
            return None
        used = now
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(), changed, require_client_authentication=bool(used.pem.client_ca)
    )


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        self._handlers = handlers

    def service(self, details: Any) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)


def _of_model(version: ModelVersion, body: bytes) -> Reply:
    return Reply(200, body, tfs_grpc.TYPE, dict(version.headers))


def _client(peer: str) -> str:
    """The client's address, of gRPC's "ipv4:127.0.0.1:49152" or "ipv6:%5B::1%5D:49152"."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _service(request: bytes) -> str:
    return next(
        (protobuf_wire.text(value, "service") for number, value in protobuf_wire.fields(request) if number == 1), ""
    )


def _health_response(status: int) -> bytes:
    return bytes([1 << 3, status])


# ---- reflection


def _reflection(package: str) -> Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]:
    request_class = messages.message(f"{package}.ServerReflectionRequest")
    response_class = messages.message(f"{package}.ServerReflectionResponse")

    async def respond(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for received in requests:
            try:
                request = request_class.FromString(received)
            except DecodeError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a ServerReflectionRequest: {error}")
            response = response_class(valid_host=request.host, original_request=request)
            kind = request.WhichOneof("message_request")
            try:
                if kind == "list_services":
                    for name in messages.SERVICES:
                        response.list_services_response.service.add(name=name)
                elif kind in ("file_by_filename", "file_containing_symbol"):
                    files = messages.files(getattr(request, kind), by_symbol=kind == "file_containing_symbol")
                    response.file_descriptor_response.file_descriptor_proto.extend(files)
                else:
                    response.error_response.error_code = grpc.StatusCode.UNIMPLEMENTED.value[0]
                    response.error_response.error_message = f"{kind} is not supported"
            except KeyError:
                response.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
                response.error_response.error_message = f"there is no {getattr(request, kind)[:200]}"
            yield response.SerializeToString()

    return respond
