"""What may happen to a server that changes, loses its workers or its volume, or is told to end, under load."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.processes import Server
from benchmarks.reliability.client import Connection, Load, Lost, Tally
from benchmarks.reliability.world import World, status, workers
from seaway.protocols import tfserving

CLIENTS = 16
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Result:
    """`tally` of the clients that did nothing wrong; `held`: whether all was as it is to be; `note`: what else was."""

    tally: Tally
    held: bool
    note: str


Scenario = Callable[[World, float], Awaitable[Result]]


def clean(tally: Tally) -> bool:
    return tally.right > 0 and not (tally.wrong or tally.lost or tally.failed or tally.refused)


async def swapped(world: World, seconds: float) -> Result:
    """New versions are published again and again; every answer is that of the version it names."""
    with world.serve() as server:
        async with Load(server.port, CLIENTS, world.offsets) as load:
            for which in (1, 0, 1):
                await asyncio.sleep(seconds / 4)
                number = await asyncio.to_thread(world.publish, which)
                await _until(server, "half", number, "AVAILABLE")
            await asyncio.sleep(seconds / 4)
        tally = load.tally
    return Result(tally, clean(tally) and len(tally.versions) == 4, f"answers by version: {_counts(tally)}")


async def corrupt(world: World, seconds: float) -> Result:
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
        tally = load.tally
    held = clean(tally) and set(tally.versions) == {"half/1", "half/4"}
    return Result(tally, held, f"answers by version: {_counts(tally)}")


async def vanished(world: World, seconds: float) -> Result:
    """The volume is gone for a while, and comes back with one version more."""
    away = world.volume.with_name("away")
    with world.serve() as server:
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds / 4)
            world.volume.rename(away)
            await asyncio.sleep(seconds / 2)
            away.rename(world.volume)
            number = await asyncio.to_thread(world.publish, 1)
            await _until(server, "half", number, "AVAILABLE")
            await asyncio.sleep(seconds / 4)
        tally = load.tally
    return Result(tally, clean(tally) and len(tally.versions) == 2, f"gone for {seconds / 2:.0f} s; {_counts(tally)}")


async def killed(world: World, seconds: float) -> Result:
    """A worker gets kill -9 every few seconds: only what it was working on may fail, and with an answer."""
    with world.serve() as server:
        kills, began = 0, time.monotonic()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            while time.monotonic() < began + seconds or kills < 3:
                await asyncio.sleep(3)
                for pid in (await asyncio.to_thread(workers, server))[:1]:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            before = load.tally.right
            await _until_right(load, before + 100)
        tally = load.tally
    hurt = tally.failed.total() + tally.refused
    held = tally.wrong == tally.lost == 0 and set(tally.failed) <= {500, 503}
    return Result(tally, held, f"{kills} kills, {hurt} requests failed with an answer: {hurt / kills:.1f} a kill")


async def aborting(world: World, seconds: float) -> Result:
    """Inputs that end the process that works on them are sent over and over, beside the others' requests."""
    offences = (
        ("/v1/models/hard:predict", {"signature_name": "conv", "instances": [1.0]}),  # TensorFlow aborts on this rank
        ("/v1/models/aborting:predict", {"instances": [-1.0]}),  # and here by an operator
    )
    offender = Tally()
    with world.serve("--allow-op", "Abort") as server:
        pids = set(workers(server))
        for model in ("hard", "aborting"):
            await _until(server, model, 1, "AVAILABLE")
        began = time.monotonic()
        async with Load(server.port, CLIENTS, world.offsets) as load:
            while time.monotonic() < began + seconds:
                for path, document in offences:
                    await _offend(server, path, document, offender)
                pids |= set(await asyncio.to_thread(workers, server))
                await asyncio.sleep(0.05)
            await _until_right(load, load.tally.right + 100)
        tally = load.tally
    note = f"the offender was answered {dict(offender.failed)}, lost {offender.lost}; {len(pids)} worker processes seen"
    held = tally.right > 0 and not (tally.wrong or tally.lost or offender.lost) and 200 not in offender.failed
    return Result(tally, held, note)


async def _offend(server: Server, path: str, document: object, offender: Tally) -> None:
    connection = await Connection.open(server.port)
    try:
        answer = await connection.ask(path, json.dumps(document).encode())
        offender.failed[answer.status] += 1
    except Lost as error:
        offender.lost += 1
        offender.problem(str(error))
    connection.close()


async def terminated(world: World, seconds: float) -> Result:
    """SIGTERM in the middle of it: all that was begun is answered, and the exit status is 0."""
    with world.serve() as server:
        async with Load(server.port, CLIENTS, world.offsets) as load:
            await asyncio.sleep(seconds / 2)
            load.ending = True
            began = time.monotonic()
            exit_status = await asyncio.to_thread(server.stop)
            took = time.monotonic() - began
        tally = load.tally
    return Result(tally, clean(tally) and exit_status == 0, f"exit status {exit_status} after {took:.1f} s")


async def batched(world: World, seconds: float) -> Result:
    """Many callers at once, three protocols, so that batches are full: each gets the answer to its own number."""
    with world.serve() as server:
        async with Load(server.port, 256, world.offsets) as load:
            await asyncio.sleep(seconds)
        tally = load.tally
    return Result(tally, clean(tally), f"256 connections, {tally.right / seconds:.0f} answers/s")


def _counts(tally: Tally) -> str:
    return ", ".join(f"{name.partition('/')[2]}: {count}" for name, count in sorted(tally.versions.items()))


async def _until(server: Server, model: str, version: int, state: str) -> None:
    """Until the version has that state. Stops the benchmark where it never has."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if await asyncio.to_thread(partial(_state, server, model, version)) == state:
            return
        await asyncio.sleep(0.1)
    raise SystemExit(f"{model}/{version} was never {state}: {status(server)}\n{server.last_words()}")


def _state(server: Server, model: str, version: int) -> str:
    statuses = tfserving.read_status(server.get(f"/v1/models/{model}"))
    return next((s.state for s in statuses if s.version == version), "")


async def _until_right(load: Load, wanted: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while load.tally.right < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"the server did not come back: {load.tally}")
        await asyncio.sleep(0.05)
