"""The supervisor: binds the ports, starts workers and data plane, serves until it is told to stop, and then drains."""

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
from seaway.serve.supervisor.connection import Limits, Port
from seaway.serve.supervisor.dataplane import DataPlane
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.metrics import Availability, Metrics
from seaway.serve.supervisor.models import Version
from seaway.serve.supervisor.pool import Pool

log = logging.getLogger("seaway.serve")

BACKLOG = 4096
LAST_REQUESTS_SECONDS = 0.25  # for those who are connecting as the port closes, to send what they connect for
FILES = 512  # descriptors that are not connections
ADMIN_CONNECTIONS = 256
ENDS = [
    f"signal {number}" for number in map(int, (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV))
]  # of workers, counted from 0


def serve(settings: Settings) -> None:
    """Serves the volume until SIGTERM or SIGINT; returns after all that was begun is answered.

    Raises Unavailable where a port cannot be had or no worker starts; then no process is left.
    """
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO)
    with contextlib.ExitStack() as ports:
        data = ports.enter_context(_listen(settings.host, settings.port))
        admin = None
        if settings.admin_port is not None:
            admin = ports.enter_context(_listen(settings.host, settings.admin_port))
        uvloop.run(_serve(settings, data, admin))


async def _serve(settings: Settings, data: socket.socket, admin: socket.socket | None) -> None:
    told = {
        "threads": settings.thread_count,
        "cores": settings.cores_of_a_worker,
        "max_rows": settings.max_batch,
        "max_body": settings.max_body_bytes,
    }
    pool = Pool(
        settings.worker_count,
        settings.backend,
        told,
        settings.max_waiting,
        settings.max_batch,
        settings.batch_delay_ms / 1000,
        settings.timeout_seconds,
        settings.allow_op,
    )
    plane = DataPlane(settings.volume, pool, settings.default_version, settings.pin)
    limits = Limits(
        max_body_bytes=settings.max_body_bytes,
        max_held_bytes=settings.held_bytes,
        max_connections=_connections(settings.max_connections),
        read_seconds=settings.read_seconds,
    )
    port = Port(tfserving.error, limits, always=f"seaway-pod: {settings.pod}\r\n".encode() if settings.pod else b"")
    if cors.ALL in settings.cors_origin:
        port.always += cors.lines(cors.ALL)
    else:
        port.by_origin = cors.by_origin(settings.cors_origin)
    metrics = _metrics(plane, pool, port)
    app = App(plane, data_routes(), metrics, settings.access_log, bool(settings.cors_origin))
    port.handle, port.told = app.handle, app.told
    listeners = [await _Listener.start(port, data)]
    if admin:
        aside = App(plane, admin_routes(metrics), metrics, access_log=False, cors=False)
        small = Limits(max_body_bytes=1 << 16, max_connections=ADMIN_CONNECTIONS, read_seconds=settings.read_seconds)
        listeners.append(await _Listener.start(Port(tfserving.error, small, aside.handle, aside.told), admin))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    _announce(settings, data, admin)
    work = asyncio.create_task(_work(pool, plane, settings.poll_seconds))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    plane.draining = True  # /readyz says so; whoever routes here has a moment to notice
    for listener in listeners:
        listener.port.draining = True
    if not work.done():
        await asyncio.sleep(settings.drain_seconds)
    await asyncio.gather(*(listener.stop(settings.timeout_seconds + 1) for listener in listeners))
    stop.cancel()
    work.cancel()
    await asyncio.gather(work, stop, return_exceptions=True)
    await pool.end()
    if not work.cancelled() and (error := work.exception()):
        raise error


async def _work(pool: Pool, plane: DataPlane, poll_seconds: float) -> None:
    """Runs until it is cancelled, or until the workers cannot be started."""
    following = asyncio.create_task(plane.follow(poll_seconds))  # loading waits for the workers
    try:
        await pool.start()
        await following
    finally:
        following.cancel()


