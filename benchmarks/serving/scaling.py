"""Scaling from one core to two, with wrk on the server's cores or on the other one."""

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving import cases, prepare, wrk
from benchmarks.serving.cases import Cases
from benchmarks.tables import median_or_nan, table
from seaway.platform import cgroup

PLACES = (("0", "0"), ("0", "1"), ("0,1", "0,1"))  # the server's cores and wrk's
CONNECTIONS = 32


def measure(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    if cgroup.cores() < 2:
        return "Only one core: nothing to compare.\n"
    made = Cases(prepare.version(models))
    used = (made.tfserving(), made.graphpipe())
    rates: dict[tuple[str, str, tuple[str, str]], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for backend in backends:
                for place in PLACES:
                    with prepare.ours(models, Path(folder), backend, cpus=place[0]) as server:
                        for case in used:
                            cases.check(server.port, case)
                            wrk.run(server.port, case, CONNECTIONS, 1, place[1])
                            run = wrk.run(server.port, case, CONNECTIONS, seconds, place[1])
                            rates[backend, case.title, place].append(run.rate)
    rows = []
    for backend in backends:
        for case in used:
            medians = [median_or_nan(rates[backend, case.title, place]) for place in PLACES]
            rows.append([backend, case.title, *(f"{rate:.0f}" for rate in medians), f"{medians[-1] / medians[0]:.2f}"])
    heads = [f"server on {server}, wrk on {client}" for server, client in PLACES]
    return f"Requests/s at {CONNECTIONS} connections.\n\n" + table(
        ["backend", "protocol", *heads, "last ÷ first"], rows
    )
