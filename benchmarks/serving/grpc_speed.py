"""gRPC: requests per second beside servers that return a constant response, and beside MLServer's best."""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

from benchmarks import verdicts
from benchmarks.processes import Server
from benchmarks.serving import cases, grpc_client, prepare
from benchmarks.serving.cases import Case, Cases
from benchmarks.serving.grpc_client import Run
from benchmarks.tables import median_or_nan, table, value_range

CONNECTIONS = (1, 8, 32)
WARM_UP_S = 1.0
CONSTANT = ("constant, threads", "constant, aio")
OF_CONSTANT = (0.6, 0.75)  # minimum and target, as multiples of the better of both
OF_MLSERVER = {1: (1.3, 2.0), 8: (1.5, 2.0), 32: (1.5, 2.0)}
START_TIMEOUT_S = 60.0

NOTE = """\
One float32 image of 28 by 28 a call; in ModelInfer as raw contents, in both directions. One call at a time on each
connection. Constant: grpcio servers that return our response's bytes and do not parse the request, one with 8 threads,
one of grpc.aio on uvloop; the better of both counts. MLServer: the best of its numbers of workers counts. Our server
has its HTTP port open as well. The client is benchmarks/serving/grpc_client, which takes about half of ghz's CPU time.
"""


@dataclass(frozen=True)
class Sample:
    run: Run
    cpu_ms: float  # the server's, a request


Samples = dict[tuple[str, str, int], list[Sample]]  # (server, case, connections) → one a round


def measure(models: Path, backends: Sequence[str], rounds: int, seconds: float, only: Sequence[str]) -> Samples:
    """Each round starts every server anew, one at a time, ours between the others."""
    made = Cases(prepare.version(models))
    used = [case for case in (made.grpc_predict(), made.grpc_infer()) if _wanted(case, only)]
    samples: Samples = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        responses = _responses(models, backends[0], Path(folder), used)
        for number in range(rounds):
            for name, start, served in _servers(models, backends, Path(folder), responses, used):
                with start() as server:
                    for case in served:
                        if name not in CONSTANT:
                            cases.check_grpc(server.grpc_port, case)
                        grpc_client.run(server.grpc_port, case, 8, WARM_UP_S)
                        for connections in CONNECTIONS:
                            sample = _sample(server, case, connections, seconds)
                            samples[name, case.title, connections].append(sample)
                            rate = f"{sample.run.rate:.0f}/s"
                            print(f"round {number + 1}: {name}, {case.title}, {connections}: {rate}", flush=True)
    return samples


def _wanted(case: Case, only: Sequence[str]) -> bool:
    return not only or any(word.lower() in case.title.lower() for word in only)


def _responses(models: Path, backend: str, folder: Path, used: Sequence[Case]) -> dict[str, Path]:
    """A file with a response of ours, for each case: what the constant servers return."""
    files = {}
    with prepare.ours(models, folder, backend, "--grpc-port", "0") as server:
        for number, case in enumerate(used):
            files[case.title] = folder / f"response-{number}"
            files[case.title].write_bytes(cases.check_grpc(server.grpc_port, case))
    return files


def _servers(
    models: Path, backends: Sequence[str], folder: Path, responses: dict[str, Path], used: Sequence[Case]
) -> Iterator[tuple[str, partial[Server], Sequence[Case]]]:
    infer = [case for case in used if case.path.endswith("/ModelInfer")]
    for kind, workers, backend in zip_longest(CONSTANT, prepare.WORKERS, backends):
        for case in used if kind else ():
            yield kind, partial(_constant, kind.split()[-1], responses[case.title], folder), [case]
        if workers is not None and infer:
            yield f"MLServer/{workers}", partial(prepare.mlserver, models, folder, workers), infer
        if backend is not None:
            yield backend, partial(prepare.ours, models, folder, backend, "--grpc-port", "0"), used


def _constant(kind: str, response: Path, folder: Path) -> Server:
    command = [sys.executable, "-m", "benchmarks.serving.constant_server", kind, str(response)]
    server = Server(command, folder / f"constant-{kind}.log")
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        if (printed := server.log.read_text()).endswith("\n") and printed.strip().isdecimal():
            server.grpc_port = int(printed)
            return server
        time.sleep(0.02)
    server.__exit__()
    raise SystemExit(f"the constant server did not print its port:\n{server.tail_log()}")


def _sample(server: Server, case: Case, connections: int, seconds: float) -> Sample:
    before = server.cpu_s()
    run = grpc_client.run(server.grpc_port, case, connections, seconds)
    return Sample(run, (server.cpu_s() - before) / max(1, run.requests) * 1e3)


def best(samples: Samples, title: str, connections: int, prefix: str) -> float:
    """The highest median among the servers whose names begin so; NaN if none was measured."""
    medians = [
        median_or_nan(sample.run.rate for sample in listed)
        for (name, case, count), listed in samples.items()
        if name.startswith(prefix) and (case, count) == (title, connections)
    ]
    return max(medians, default=float("nan"))


def report(samples: Samples) -> str:
    """One row for each server, protocol and number of connections."""
    rows = []
    for (name, title, connections), listed in sorted(samples.items(), key=lambda item: (item[0][1], item[0][2])):
        rate = median_or_nan(sample.run.rate for sample in listed)
        ours = not name.startswith(("constant", "MLServer"))
        constant, peer = (rate / best(samples, title, connections, prefix) for prefix in ("constant", "MLServer"))
        peer_limits = OF_MLSERVER[connections] if ours and peer == peer else None
        rows.append(
            [
                title,
                connections,
                name.replace("MLServer/", "MLServer, workers "),
                f"{rate:.0f}",
                value_range(sample.run.rate for sample in listed),
                f"{constant:.2f}",
                verdicts.at_least(constant, OF_CONSTANT if ours else None),
                f"{peer:.2f}" if peer == peer else "",
                verdicts.at_least(peer, peer_limits),
                f"{median_or_nan(sample.cpu_ms for sample in listed):.3f}",
                f"{median_or_nan(sample.run.cpu_ms for sample in listed):.3f}",
                f"{median_or_nan(sample.run.p50_ms for sample in listed):.2f}",
                f"{median_or_nan(sample.run.p99_ms for sample in listed):.2f}",
                sum(sample.run.bad for sample in listed),
            ]
        )
    head = ["protocol", "connections", "server", "requests/s", "range of rounds", "÷ constant", "verdict"]
    head += ["÷ MLServer's best", "verdict", "server CPU ms", "client CPU ms", "p50 ms", "p99 ms", "failed"]
    return NOTE + "\n" + table(head, rows)
