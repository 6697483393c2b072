"""Latency while a version of resnet18 is loaded and replaces the one before, compared with the same load without."""

import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import venvs, verdicts
from benchmarks.processes import Server
from benchmarks.serving import cases, grpc_client, prepare, versions
from benchmarks.serving.cases import Case, Cases
from benchmarks.serving.grpc_client import Run
from benchmarks.tables import median_or_nan, table

NET = "resnet18"
LOAD = 0.4  # share of the capacity
CONNECTIONS = {"conv": 32, NET: 8}  # for measuring the capacity; an open loop uses as many
CAPACITY_SHARE = 1 / 3  # of a window's duration, for measuring the capacity
SWAP_AT = 0.1  # of the window
MIN_ROUNDS, MIN_DURATION_S = 7, 30
LIMITS = (1.5, 1.2)  # maximum and target
NOTE = f"""\
OIP ModelInfer over gRPC, one example a request, Poisson arrivals at {LOAD:.0%} of the capacity (a closed loop on
{CONNECTIONS["conv"]} connections, {CONNECTIONS[NET]} for resnet18), to conv beside the swap and to resnet18 itself. A
window with a swap: a new version of resnet18 is published when a tenth of it has passed. Latencies count from when a
request was due. Ratio: median ÷ median over the rounds, of the p99 of windows with and without a swap, the order of
which alternates; the interval, of 95 %, is a bootstrap over rounds. Verdicts need {MIN_ROUNDS} rounds of
{MIN_DURATION_S} s. `swap s`: from publishing until the new version alone is loaded; "longer" if a window ended before.
"""


Load = tuple[Case, int, float, float, int]  # the arguments of grpc_client.run after the port


@dataclass(frozen=True)
class Window:
    run: Run
    swap_s: float = 0.0  # 0: without a swap
    inside: bool = True  # whether the swap ended before the window


def measure(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    resnet = prepare.shipped(NET, "3x224x224")
    conv = prepare.version(models)
    targets = (Cases(conv).grpc_infer(), Cases(resnet, NET, "output_0").grpc_infer())
    rows = []
    for backend in backends:
        with tempfile.TemporaryDirectory(dir=venvs.HOME) as folder:  # on the same disk, for hard links
            repository = Path(folder, "models")
            repository.mkdir()
            versions.publish(conv, repository, "conv")
            first = versions.publish(resnet, repository, NET)
            with versions.serve(repository, Path(folder), backend) as server:
                for model in ("conv", NET):
                    versions.wait_until_only(server, model, first)
                for model, case in zip(("conv", NET), targets, strict=True):
                    rows.append([backend, model, *_row(server, repository, resnet, case, model, rounds, seconds)])
    head = ["backend", "requests to", "capacity/s", "load/s", "p50 ms", "p50 ms, swap", "p99 ms", "p99 ms, swap"]
    head += ["ratio of p99", "verdict", "swap s", "lag p99 ms", "failed"]
    return NOTE + "\n" + table(head, rows)


def _row(
    server: Server, repository: Path, version: Path, case: Case, model: str, rounds: int, seconds: float
) -> list[object]:
    cases.check_grpc(server.grpc_port, case)
    grpc_client.run(server.grpc_port, case, CONNECTIONS[model], max(1.0, seconds / 10))
    capacity = grpc_client.run(server.grpc_port, case, CONNECTIONS[model], max(1.0, seconds * CAPACITY_SHARE)).rate
    calm, swapped = list[Window](), list[Window]()
    for number in range(rounds):
        for swapping in (True, False) if number % 2 else (False, True):
            # Both windows of a round have the same arrivals
            load = (case, CONNECTIONS[model], seconds, LOAD * capacity, number + 1)
            window = _swap(server, repository, version, load) if swapping else _calm(server, load)
            (swapped if swapping else calm).append(window)
            kind = f"swap in {window.swap_s:.1f} s" if swapping else "no swap"
            text = f"p99 {window.run.p99_ms:.2f} ms, {window.run.requests} requests"
            print(f"round {number + 1}: {model}, {kind}: {text}", file=sys.stderr, flush=True)
    cases.check_grpc(server.grpc_port, case)
    verdict_needs = f"needs {MIN_ROUNDS} rounds of {MIN_DURATION_S} s"
    enough = rounds >= MIN_ROUNDS and seconds >= MIN_DURATION_S
    return [f"{capacity:.0f}", f"{LOAD * capacity:.0f}", *_cells(calm, swapped, "" if enough else verdict_needs)]


def _cells(calm: Sequence[Window], swapped: Sequence[Window], no_verdict: str) -> list[object]:
    """The row's cells from p50 on; `no_verdict`: why there is none."""
    times = [
        f"{median_or_nan(getattr(one.run, name) for one in windows):.2f}"
        for name in ("p50_ms", "p99_ms")
        for windows in (calm, swapped)
    ]
    ratio = verdicts.ratio([one.run.p99_ms for one in swapped], [one.run.p99_ms for one in calm])
    swap_s = f"{median_or_nan(one.swap_s for one in swapped):.1f}"
    if not all(one.inside for one in swapped):
        swap_s += ", longer"
    lag = max(one.run.lag_p99_ms for one in (*calm, *swapped))
    failed = sum(one.run.bad for one in (*calm, *swapped))
    return [*times, ratio, no_verdict or verdicts.at_most(ratio.value, LIMITS), swap_s, f"{lag:.2f}", failed]


def _calm(server: Server, load: Load) -> Window:
    return Window(grpc_client.run(server.grpc_port, *load))


def _swap(server: Server, repository: Path, version: Path, load: Load) -> Window:
    """A window in which a new version is published and loaded. Returns once the version before it is unloaded."""
    seconds, took = load[2], list[float]()
    began = time.monotonic()

    def publish() -> None:
        time.sleep(SWAP_AT * seconds)
        published = time.monotonic()
        number = versions.publish(version, repository, NET)
        versions.wait_until_only(server, NET, number)
        took.extend((time.monotonic() - published, time.monotonic() - began))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    run = grpc_client.run(server.grpc_port, *load)
    thread.join(versions.TIMEOUT_S)
    if not took:
        raise SystemExit(f"the new version of {NET} was not loaded; the server's log:\n{server.tail_log()}")
    inside = took[1] < seconds
    if inside and any(name.startswith(f"{NET}/") for name in run.models) and len(run.models) < 2:
        raise SystemExit(f"only {', '.join(run.models)} responded, although it was replaced")
    return Window(run, took[0], inside)
