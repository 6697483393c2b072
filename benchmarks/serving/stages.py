"""The time in each stage of a request, from the server's own /metrics, in microseconds per request."""

import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import Server
from benchmarks.serving import cases, prepare, wrk
from benchmarks.serving.cases import Cases
from benchmarks.tables import table

METRIC = "seaway_request_seconds"
STAGES = ("read", "queue", "parse", "compute", "write")
PROTOCOLS = {"TFS REST, JSON": "tfs", "OIP v2, JSON": "oip", "OIP v2, binary": "oip", "GraphPipe": "graphpipe"}


def measure(models: Path, backends: Sequence[str], seconds: float) -> str:
    made, rows = Cases(prepare.version(models)), []
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            with prepare.ours(models, Path(folder), backend) as server:
                for case in (made.tfserving(), made.oip_json(), made.oip_binary(), made.graphpipe()):
                    cases.check(server.port, case)
                    wrk.run(server.port, case, 8, 1)
                    for connections in (1, 8, 32):
                        before, cpu = _stages(server), server.cpu_s()
                        run = wrk.run(server.port, case, connections, seconds)
                        after = _stages(server)
                        times = [_mean_us(before, after, PROTOCOLS[case.title], stage) for stage in STAGES]
                        cpu_us = (server.cpu_s() - cpu) / max(1, run.requests) * 1e6
                        cells = [f"{time:.0f}" for time in (*times, cpu_us)]
                        rows.append([backend, case.title, connections, *cells, f"{run.p50_ms * 1e3:.0f}"])
    head = ["backend", "protocol", "connections", *STAGES, "CPU µs (all processes)", "client's p50"]
    note = (
        "Mean wall time in µs per request, including waiting for a core; `compute` is that of the request's batch.\n\n"
    )
    return note + table(head, rows)


def _stages(server: Server) -> dict[tuple[str, str], tuple[float, float]]:
    """(protocol, stage) → total seconds and requests so far, over all models."""
    url = f"http://127.0.0.1:{server.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    totals: dict[tuple[str, str], tuple[float, float]] = {}
    for sample in (sample for family in families if family.name == METRIC for sample in family.samples):
        if sample.name.endswith(("_sum", "_count")):
            key = sample.labels["protocol"], sample.labels["stage"]
            seconds, count = totals.get(key, (0.0, 0.0))
            is_sum = sample.name.endswith("_sum")
            totals[key] = (seconds + sample.value, count) if is_sum else (seconds, count + sample.value)
    return totals


def _mean_us(before: dict, after: dict, protocol: str, stage: str) -> float:  # type: ignore[type-arg]
    seconds, count = after.get((protocol, stage), (0.0, 0.0))
    first_seconds, first_count = before.get((protocol, stage), (0.0, 0.0))
    return (seconds - first_seconds) / (count - first_count) * 1e6 if count > first_count else float("nan")
