"""From one core to two: the server on the cores that it is given, wrk on these or on the other."""

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving import cases, prepare, wrk
from benchmarks.serving.cases import Cases
from benchmarks.tables import middle, table
from seaway.platform import cgroup

PLACES = (("0", "0"), ("0", "1"), ("0,1", "0,1"))  # the server's cores and wrk's
CONNECTIONS = 32


def measure(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    if cgroup.cores() < 2:
        return "One core: nothing to compare.\n"
    made = Cases(prepare.version(models))
    asked = (made.tfserving(), made.graphpipe())
    rates: dict[tuple[str, str, tuple[str, str]], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as held:
        for _ in range(rounds):
            for backend in backends:
                for place in PLACES:
                    with prepare.ours(models, Path(held), backend, cpus=place[0]) as server:
                        for case in asked:
                            cases.check(server.port, case)
                            wrk.run(server.port, case, CONNECTIONS, 1, place[1])
                            run = wrk.run(server.port, case, CONNECTIONS, seconds, place[1])
                            rates[backend, case.title, place].append(run.rate)
    rows = []
    for backend in backends:
        for case in asked:
            medians = [middle(rates[backend, case.title, place]) for place in PLACES]
            rows.append([backend, case.title, *(f"{rate:.0f}" for rate in medians), f"{medians[-1] / medians[0]:.2f}"])
    heads = [f"server on {server}, wrk on {client}" for server, client in PLACES]
    return f"Requests/s at {CONNECTIONS} connections.\n\n" + table(
        ["backend", "protocol", *heads, "last ÷ first"], rows
    )
