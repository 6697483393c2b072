"""Overload and misbehaving clients: idle connections, slowloris, disconnects, and more requests than capacity."""

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.processes import Server
from benchmarks.reliability.client import Connection, Counters, Load, Lost, Response, request
from benchmarks.reliability.scenarios import CLIENTS, Result, clean
from benchmarks.reliability.world import World

IDLE_CONNECTIONS = 10_000
MAX_OPENING = 200  # connections being opened at the same time
MAX_MB = 256  # that the slow clients may cost the server in total
SLOW_TIMEOUT_S = 50.0  # the server must close them by then; its limit for a request is 30
RETRY_AFTER_S = 0.5
DRIP_INTERVAL_S = 1.0  # between two bytes of a slow client


async def idle(world: World, seconds: float) -> Result:
    """10,000 connections that are idle after one request."""
    with world.serve() as server:
        start = server.pss_bytes()
        gate = asyncio.Semaphore(MAX_OPENING)

        async def one() -> Connection | None:
            async with gate:
                with contextlib.suppress(OSError, Lost):
                    connection = await Connection.open(server.port)
                    await connection.send("/v1/models/half:predict", b'{"instances": [1.0]}')
                    return connection
                return None

        made = await asyncio.gather(*(one() for _ in range(IDLE_CONNECTIONS)))
        opened = [connection for connection in made if connection is not None]
        passed = server.pss_bytes()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds)
        alive = sum(not connection.ended for connection in opened)
        for connection in opened:
            connection.close()
        counters = load.counters
    grown = (passed - start) / 1e6
    note = f"{len(opened)} opened, {alive} still open after {seconds:.0f} s, {grown:.0f} MB for them"
    return Result(counters, clean(counters) and len(opened) == IDLE_CONNECTIONS, note)


