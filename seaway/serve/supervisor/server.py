"""The supervisor: binds the ports, starts the workers and the model manager, serves until a signal, and then drains."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import uvloop

from seaway import extras
from seaway.errors import Unavailable, explain
from seaway.platform import limits, sockets
from seaway.protocols import tfserving
from seaway.serve.settings import Settings, address
from seaway.serve.supervisor import compression, cors, tls
from seaway.serve.supervisor.app import App, admin_routes, data_routes
from seaway.serve.supervisor.connection import Connection, Limits, ServerState
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.metrics import Availability, Metrics
from seaway.serve.supervisor.model_manager import ModelManager
from seaway.serve.supervisor.models import ModelVersion
from seaway.serve.supervisor.pool import Pool
from seaway.serve.supervisor.scan import Source, read_repository
from seaway.serve.supervisor.scheduler import Limits as JobLimits
from seaway.serve.supervisor.tls_connection import MAX_HANDSHAKES, TlsConnection

if TYPE_CHECKING:
    from seaway.serve.supervisor.grpc_server import GrpcServer
    from seaway.serve.supervisor.tracing import Tracing

log = logging.getLogger("seaway.serve")

BACKLOG = 4096
READY_POLL_S = 0.05
LATE_CONNECTIONS_S = 0.25  # for clients that connect as the port closes to send their requests
RESERVED_FILES = 512  # file descriptors that are not connections
ADMIN_CONNECTIONS = 256
_Protocol = Callable[[], Connection | TlsConnection]
# Causes of worker deaths whose metrics start at 0
DEATH_CAUSES = [f"signal {number}" for number in map(int, (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV))]


@dataclass(frozen=True, slots=True)
class DropIn:
    """How a server in place of TensorFlow Serving differs: it has another source of models than the repository, maybe
    no HTTP port, maybe a path of it for metrics, and maybe TLS for gRPC alone; and its data port opens only once it is
    ready."""

    models: Source
    http: bool = True
    metrics_path: str = ""
    grpc_tls: tls.Credentials | None = None


def serve(settings: Settings, drop_in: DropIn | None = None) -> None:
    """Serves the models until SIGTERM or SIGINT; returns after all requests in flight have responses.

    Raises Unavailable if a port is not available or no worker starts, InvalidInput if the certificate or its key
    cannot be used, and ModuleNotFoundError if traces need packages that are not installed; then no process is left.
    """
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO)
    reloader = None
    if settings.tls_cert and settings.tls_key:
        reloader = tls.Reloader(tls.Files(settings.tls_cert, settings.tls_key, settings.tls_client_ca))
    with contextlib.ExitStack() as ports:
        tracing = _tracing(settings)
        if tracing:
            ports.callback(tracing.stop)
        data = None
        if drop_in is None or drop_in.http:
            data = ports.enter_context(_bind(settings.host, settings.port, listen=drop_in is None))
        admin = None
        if settings.admin_port is not None:
            admin = ports.enter_context(_bind(settings.host, settings.admin_port))
        uvloop.run(_serve(settings, drop_in, data, admin, reloader, tracing))


async def _serve(
    settings: Settings,
    drop_in: DropIn | None,
    data: socket.socket | None,
    admin: socket.socket | None,
    reloader: tls.Reloader | None,
    tracing: "Tracing | None",
) -> None:
    pool = _pool(settings)
    place = drop_in.models if drop_in else settings.model_repository
    source = drop_in.models if drop_in else partial(read_repository, settings.model_repository, only=settings.model)
    manager = ModelManager(source, place, pool, settings.default_version, settings.pin)
    state, metrics = _data_port(settings, manager, pool, drop_in.metrics_path if drop_in else "")
    if tracing:
        tracing.attach(state, pool)
    credentials = (lambda: reloader.credentials) if reloader else None
    fixed = drop_in.grpc_tls if drop_in else None
    grpc_credentials = (lambda: fixed) if fixed else credentials
    if grpc_credentials:
        metrics.gauges |= _tls_gauges(state, credentials or grpc_credentials, reloader)
    listeners: list[_Listener | GrpcServer] = []

    async def open_data_port() -> None:
        while drop_in and manager.not_ready_reason():
            await asyncio.sleep(READY_POLL_S)
        if data:
            listeners.append(await _Listener.start(state, data, credentials))
        if settings.grpc_port is not None:
            listeners.append(await _grpc(settings, manager, state, grpc_credentials))
        if drop_in:
            log.info("%s: a version is available, so the ports are open", place)

    if admin:
        listeners.append(await _Listener.start(_admin_port(settings, manager, metrics), admin))
    if drop_in is None:
        await open_data_port()
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop_requested.set)
    loop.add_signal_handler(signal.SIGINT, _interrupt, stop_requested)
    grpc_port = next((one.port for one in listeners if not isinstance(one, _Listener)), settings.grpc_port)
    _announce(settings, place, data, admin, grpc_port)
    serving_task = asyncio.create_task(
        _run_workers_and_manager(pool, manager, settings.poll_interval_s, open_data_port if drop_in else None)
    )
    stop_task = asyncio.create_task(stop_requested.wait())
    reload_task = asyncio.create_task(reloader.follow()) if reloader else None
    await asyncio.wait({serving_task, stop_task}, return_when=asyncio.FIRST_COMPLETED)
    manager.draining = True  # /readyz turns 503; load balancers have a moment to notice
    state.draining = True
    if not serving_task.done():
        await asyncio.sleep(settings.drain_s)
    await asyncio.gather(*(listener.stop(settings.timeout_s + 1) for listener in listeners))
    stopped = [task for task in (stop_task, reload_task, serving_task) if task]
    for task in stopped:
        task.cancel()
    await asyncio.gather(*stopped, return_exceptions=True)
    await pool.stop()
    if not serving_task.cancelled() and (error := serving_task.exception()):
        raise error


def _tracing(settings: Settings) -> "Tracing | None":
    """Raises ModuleNotFoundError if traces are wanted and the extra is not installed."""
    if not settings.otlp_endpoint:
        return None
    extras.require(*extras.OTEL)
    from seaway.serve.supervisor.tracing import Tracing

    return Tracing(settings.otlp_endpoint, settings.pod, tls=settings.tls_cert is not None)


def _pool(settings: Settings) -> Pool:
    worker_settings = {
        "threads": settings.thread_count,
        "cores": settings.cores_per_worker,
        "max_rows": settings.max_batch,
        "max_body_bytes": settings.max_body_bytes,
        "warmup_iterations": settings.warmup_iterations,
    }
    limits = JobLimits(
        max_waiting=settings.max_waiting,
        max_frame_jobs=settings.max_batch,
        batch_delay_s=settings.batch_delay_ms / 1000,
        timeout_s=settings.timeout_s,
    )
    return Pool(settings.worker_count, settings.backend, worker_settings, limits, settings.allow_op)


def _data_port(settings: Settings, manager: ModelManager, pool: Pool, metrics_path: str) -> tuple[ServerState, Metrics]:
    """The state of the data port's connections, and the server's metrics."""
    limits = Limits(
        max_body_bytes=settings.max_body_bytes,
        max_held_bytes=settings.held_bytes_limit,
        max_connections=_allowed_connections(settings.max_connections, MAX_HANDSHAKES if settings.tls_cert else 0),
        read_timeout_s=settings.read_timeout_s,
    )
    pod_header = f"seaway-pod: {settings.pod}\r\n".encode() if settings.pod else b""
    state = ServerState(tfserving.error, limits, extra_headers=pod_header)
    if settings.gzip_min_bytes:
        state.compressing_send = partial(compression.send, min_bytes=settings.gzip_min_bytes)
    if cors.ALL in settings.cors_origin:
        state.extra_headers += cors.header_lines(cors.ALL)
    else:
        state.cors_headers = cors.headers_by_origin(settings.cors_origin)
    metrics = _metrics(manager, pool, state)
    app = App(manager, data_routes(metrics, metrics_path), metrics, settings.access_log, bool(settings.cors_origin))
    state.handle, state.on_response, state.on_rejection = app.handle, app.on_response, app.on_rejection
    return state, metrics


async def _grpc(
    settings: Settings, manager: ModelManager, state: ServerState, credentials: tls.Source | None
) -> "GrpcServer":
    """Starts the gRPC port. Raises Unavailable."""
    from seaway.serve.supervisor.grpc_server import GrpcServer

    server = GrpcServer(manager, state, settings.pod)
    await server.start(address(settings.host, settings.grpc_port or 0), settings.max_waiting, credentials)
    return server


def _admin_port(settings: Settings, manager: ModelManager, metrics: Metrics) -> ServerState:
    """The state of the admin port's connections."""
    app = App(manager, admin_routes(metrics), metrics, access_log=False, cors=False)
    limits = Limits(max_body_bytes=1 << 16, max_connections=ADMIN_CONNECTIONS, read_timeout_s=settings.read_timeout_s)
    return ServerState(tfserving.error, limits, app.handle, app.on_response)


