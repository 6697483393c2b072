"""The supervisor: binds the ports, starts workers and data plane, serves until it is told to stop, and then drains."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from components.serve.app import App, admin_routes, data_routes
from components.serve.dataplane import DataPlane
from components.serve.pool import Pool
from components.serve.settings import Settings
from seaway.errors import Unavailable, explain

log = logging.getLogger("seaway.serve")

BACKLOG = 2048
LAST_REQUESTS_SECONDS = 0.25  # for connections that are open when the port closes, to send what they were opened for
KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep an idle connection, so that they close first


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
    pool = Pool(settings.worker_count, settings.threads, settings.max_waiting)
    plane = DataPlane(settings.volume, pool, settings.default_version, settings.timeout_seconds)
    app = App(plane, data_routes, settings.max_body_bytes, settings.access_log)
    servers = [(_Server(_config(app, settings), data), data)]
    if admin:
        servers.append((_Server(_config(App(plane, admin_routes, 0, False), settings), admin), admin))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)

    running = [asyncio.create_task(server.serve(sockets=[port])) for server, port in servers]
    _announce(settings, data, admin)
    work = asyncio.create_task(_work(pool, plane, settings.poll_seconds))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({work, stop, *running}, return_when=asyncio.FIRST_COMPLETED)
    plane.draining = True  # /readyz says so; whoever routes here has a moment to notice
    if not work.done():
        await asyncio.sleep(settings.drain_seconds)
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*running)
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


class _Server(uvicorn.Server):
    """Loses nobody as it ends: `_serve` handles the signals, and whoever has connected by then is still answered."""

    def __init__(self, config: uvicorn.Config, port: socket.socket) -> None:
        super().__init__(config)
        self._port = port.dup()  # closing a listening socket resets those who wait in its queue: ours is emptied first
        self._port.setblocking(False)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        with self._port as port:
            waiting = list(iter(lambda: _accepted(port), None))
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(LAST_REQUESTS_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(self.config, self.server_state, {})  # type: ignore[call-arg]
        return made


def _accepted(port: socket.socket) -> socket.socket | None:
    """The next connection in the queue, if there is one."""
    try:
        return port.accept()[0]
    except BlockingIOError:
        return None


def _config(app: App, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.timeout_seconds) + 1,  # what was begun is answered by then or is late
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {explain(error)}") from None
    return listening


def _announce(settings: Settings, data: socket.socket, admin: socket.socket | None) -> None:
    """One line that people read and programs parse, since a port of 0 is only known now."""
    where = f"serving {settings.volume} at http://{settings.host}:{data.getsockname()[1]}/"
    if admin:
        where += f" admin http://{settings.host}:{admin.getsockname()[1]}/"
    print(where, file=sys.stderr, flush=True)