def _metrics(plane: DataPlane, pool: Pool, port: Port) -> Metrics:
    """What is counted, told by those who know it."""

    def versions() -> Iterator[Version]:
        for model in plane.models.values():
            yield from model.versions.values()

    def available() -> Iterator[Availability]:
        for version in versions():
            labels = plane.models[version.model].labels
            names = ",".join(sorted(label for label, number in labels.items() if number == version.number))
            yield version.model, str(version.number), version.identity, names, version.state == "AVAILABLE"

    gauges = {
        "seaway_queue_length": lambda: pool.waiting,
        "seaway_requests_active": lambda: sum(version.active for version in versions()),
        "seaway_connections": lambda: len(port.connections),
        "seaway_workers_alive": lambda: sum(not worker.gone.is_set() for worker in pool.workers),
        "seaway_body_bytes_held": lambda: port.held_bytes,
    }
    metrics = Metrics(gauges, available, causes=ENDS)

    def answers(jobs: Sequence[Job], header: dict[str, Any], began: float) -> None:
        model, version = jobs[0].version.model, str(jobs[0].version.number)
        for job, reply in zip(jobs, header["replies"], strict=True):
            arrived = job.request.complete
            metrics.staged(job.protocol, model, version, arrived - job.request.began, began - arrived, *reply[4])
        for requests, rows, seconds in header["runs"]:
            metrics.batched(model, version, requests, rows, seconds)

    pool.on_answers, pool.on_death = answers, metrics.worker_ended
    plane.on_loaded = lambda version, seconds, ok: metrics.loaded(version.model, str(version.number), seconds, ok)
    plane.on_unloaded = lambda version: metrics.forget(version.model, str(version.number))
    return metrics


class _Listener:
    """A listening socket and its connections. Loses nobody as it ends: whoever has connected by then is answered.

    Closing a listening socket resets those who wait in its queue or are about to. So it first stops hearing new ones
    (who try again, and are refused then), and its queue is emptied.
    """

    def __init__(self, port: Port, server: asyncio.Server, listening: socket.socket) -> None:
        self.port, self._server = port, server
        self._queue = listening.dup()
        self._queue.setblocking(False)
        self._sweep = asyncio.create_task(port.sweep())

    @classmethod
    async def start(cls, port: Port, listening: socket.socket) -> "_Listener":
        server = await asyncio.get_running_loop().create_server(port.connection, sock=listening, backlog=BACKLOG)
        return cls(port, server, listening)

    async def stop(self, seconds: float) -> None:
        """Takes no new connections, answers what was asked, and closes all; waits at most so long."""
        sockets.take_no_new(self._queue)
        await asyncio.sleep(LAST_REQUESTS_SECONDS)
        self._server.close()
        loop = asyncio.get_running_loop()
        with self._queue:
            while connection := _accepted(self._queue):
                await loop.connect_accepted_socket(self.port.connection, connection)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.port.connections:
                    self.port.close_idle()
                    await asyncio.sleep(0.01)
        self._sweep.cancel()


def _accepted(port: socket.socket) -> socket.socket | None:
    """The next connection in the queue, if there is one."""
    try:
        return port.accept()[0]
    except BlockingIOError:
        return None


def _connections(wanted: int) -> int:
    """As many connections as were asked for, or as many as the system lets this process have."""
    allowed = min(wanted, max(limits.allow_files(wanted + FILES) - FILES, 16))
    if allowed < wanted:
        log.warning("at most %d connections, not %d: raise the limit of open files (ulimit -n)", allowed, wanted)
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


def _announce(settings: Settings, data: socket.socket, admin: socket.socket | None) -> None:
    """One line that people read and programs parse, since a port of 0 is only known now."""
    where = f"serving {settings.volume} at {settings.url(data.getsockname()[1])}"
    if admin:
        where += f" admin {settings.url(admin.getsockname()[1])}"
    print(where, file=sys.stderr, flush=True)