async def _run_workers_and_manager(
    pool: Pool, manager: ModelManager, poll_interval_s: float, then: Callable[[], Awaitable[None]] | None
) -> None:
    """Runs until cancelled, or until the workers cannot be started, or `then` fails, which follows their start."""
    polling = asyncio.create_task(manager.follow(poll_interval_s))  # loading waits for the workers
    try:
        await pool.start()
        if then:
            await then()
        await polling
    finally:
        polling.cancel()


def _metrics(manager: ModelManager, pool: Pool, state: ServerState) -> Metrics:
    """The server's metrics, connected to the parts that report them."""

    def versions() -> Iterator[ModelVersion]:
        for model in manager.models.values():
            yield from model.versions.values()

    def available() -> Iterator[Availability]:
        for version in versions():
            labels = manager.models[version.model].labels
            names = ",".join(sorted(label for label, number in labels.items() if number == version.number))
            yield version.model, str(version.number), version.identity, names, version.state == "AVAILABLE"

    gauges = {
        "seaway_queue_length": lambda: pool.scheduler.waiting,
        "seaway_requests_active": lambda: sum(version.active for version in versions()),
        "seaway_connections": lambda: len(state.connections),
        "seaway_workers_alive": lambda: sum(not worker.exited.is_set() for worker in pool.workers),
        "seaway_body_bytes_held": lambda: state.held_bytes,
    }
    metrics = Metrics(gauges, available, causes=DEATH_CAUSES)

    def on_responses(jobs: Sequence[Job], header: dict[str, Any], began: float) -> None:
        model, version = jobs[0].version.model, str(jobs[0].version.number)
        for job, reply in zip(jobs, header["replies"], strict=True):
            arrived = job.request.complete
            metrics.observe_stages(
                job.protocol, model, version, arrived - job.request.began, began - arrived, *reply[4]
            )
        for requests, rows, seconds in header["runs"]:
            metrics.observe_batch(model, version, requests, rows, seconds)

    pool.on_responses, pool.on_death = on_responses, metrics.count_death
    manager.on_loaded = lambda version, seconds, ok: metrics.count_load(version.model, str(version.number), seconds, ok)
    manager.on_unloaded = lambda version: metrics.forget(version.model, str(version.number))
    return metrics


