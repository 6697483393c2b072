"""What clients may do to a server: too many, too slow, gone too soon, or more than it can answer."""

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.processes import Server
from benchmarks.reliability.client import Answer, Connection, Load, Lost, Tally, request
from benchmarks.reliability.scenarios import CLIENTS, Result, clean
from benchmarks.reliability.world import World

IDLE = 10_000
AT_ONCE = 200  # connections that are being opened at a time
MOST_MB = 256  # that the slow may make the server hold, all together
SLOW_SECONDS = 50.0  # within which the server is to end them; it gives a request 30
AGAIN_SECONDS = 0.5
DRIP_SECONDS = 1.0  # between two bytes of a slow client


async def idle(world: World, seconds: float) -> Result:
    """10,000 connections that were used once and say no more."""
    with world.serve() as server:
        start = server.pss_bytes()
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> Connection | None:
            async with gate:
                with contextlib.suppress(OSError, Lost):
                    connection = await Connection.open(server.port)
                    await connection.ask("/v1/models/half:predict", b'{"instances": [1.0]}')
                    return connection
                return None

        made = await asyncio.gather(*(one() for _ in range(IDLE)))
        opened = [connection for connection in made if connection is not None]
        held = server.pss_bytes()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds)
        alive = sum(not connection.ended for connection in opened)
        for connection in opened:
            connection.close()
        tally = load.tally
    grown = (held - start) / 1e6
    note = f"{len(opened)} opened, {alive} still there after {seconds:.0f} s, {grown:.0f} MB for them"
    return Result(tally, clean(tally) and len(opened) == IDLE, note)


