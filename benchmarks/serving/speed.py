"""Requests per second compared with MLServer's best, in alternating rounds, and CPU time per request."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

from benchmarks import verdicts
from benchmarks.processes import Server
from benchmarks.serving import cases, prepare, wrk
from benchmarks.serving.cases import Case, Cases
from benchmarks.tables import median_or_nan, table, value_range

CONNECTIONS = (1, 8, 32)
WARM_UP_S = 1.0
CONVERTED = "savedmodel, converted"
# Minimum and target at 8 and 32 connections, as multiples of MLServer's best
TARGETS = {
    ("savedmodel", "TFS REST, JSON"): (2.2, 4.0),
    ("onnx", "TFS REST, JSON"): (2.5, 4.5),
    ("savedmodel", "OIP v2, binary"): (3.0, 6.0),
    ("onnx", "OIP v2, binary"): (3.0, 6.0),
    ("savedmodel", "GraphPipe"): (3.0, 6.0),
    ("onnx", "GraphPipe"): (3.0, 6.0),
}


@dataclass(frozen=True)
class Sample:
    rate: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    bad: int


Samples = dict[tuple[str, str, int], list[Sample]]  # (server, case, connections) → one a round
Start = Callable[[Path], Server]


def measure(models: Path, backends: Sequence[str], rounds: int, seconds: float, only: Sequence[str]) -> Samples:
    """Each round starts every server anew, one at a time: MLServer with 0, 1 and 2 workers, alternating with ours."""
    made = Cases(prepare.version(models))
    ours = [c for c in (made.tfserving(), made.oip_json(), made.oip_binary(), made.graphpipe()) if _wanted(c, only)]
    samples: Samples = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for name, start, used in _servers(models, backends, ours, made.oip_json()):
                with start(Path(folder)) as server:
                    for case in used:
                        cases.check(server.port, case)
                        wrk.run(server.port, case, 8, WARM_UP_S)
                        for connections in CONNECTIONS:
                            measured = sample(server, case, connections, seconds)
                            samples[name, case.title, connections].append(measured)
                            print(
                                f"round {number + 1}: {name}, {case.title}, {connections}: {measured.rate:.0f}/s",
                                flush=True,
                            )
    return samples


def _servers(
    models: Path, backends: Sequence[str], ours: list[Case], peers: Case
) -> Iterator[tuple[str, Start, list[Case]]]:
    for workers, backend in zip_longest(prepare.WORKERS, backends):
        if workers is not None:
            yield f"MLServer/{workers}", partial(_mlserver, models, workers), [peers]
        if backend is not None:
            yield backend, partial(_ours, models, backend), ours
    if "savedmodel" in backends and (rest := [case for case in ours if case.title == "TFS REST, JSON"]):
        yield CONVERTED, partial(_ours, prepare.converted_repository(), "savedmodel"), rest


def _mlserver(models: Path, workers: int, folder: Path) -> Server:
    return prepare.mlserver(models, folder, workers)


def _ours(models: Path, backend: str, folder: Path) -> Server:
    return prepare.ours(models, folder, backend)


def sample(server: Server, case: Case, connections: int, seconds: float) -> Sample:
    before = server.cpu_s()
    run = wrk.run(server.port, case, connections, seconds)
    cpu_ms = (server.cpu_s() - before) / max(1, run.requests) * 1e3
    return Sample(run.rate, cpu_ms, run.p50_ms, run.p99_ms, run.bad)


def _wanted(case: Case, only: Sequence[str]) -> bool:
    return not only or any(word.lower() in case.title.lower() for word in only)


def best_of_mlserver(samples: Samples, connections: int) -> tuple[float, str]:
    """MLServer's highest median over its numbers of workers, and the name of that configuration."""
    names = sorted({name for name, _, count in samples if name.startswith("MLServer") and count == connections})
    medians = {
        n: median_or_nan(s.rate for k, v in samples.items() if k[0] == n and k[2] == connections for s in v)
        for n in names
    }
    name = max(medians, key=lambda n: medians[n])
    return medians[name], name


def report(samples: Samples) -> str:
    """One row for each server, protocol and number of connections."""
    rows = []
    for (name, title, connections), listed in samples.items():
        rate = median_or_nan(s.rate for s in listed)
        peer, which = best_of_mlserver(samples, connections)
        limits = TARGETS.get((name, title)) if connections in (8, 32) else None
        ratio = f"{rate / peer:.2f}" + (" (best)" if name == which else "")
        rows.append(
            [
                name.replace("MLServer/", "MLServer, workers "),
                title,
                connections,
                f"{rate:.0f}",
                value_range(s.rate for s in listed),
                ratio,
                verdicts.at_least(rate / peer, limits),
                f"{median_or_nan(s.cpu_ms for s in listed):.3f}",
                f"{median_or_nan(s.p50_ms for s in listed):.2f}",
                f"{median_or_nan(s.p99_ms for s in listed):.2f}",
                sum(s.bad for s in listed),
            ]
        )
    head = ["server", "protocol", "connections", "requests/s", "range of rounds", "÷ MLServer's best", "verdict"]
    head += ["CPU ms", "p50 ms", "p99 ms", "not 2xx"]
    return table(head, rows)
