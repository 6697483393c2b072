"""The supervisor: binds the ports, starts the workers and the model manager, serves until a signal, and then drains."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import uvloop

from seaway.errors import Unavailable, explain
from seaway.platform import limits, sockets
from seaway.protocols import tfserving
from seaway.serve.settings import Settings, address
from seaway.serve.supervisor import cors
from seaway.serve.supervisor.app import App, admin_routes, data_routes
from seaway.serve.supervisor.connection import Limits, ServerState
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.metrics import Availability, Metrics
from seaway.serve.supervisor.model_manager import ModelManager
from seaway.serve.supervisor.models import ModelVersion
from seaway.serve.supervisor.pool import Pool

log = logging.getLogger("seaway.serve")

BACKLOG = 4096
LATE_CONNECTIONS_S = 0.25  # for clients that connect as the port closes to send their requests
RESERVED_FILES = 512  # file descriptors that are not connections
ADMIN_CONNECTIONS = 256
# Causes of worker deaths whose metrics start at 0
DEATH_CAUSES = [f"signal {number}" for number in map(int, (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV))]


def serve(settings: Settings) -> None:
    """Serves the model repository until SIGTERM or SIGINT; returns after all requests in flight have responses.

    Raises Unavailable if a port is not available or no worker starts; then no process is left.
    """
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO)
    with contextlib.ExitStack() as ports:
        data = ports.enter_context(_listen(settings.host, settings.port))
        admin = None
        if settings.admin_port is not None:
            admin = ports.enter_context(_listen(settings.host, settings.admin_port))
        uvloop.run(_serve(settings, data, admin))


async def _serve(settings: Settings, data: socket.socket, admin: socket.socket | None) -> None:
    pool = _pool(settings)
    manager = ModelManager(settings.model_repository, pool, settings.default_version, settings.pin)
    listeners = await _listeners(settings, manager, pool, data, admin)
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop_requested.set)
    loop.add_signal_handler(signal.SIGINT, _interrupt, stop_requested)
    _announce(settings, data, admin)
    serving_task = asyncio.create_task(_run_workers_and_manager(pool, manager, settings.poll_interval_s))
    stop_task = asyncio.create_task(stop_requested.wait())
    await asyncio.wait({serving_task, stop_task}, return_when=asyncio.FIRST_COMPLETED)
    manager.draining = True  # /readyz turns 503; load balancers have a moment to notice
    for listener in listeners:
        listener.state.draining = True
    if not serving_task.done():
        await asyncio.sleep(settings.drain_s)
    await asyncio.gather(*(listener.stop(settings.timeout_s + 1) for listener in listeners))
    stop_task.cancel()
    serving_task.cancel()
    await asyncio.gather(serving_task, stop_task, return_exceptions=True)
    await pool.stop()
    if not serving_task.cancelled() and (error := serving_task.exception()):
        raise error


def _pool(settings: Settings) -> Pool:
    worker_settings = {
        "threads": settings.thread_count,
        "cores": settings.cores_per_worker,
        "max_rows": settings.max_batch,
        "max_body_bytes": settings.max_body_bytes,
    }
    return Pool(
        settings.worker_count,
        settings.backend,
        worker_settings,
        settings.max_waiting,
        settings.max_batch,
        settings.batch_delay_ms / 1000,
        settings.timeout_s,
        settings.allow_op,
    )


async def _listeners(
    settings: Settings, manager: ModelManager, pool: Pool, data: socket.socket, admin: socket.socket | None
) -> list["_Listener"]:
    """Starts to accept connections at both ports."""
    data_limits = Limits(
        max_body_bytes=settings.max_body_bytes,
        max_held_bytes=settings.held_bytes_limit,
        max_connections=_allowed_connections(settings.max_connections),
        read_timeout_s=settings.read_timeout_s,
    )
    pod_header = f"seaway-pod: {settings.pod}\r\n".encode() if settings.pod else b""
    state = ServerState(tfserving.error, data_limits, extra_headers=pod_header)
    if cors.ALL in settings.cors_origin:
        state.extra_headers += cors.header_lines(cors.ALL)
    else:
        state.cors_headers = cors.headers_by_origin(settings.cors_origin)
    metrics = _metrics(manager, pool, state)
    app = App(manager, data_routes(), metrics, settings.access_log, bool(settings.cors_origin))
    state.handle, state.on_response, state.on_rejection = app.handle, app.on_response, app.on_rejection
    listeners = [await _Listener.start(state, data)]
    if admin:
        admin_app = App(manager, admin_routes(metrics), metrics, access_log=False, cors=False)
        admin_limits = Limits(
            max_body_bytes=1 << 16, max_connections=ADMIN_CONNECTIONS, read_timeout_s=settings.read_timeout_s
        )
        admin_state = ServerState(tfserving.error, admin_limits, admin_app.handle, admin_app.on_response)
        listeners.append(await _Listener.start(admin_state, admin))
    return listeners


async def _run_workers_and_manager(pool: Pool, manager: ModelManager, poll_interval_s: float) -> None:
    """Runs until cancelled, or until the workers cannot be started."""
    polling = asyncio.create_task(manager.follow(poll_interval_s))  # loading waits for the workers
    try:
        await pool.start()
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
        "seaway_queue_length": lambda: pool.waiting,
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


class _Listener:
    """A listening socket and its connections. Loses no client as it stops: all that have connected get responses.

    Closing a listening socket resets the connections in its queue. So this first ignores new ones (their clients retry,
    and are then refused), and accepts all that are queued.
    """

    def __init__(self, state: ServerState, server: asyncio.Server, listening: socket.socket) -> None:
        self.state, self._server = state, server
        self._queue = listening.dup()
        self._queue.setblocking(False)
        self._sweep = asyncio.create_task(state.sweep())

    @classmethod
    async def start(cls, state: ServerState, listening: socket.socket) -> "_Listener":
        server = await asyncio.get_running_loop().create_server(state.connection, sock=listening, backlog=BACKLOG)
        return cls(state, server, listening)

    async def stop(self, timeout_s: float) -> None:
        """Stops accepting, responds to the requests in flight, and closes all connections, within `timeout_s`."""
        sockets.stop_accepting(self._queue)
        await asyncio.sleep(LATE_CONNECTIONS_S)
        self._server.close()
        loop = asyncio.get_running_loop()
        with self._queue:
            while connection := _accept_pending(self._queue):
                await loop.connect_accepted_socket(self.state.connection, connection)
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


def _allowed_connections(requested: int) -> int:
    """The number of connections requested, or as many as the system allows this process."""
    allowed = min(requested, max(limits.raise_open_files_limit(requested + RESERVED_FILES) - RESERVED_FILES, 16))
    if allowed < requested:
        log.warning(
            "accepting at most %d connections, not %d: raise the limit on open files (ulimit -n)", allowed, requested
        )
    return allowed


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise Unavailable(f"cannot listen on {address(host, port)}: {explain(error)}") from None
    return listening


def _interrupt(stop_requested: asyncio.Event) -> None:
    if not stop_requested.is_set():
        print("\nstopping after the requests in flight; the same command serves again", file=sys.stderr, flush=True)
    stop_requested.set()


def _announce(settings: Settings, data: socket.socket, admin: socket.socket | None) -> None:
    """Prints one line for people and programs, because a port of 0 is known only now."""
    line = f"serving {settings.model_repository} at {settings.url(data.getsockname()[1])}"
    if admin:
        line += f" admin {settings.url(admin.getsockname()[1])}"
    print(line, file=sys.stderr, flush=True)