def _tls_gauges(
    state: ServerState, credentials: tls.Source, reloader: tls.Reloader | None
) -> dict[str, Callable[[], float]]:
    """The metrics that exist only with TLS; those of the data port and of files, only if it has TLS from files."""
    gauges: dict[str, Callable[[], float]] = {
        "seaway_tls_certificate_expiry_timestamp_seconds": lambda: credentials().not_after
    }
    if reloader:
        gauges["seaway_tls_last_reload_successful"] = lambda: int(not reloader.failing)
        gauges["seaway_tls_handshake_failures_total"] = lambda: state.handshake_failures
    return gauges


class _Listener:
    """A listening socket and its connections. Loses no client as it stops: all that have connected get responses.

    Closing a listening socket resets the connections in its queue. So this first ignores new ones (their clients retry,
    and are then refused), and accepts all that are queued.
    """

    def __init__(
        self, state: ServerState, server: asyncio.Server, listening: socket.socket, protocol: "_Protocol"
    ) -> None:
        self.state, self._server, self._protocol = state, server, protocol
        self._queue = listening.dup()
        self._queue.setblocking(False)
        self._sweep = asyncio.create_task(state.sweep())

    @classmethod
    async def start(
        cls, state: ServerState, listening: socket.socket, credentials: tls.Source | None = None
    ) -> "_Listener":
        protocol: _Protocol = state.connection
        if credentials:
            protocol = lambda: TlsConnection(state, credentials().context)  # noqa: E731
        server = await asyncio.get_running_loop().create_server(protocol, sock=listening, backlog=BACKLOG)
        return cls(state, server, listening, protocol)

    async def stop(self, timeout_s: float) -> None:
        """Stops accepting, responds to the requests in flight, and closes all connections, within `timeout_s`."""
        sockets.stop_accepting(self._queue)
        await asyncio.sleep(LATE_CONNECTIONS_S)
        self._server.close()
        loop = asyncio.get_running_loop()
        with self._queue:
            while connection := _accept_pending(self._queue):
                await loop.connect_accepted_socket(self._protocol, connection)
        if self.state.handshakes:  # time to finish, and to send their requests
            await asyncio.sleep(LATE_CONNECTIONS_S)
            for handshake in list(self.state.handshakes):
                handshake.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.state.connections:
                    self.state.close_idle()
                    await asyncio.sleep(0.01)
        self._sweep.cancel()