async def slowloris(world: World, seconds: float) -> Result:
    """Clients that send headers or bodies at a byte a second, and clients that send requests and never read."""
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: bench\r\nX-Drip: "
    body = request("/v1/models/half:predict", b" " * 1000)[:-990]
    many = json.dumps({"instances": [0.5] * 4000}).encode()
    seconds = max(seconds, SLOW_TIMEOUT_S)
    with world.serve() as server:
        start = server.pss_bytes()
        clients = [_drip(server, head) for _ in range(300)] + [_drip(server, body) for _ in range(300)]
        clients += [_never_read(server, request("/v1/models/half:predict", many)) for _ in range(100)]
        tasks = [asyncio.create_task(one) for one in clients]
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds)
        passed = server.pss_bytes()
        closed = [sum(task.done() for task in part) for part in (tasks[:300], tasks[300:600], tasks[600:])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        counters = load.counters
    grown = (passed - start) / 1e6
    note = (
        f"closed by the server within {seconds:.0f} s: {closed[0]} of 300 slow headers, {closed[1]} of 300 slow "
        f"bodies, {closed[2]} of 100 that never read; {grown:.0f} MB for them"
    )
    passed = clean(counters) and grown < MAX_MB and closed == [300, 300, 100]
    return Result(counters, passed, note)


async def _drip(server: Server, first: bytes) -> None:
    """Sends `first`, then a byte at a time, until the server closes the connection."""
    connection = await Connection.open(server.port)
    over = asyncio.create_task(connection.reader.read())  # until the server closes
    try:
        connection.writer.write(first)
        while not over.done():
            connection.writer.write(b" ")
            await asyncio.wait({over}, timeout=DRIP_INTERVAL_S)
    finally:
        over.cancel()
        connection.close()


async def _never_read(server: Server, sent: bytes) -> None:
    """Sends as much as it can and reads nothing, until the server closes the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        await loop.sock_connect(plain, ("127.0.0.1", server.port))
        with contextlib.suppress(ConnectionError):
            while True:
                await loop.sock_sendall(plain, sent)


async def disconnecting(world: World, seconds: float) -> Result:
    """Clients that disconnect within a request or before its response, with FIN or RST."""
    whole = request("/v1/models/half:predict", json.dumps({"instances": [0.5] * 500}).encode())
    count = 0
    with world.serve() as server:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            while time.monotonic() < began + seconds:
                plain = socket.socket()
                plain.setblocking(False)
                await loop.sock_connect(plain, ("127.0.0.1", server.port))
                await loop.sock_sendall(plain, whole if count % 2 else whole[: random.randrange(1, len(whole))])
                if count % 4 < 2:  # close with RST
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await asyncio.sleep(random.choice((0, 0.001, 0.005)))
                plain.close()
                count += 1
        counters = load.counters
    return Result(counters, clean(counters), f"{count} clients disconnected")


async def flood(world: World, seconds: float) -> Result:
    """Far more requests than capacity: throughput must hold, and the rest must be rejected at once."""
    with world.serve() as server:
        steps = await _steps(server)
        async with _retrying_clients(server, CLIENTS, steps) as few:
            await asyncio.sleep(1)
            before, cpu = few.correct, server.cpu_s()
            await asyncio.sleep(seconds / 2)
            capacity, alone = (few.correct - before) / (seconds / 2), (server.cpu_s() - cpu) / (seconds / 2)
        async with _retrying_clients(server, 2000, steps) as many:
            await asyncio.sleep(seconds / 2)
            before, cpu, own = many.correct, server.cpu_s(), time.process_time()
            await asyncio.sleep(seconds)
            goodput = (many.correct - before) / seconds
            used, own = (server.cpu_s() - cpu) / seconds, (time.process_time() - own) / seconds
    passed = goodput >= 0.8 * capacity and not (many.wrong or many.lost or many.failed)
    note = f"{capacity:.0f} responses/s with {CLIENTS} clients; {goodput:.0f} with 2000 ({goodput / capacity:.0%})"
    note += f"; cores used: server {alone:.2f} and {used:.2f}, the 2000 clients {own:.2f}"
    return Result(many, passed, note)


async def _steps(server: Server) -> int:
    """The number of steps of the slow model that take about 10 ms."""
    connection = await Connection.open(server.port)
    steps = 100
    for _ in range(12):
        began = time.perf_counter()
        response = await connection.send(*_slow_request(steps))
        if response.status != 200:
            raise SystemExit(f"hard/slow: status {response.status}: {response.body!r}")
        if time.perf_counter() - began > 0.01:
            break
        steps *= 2
    connection.close()
    return steps


def _slow_request(steps: int) -> tuple[str, bytes]:
    return "/v1/models/hard:predict", json.dumps({"signature_name": "slow", "instances": [steps]}).encode()


@contextlib.asynccontextmanager
async def _retrying_clients(server: Server, clients: int, steps: int) -> AsyncIterator[Counters]:
    """Clients of the slow model; rejected ones retry earlier than Retry-After."""
    counters = Counters()

    async def one(number: int) -> None:
        total = steps + number % 16
        connection = None
        while True:
            try:
                connection = connection or await Connection.open(server.port)
                response = await connection.send(*_slow_request(total))
            except (OSError, Lost) as error:
                counters.lost += 1
                counters.problem(str(error))
                connection = None
                await asyncio.sleep(0.1)
                continue
            await _count(counters, response, total)

    tasks = [asyncio.create_task(one(number)) for number in range(clients)]
    try:
        yield counters
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _count(counters: Counters, response: Response, total: int) -> None:
    if response.status == 200:
        if json.loads(response.body)["predictions"] == [float(total)]:
            counters.correct += 1
        else:
            counters.wrong += 1
            counters.problem(f"{total}: {response.body!r}")
    elif response.status in (429, 503) and "retry-after" in response.headers:
        counters.rejected += 1
        await asyncio.sleep(RETRY_AFTER_S)
    else:
        counters.failed[response.status] += 1
        counters.problem(f"{response.status}: {response.body!r}")


SCENARIOS: dict[str, Callable[[World, float], Awaitable[Result]]] = {
    "10,000 idle connections": idle,
    "slowloris": slowloris,
    "clients disconnect": disconnecting,
    "flood": flood,
}
