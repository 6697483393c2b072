"""Changes and failures under load: new versions, a lost repository, killed workers, aborting models, SIGTERM."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.processes import Server
from benchmarks.reliability.client import Connection, Counters, Load, Lost
from benchmarks.reliability.world import World, status, workers
from seaway.protocols import tfserving

CLIENTS = 16
WAIT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Result:
    """`counters` of the well-behaved clients; `passed`: whether all requirements held; `note`: further results."""

    counters: Counters
    passed: bool
    note: str


Scenario = Callable[[World, float], Awaitable[Result]]


def clean(counters: Counters) -> bool:
    return counters.correct > 0 and not (counters.wrong or counters.lost or counters.failed or counters.rejected)


async def new_versions(world: World, seconds: float) -> Result:
    """New versions are published repeatedly; every response is that of the version it names."""
    with world.serve() as server:
        async with Load(server.port, CLIENTS, world.offsets) as load:
            for which in (1, 0, 1):
                await asyncio.sleep(seconds / 4)
                number = await asyncio.to_thread(world.publish, which)
                await _until(server, "half", number, "AVAILABLE")
            await asyncio.sleep(seconds / 4)
        counters = load.counters
    return Result(
        counters, clean(counters) and len(counters.versions) == 4, f"responses by version: {_counts(counters)}"
    )


async def corrupt_versions(world: World, seconds: float) -> Result:
    """Versions that cannot be loaded arrive, then a good one."""
    with world.serve() as server:
        async with Load(server.port, CLIENTS, world.offsets) as load:
            for _ in range(2):
                number = await asyncio.to_thread(world.publish, 1, True)
                await _until(server, "half", number, "END")
                await asyncio.sleep(seconds / 4)
            number = await asyncio.to_thread(world.publish, 1)
            await _until(server, "half", number, "AVAILABLE")
            await asyncio.sleep(seconds / 4)
        counters = load.counters
    passed = clean(counters) and set(counters.versions) == {"half/1", "half/4"}
    return Result(counters, passed, f"responses by version: {_counts(counters)}")


async def repository_vanishes(world: World, seconds: float) -> Result:
    """The repository disappears for a while, and returns with one more version."""
    away = world.repository.with_name("away")
    with world.serve() as server:
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds / 4)
            world.repository.rename(away)
            await asyncio.sleep(seconds / 2)
            away.rename(world.repository)
            number = await asyncio.to_thread(world.publish, 1)
            await _until(server, "half", number, "AVAILABLE")
            await asyncio.sleep(seconds / 4)
        counters = load.counters
    return Result(
        counters, clean(counters) and len(counters.versions) == 2, f"gone for {seconds / 2:.0f} s; {_counts(counters)}"
    )


async def workers_killed(world: World, seconds: float) -> Result:
    """A worker gets kill -9 every few seconds: only the requests that it was running may fail, with a response."""
    with world.serve() as server:
        kills, began = 0, time.monotonic()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            while time.monotonic() < began + seconds or kills < 3:
                await asyncio.sleep(3)
                for pid in (await asyncio.to_thread(workers, server))[:1]:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            before = load.counters.correct
            await _until_correct(load, before + 100)
        counters = load.counters
    hurt = counters.failed.total() + counters.rejected
    passed = counters.wrong == counters.lost == 0 and set(counters.failed) <= {500, 503}
    return Result(counters, passed, f"{kills} kills, {hurt} requests failed with a response: {hurt / kills:.1f} a kill")


async def model_aborts(world: World, seconds: float) -> Result:
    """Inputs that kill the worker are sent repeatedly, alongside the others' requests."""
    attacks = (
        ("/v1/models/hard:predict", {"signature_name": "conv", "instances": [1.0]}),  # TensorFlow aborts on this rank
        ("/v1/models/aborting:predict", {"instances": [-1.0]}),  # and here an operator aborts
    )
    attacker = Counters()
    with world.serve("--allow-op", "Abort") as server:
        pids = set(workers(server))
        for model in ("hard", "aborting"):
            await _until(server, model, 1, "AVAILABLE")
        began = time.monotonic()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            while time.monotonic() < began + seconds:
                for path, document in attacks:
                    await _attack(server, path, document, attacker)
                pids |= set(await asyncio.to_thread(workers, server))
                await asyncio.sleep(0.05)
            await _until_correct(load, load.counters.correct + 100)
        counters = load.counters
    note = f"the attacker got {dict(attacker.failed)}, lost {attacker.lost}; {len(pids)} worker processes seen"
    passed = (
        counters.correct > 0 and not (counters.wrong or counters.lost or attacker.lost) and 200 not in attacker.failed
    )
    return Result(counters, passed, note)


async def _attack(server: Server, path: str, document: object, attacker: Counters) -> None:
    connection = await Connection.open(server.port)
    try:
        response = await connection.send(path, json.dumps(document).encode())
        attacker.failed[response.status] += 1
    except Lost as error:
        attacker.lost += 1
        attacker.problem(str(error))
    connection.close()


async def sigterm(world: World, seconds: float) -> Result:
    """SIGTERM under load: all requests in flight get responses, and the exit status is 0."""
    with world.serve() as server:
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds / 2)
            load.server_stopping = True
            began = time.monotonic()
            exit_status = await asyncio.to_thread(server.stop)
            took = time.monotonic() - began
        counters = load.counters
    return Result(counters, clean(counters) and exit_status == 0, f"exit status {exit_status} after {took:.1f} s")


async def full_batches(world: World, seconds: float) -> Result:
    """Many concurrent clients of three protocols, so that batches are full: each gets its own response."""
    with world.serve() as server:
        async with Load(server.port, 256, world.offsets) as load:
            await asyncio.sleep(seconds)
        counters = load.counters
    return Result(counters, clean(counters), f"256 connections, {counters.correct / seconds:.0f} responses/s")


def _counts(counters: Counters) -> str:
    return ", ".join(f"{name.partition('/')[2]}: {count}" for name, count in sorted(counters.versions.items()))


async def _until(server: Server, model: str, version: int, state: str) -> None:
    """Waits until the version has that state. Stops the benchmark if it never does."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while time.monotonic() < deadline:
        if await asyncio.to_thread(partial(_state, server, model, version)) == state:
            return
        await asyncio.sleep(0.1)
    raise SystemExit(f"{model}/{version} was never {state}: {status(server)}\n{server.tail_log()}")


def _state(server: Server, model: str, version: int) -> str:
    statuses = tfserving.read_status(server.get(f"/v1/models/{model}"))
    return next((s.state for s in statuses if s.version == version), "")


async def _until_correct(load: Load, wanted: int) -> None:
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while load.counters.correct < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"the server did not recover: {load.counters}")
        await asyncio.sleep(0.05)
