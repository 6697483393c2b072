"""Many images a request: against the compute alone, binary against JSON, and rows a second against the batch's size."""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.serving import cases, prepare, wrk
from benchmarks.serving.cases import Cases
from benchmarks.tables import middle, table
from seaway.platform import cgroup

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
SIZE_CONNECTIONS = 4
LARGE = 128
THREADS = sorted({1, cgroup.cores()})


def bare(backend: str, version: Path, rows: int, threads: int) -> dict[str, Any]:
    """What benchmarks.serving.bare says of the model alone, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving.bare", backend, str(version)]
    command += ["--rows", str(rows), "--threads", str(threads)]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"the model alone failed:\n{done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def thirty_two(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    """p50 of 32 images as JSON over one connection, against the compute alone; alternating."""
    version, case = prepare.version(models), Cases(prepare.version(models)).tfserving(32)
    rows = []
    with tempfile.TemporaryDirectory() as held:
        for backend in backends:
            alone: dict[int, list[float]] = defaultdict(list)
            served = []
            for _ in range(rounds):
                for threads in THREADS:
                    alone[threads].append(bare(backend, version, 32, threads)["p50_us"] / 1e3)
                with prepare.ours(models, Path(held), backend) as server:
                    cases.check(server.port, case)
                    wrk.run(server.port, case, 1, 1)
                    served.append(wrk.run(server.port, case, 1, seconds))
            fastest = min(middle(times) for times in alone.values())
            p50 = middle(run.p50_ms for run in served)
            verdict = "met" if p50 < 2 * fastest else "MISSED"
            times = [f"{middle(alone[threads]):.2f}" for threads in THREADS]
            rate = middle(run.rate for run in served)
            bad = sum(run.bad for run in served)
            rows.append([backend, *times, f"{p50:.2f}", f"{p50 / fastest:.2f}", verdict, f"{rate:.0f}", bad])
    alone_heads = [f"compute alone, {threads} thread{'s' * (threads > 1)}, ms" for threads in THREADS]
    return table(["backend", *alone_heads, "served p50 ms", "÷ fastest", "< 2", "requests/s", "not 2xx"], rows)


def binary_against_json(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    """Images a second at 128 images a request, in GraphPipe and in JSON, alternating on the same server."""
    made = Cases(prepare.version(models))
    pair = (made.tfserving(LARGE), made.graphpipe(LARGE))
    rows = []
    with tempfile.TemporaryDirectory() as held:
        for backend in backends:
            rates: dict[tuple[str, int], list[float]] = defaultdict(list)
            for _ in range(rounds):
                with prepare.ours(models, Path(held), backend) as server:
                    for connections in (1, 8):
                        for case in pair:
                            cases.check(server.port, case)
                            wrk.run(server.port, case, connections, 1)
                            run = wrk.run(server.port, case, connections, seconds)
                            rates[case.title, connections].append(run.rate * LARGE)
            for connections in (1, 8):
                text, binary = (middle(rates[case.title, connections]) for case in pair)
                ratio = binary / text
                verdict = "aim 6 met" if ratio >= 6 else "must 3 met, aim 6" if ratio >= 3 else "must 3 MISSED"
                rows.append([backend, connections, f"{text:.0f}", f"{binary:.0f}", f"{ratio:.2f}", verdict])
    return table(["backend", "connections", "JSON images/s", "GraphPipe images/s", "ratio", "bar"], rows)


def sizes(models: Path, backends: Sequence[str], seconds: float) -> str:
    """Images a second against the images a request holds, at four connections."""
    made = Cases(prepare.version(models))
    rows = []
    with tempfile.TemporaryDirectory() as held:
        for backend in backends:
            with prepare.ours(models, Path(held), backend) as server:
                for name in ("tfserving", "graphpipe"):
                    rates = []
                    for size in SIZES:
                        case = getattr(made, name)(size)
                        cases.check(server.port, case)
                        wrk.run(server.port, case, SIZE_CONNECTIONS, 1)
                        rates.append(wrk.run(server.port, case, SIZE_CONNECTIONS, seconds).rate * size)
                    title = getattr(made, name)().title
                    rows.append([backend, title, *(f"{rate:.0f}" for rate in rates)])
    return table(["backend", "images/s at a batch of", *map(str, SIZES)], rows)