def _accept_pending(listening: socket.socket) -> socket.socket | None:
    """The next connection in the queue, or None."""
    try:
        return listening.accept()[0]
    except BlockingIOError:
        return None


def _allowed_connections(requested: int, handshakes: int) -> int:
    """The number of connections requested, or as many as the system allows this process beside the handshakes."""
    reserved = RESERVED_FILES + handshakes
    allowed = min(requested, max(limits.raise_open_files_limit(requested + reserved) - reserved, 16))
    if allowed < requested:
        log.warning(
            "accepting at most %d connections, not %d: raise the limit on open files (ulimit -n)", allowed, requested
        )
    return allowed


def _bind(host: str, port: int, listen: bool = True) -> socket.socket:
    """A socket at the port. Without `listen`, clients are refused until `_Listener.start`. Raises Unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        if listen:
            listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise Unavailable(f"cannot listen on {address(host, port)}: {explain(error)}") from None
    return listening


def _interrupt(stop_requested: asyncio.Event) -> None:
    if not stop_requested.is_set():
        print("\nstopping after the requests in flight; the same command serves again", file=sys.stderr, flush=True)
    stop_requested.set()


def _announce(
    settings: Settings,
    place: object,
    data: socket.socket | None,
    admin: socket.socket | None,
    grpc_port: int | None,
) -> None:
    """Prints one line for people and programs, because a port of 0 is known only now."""
    line = f"serving {place}"
    if data:
        line += f" at {settings.url(data.getsockname()[1], tls=settings.tls_cert is not None)}"
    if admin:
        line += f" admin {settings.url(admin.getsockname()[1])}"
    if grpc_port:
        line += f" gRPC {address(settings.host, grpc_port)}"
    print(line, file=sys.stderr, flush=True)
