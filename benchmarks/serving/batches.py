"""Many images per request: compared with the model alone, binary with JSON, and throughput by batch size."""

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
from benchmarks.tables import median_or_nan, table
from seaway.platform import cgroup

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
SIZE_CONNECTIONS = 4
LARGE = 128
THREADS = sorted({1, cgroup.cores()})


def bare(backend: str, version: Path, rows: int, threads: int) -> dict[str, Any]:
    """The result of benchmarks.serving.bare: the model alone, in a separate process."""
    command = [sys.executable, "-m", "benchmarks.serving.bare", backend, str(version)]
    command += ["--rows", str(rows), "--threads", str(threads)]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"the model alone failed:\n{done.stderr[-2000:]}")
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def thirty_two(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    """p50 of 32 images as JSON over one connection, compared with the model alone; alternating."""
    version, case = prepare.version(models), Cases(prepare.version(models)).tfserving(32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            alone: dict[int, list[float]] = defaultdict(list)
            served = []
            for _ in range(rounds):
                for threads in THREADS:
                    alone[threads].append(bare(backend, version, 32, threads)["p50_us"] / 1e3)
                with prepare.ours(models, Path(folder), backend) as server:
                    cases.check(server.port, case)
                    wrk.run(server.port, case, 1, 1)
                    served.append(wrk.run(server.port, case, 1, seconds))
            fastest = min(median_or_nan(times) for times in alone.values())
            p50 = median_or_nan(run.p50_ms for run in served)
            verdict = "met" if p50 < 2 * fastest else "MISSED"
            times = [f"{median_or_nan(alone[threads]):.2f}" for threads in THREADS]
            rate = median_or_nan(run.rate for run in served)
            bad = sum(run.bad for run in served)
            rows.append([backend, *times, f"{p50:.2f}", f"{p50 / fastest:.2f}", verdict, f"{rate:.0f}", bad])
    alone_heads = [f"model alone, {threads} thread{'s' * (threads > 1)}, ms" for threads in THREADS]
    return table(["backend", *alone_heads, "served p50 ms", "÷ fastest", "< 2", "requests/s", "not 2xx"], rows)


def binary_against_json(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    """Images per second at 128 images per request, in GraphPipe and in JSON, alternating on the same server."""
    made = Cases(prepare.version(models))
    pair = (made.tfserving(LARGE), made.graphpipe(LARGE))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            rates: dict[tuple[str, int], list[float]] = defaultdict(list)
            for _ in range(rounds):
                with prepare.ours(models, Path(folder), backend) as server:
                    for connections in (1, 8):
                        for case in pair:
                            cases.check(server.port, case)
                            wrk.run(server.port, case, connections, 1)
                            run = wrk.run(server.port, case, connections, seconds)
                            rates[case.title, connections].append(run.rate * LARGE)
            for connections in (1, 8):
                text, binary = (median_or_nan(rates[case.title, connections]) for case in pair)
                ratio = binary / text
                verdict = (
                    "target 6 met" if ratio >= 6 else "minimum 3 met, target 6" if ratio >= 3 else "minimum 3 MISSED"
                )
                rows.append([backend, connections, f"{text:.0f}", f"{binary:.0f}", f"{ratio:.2f}", verdict])
    return table(["backend", "connections", "JSON images/s", "GraphPipe images/s", "ratio", "verdict"], rows)


def sizes(models: Path, backends: Sequence[str], seconds: float) -> str:
    """Images per second by images per request, at four connections."""
    made = Cases(prepare.version(models))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            with prepare.ours(models, Path(folder), backend) as server:
                for name in ("tfserving", "graphpipe"):
                    rates = []
                    for size in SIZES:
                        case = getattr(made, name)(size)
                        cases.check(server.port, case)
                        wrk.run(server.port, case, SIZE_CONNECTIONS, 1)
                        rates.append(wrk.run(server.port, case, SIZE_CONNECTIONS, seconds).rate * size)
                    title = getattr(made, name)().title
                    rows.append([backend, title, *(f"{rate:.0f}" for rate in rates)])
    return table(["backend", "images/s at batch size", *map(str, SIZES)], rows)