async def slow(world: World, seconds: float) -> Result:
    """Clients whose headers or bodies come a byte a second, and clients that ask a lot and never read."""
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: bench\r\nX-Drip: "
    body = request("/v1/models/half:predict", b" " * 1000)[:-990]
    many = json.dumps({"instances": [0.5] * 4000}).encode()
    seconds = max(seconds, SLOW_SECONDS)
    with world.serve() as server:
        start = server.pss_bytes()
        crowd = [_drip(server, head) for _ in range(300)] + [_drip(server, body) for _ in range(300)]
        crowd += [_deaf(server, request("/v1/models/half:predict", many)) for _ in range(100)]
        tasks = [asyncio.create_task(one) for one in crowd]
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds)
        held = server.pss_bytes()
        closed = [sum(task.done() for task in part) for part in (tasks[:300], tasks[300:600], tasks[600:])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tally = load.tally
    grown = (held - start) / 1e6
    note = (
        f"closed by the server within {seconds:.0f} s: {closed[0]} of 300 slow headers, {closed[1]} of 300 slow "
        f"bodies, {closed[2]} of 100 that do not read; {grown:.0f} MB for them"
    )
    held = clean(tally) and grown < MOST_MB and closed == [300, 300, 100]
    return Result(tally, held, note)


async def _drip(server: Server, first: bytes) -> None:
    """Until the server ends it."""
    connection = await Connection.open(server.port)
    over = asyncio.create_task(connection.reader.read())  # to the end of what the server says
    try:
        connection.writer.write(first)
        while not over.done():
            connection.writer.write(b" ")
            await asyncio.wait({over}, timeout=DRIP_SECONDS)
    finally:
        over.cancel()
        connection.close()


async def _deaf(server: Server, sent: bytes) -> None:
    """Sends as much as it can, reads nothing, until the server ends it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        await loop.sock_connect(plain, ("127.0.0.1", server.port))
        with contextlib.suppress(ConnectionError):
            while True:
                await loop.sock_sendall(plain, sent)


async def leaving(world: World, seconds: float) -> Result:
    """Clients that go away within a request, or before its answer; with FIN or with RST."""
    whole = request("/v1/models/half:predict", json.dumps({"instances": [0.5] * 500}).encode())
    gone = 0
    with world.serve() as server:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            while time.monotonic() < began + seconds:
                plain = socket.socket()
                plain.setblocking(False)
                await loop.sock_connect(plain, ("127.0.0.1", server.port))
                await loop.sock_sendall(plain, whole if gone % 2 else whole[: random.randrange(1, len(whole))])
                if gone % 4 < 2:  # close with RST
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await asyncio.sleep(random.choice((0, 0.001, 0.005)))
                plain.close()
                gone += 1
        tally = load.tally
    return Result(tally, clean(tally), f"{gone} clients left")


async def flood(world: World, seconds: float) -> Result:
    """Far more requests than can be answered: what is answered stays as much, the rest is refused at once."""
    with world.serve() as server:
        steps = await _steps(server)
        async with _hungry(server, CLIENTS, steps) as few:
            await asyncio.sleep(1)
            before, cpu = few.right, server.cpu_seconds()
            await asyncio.sleep(seconds / 2)
            capacity, alone = (few.right - before) / (seconds / 2), (server.cpu_seconds() - cpu) / (seconds / 2)
        async with _hungry(server, 2000, steps) as many:
            await asyncio.sleep(seconds / 2)
            before, cpu, own = many.right, server.cpu_seconds(), time.process_time()
            await asyncio.sleep(seconds)
            goodput = (many.right - before) / seconds
            used, own = (server.cpu_seconds() - cpu) / seconds, (time.process_time() - own) / seconds
    held = goodput >= 0.8 * capacity and not (many.wrong or many.lost or many.failed)
    note = f"{capacity:.0f} answers/s with {CLIENTS} clients; {goodput:.0f} with 2000 ({goodput / capacity:.0%})"
    note += f"; cores used: server {alone:.2f} and {used:.2f}, the 2000 clients {own:.2f}"
    return Result(many, held, note)


async def _steps(server: Server) -> int:
    """How many steps of the slow model take about 10 ms."""
    connection = await Connection.open(server.port)
    steps = 100
    for _ in range(12):
        began = time.perf_counter()
        answer = await connection.ask(*_slow_request(steps))
        if answer.status != 200:
            raise SystemExit(f"hard/slow was answered {answer.status}: {answer.body!r}")
        if time.perf_counter() - began > 0.01:
            break
        steps *= 2
    connection.close()
    return steps


def _slow_request(steps: int) -> tuple[str, bytes]:
    return "/v1/models/hard:predict", json.dumps({"signature_name": "slow", "instances": [steps]}).encode()


@contextlib.asynccontextmanager
async def _hungry(server: Server, clients: int, steps: int) -> AsyncIterator[Tally]:
    """Clients of the slow model; one that is refused asks again, sooner than it was told to."""
    tally = Tally()

    async def one(number: int) -> None:
        asked = steps + number % 16
        connection = None
        while True:
            try:
                connection = connection or await Connection.open(server.port)
                answer = await connection.ask(*_slow_request(asked))
            except (OSError, Lost) as error:
                tally.lost += 1
                tally.problem(str(error))
                connection = None
                await asyncio.sleep(0.1)
                continue
            await _count(tally, answer, asked)

    tasks = [asyncio.create_task(one(number)) for number in range(clients)]
    try:
        yield tally
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _count(tally: Tally, answer: Answer, asked: int) -> None:
    if answer.status == 200:
        if json.loads(answer.body)["predictions"] == [float(asked)]:
            tally.right += 1
        else:
            tally.wrong += 1
            tally.problem(f"{asked}: {answer.body!r}")
    elif answer.status in (429, 503) and "retry-after" in answer.headers:
        tally.refused += 1
        await asyncio.sleep(AGAIN_SECONDS)
    else:
        tally.failed[answer.status] += 1
        tally.problem(f"{answer.status}: {answer.body!r}")


CROWDS: dict[str, Callable[[World, float], Awaitable[Result]]] = {
    "10,000 idle connections": idle,
    "slowloris": slow,
    "clients leave": leaving,
    "flood": flood,
}
