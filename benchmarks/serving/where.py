"""Where a request's time goes, as the server itself counts it: the stages on /metrics, in microseconds a request."""

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
    with tempfile.TemporaryDirectory() as held:
        for backend in backends:
            with prepare.ours(models, Path(held), backend) as server:
                for case in (made.tfserving(), made.oip_json(), made.oip_binary(), made.graphpipe()):
                    cases.check(server.port, case)
                    wrk.run(server.port, case, 8, 1)
                    for connections in (1, 8, 32):
                        before, cpu = _stages(server), server.cpu_seconds()
                        run = wrk.run(server.port, case, connections, seconds)
                        after = _stages(server)
                        times = [_mean_us(before, after, PROTOCOLS[case.title], stage) for stage in STAGES]
                        cpu_us = (server.cpu_seconds() - cpu) / max(1, run.requests) * 1e6
                        cells = [f"{time:.0f}" for time in (*times, cpu_us)]
                        rows.append([backend, case.title, connections, *cells, f"{run.p50_ms * 1e3:.0f}"])
    head = ["backend", "protocol", "connections", *STAGES, "CPU µs of the tree", "client's p50"]
    said = (
        "Means in µs of wall time a request, waiting for a core included; `compute` is that of the batch it was in.\n\n"
    )
    return said + table(head, rows)


def _stages(server: Server) -> dict[tuple[str, str], tuple[float, float]]:
    """(protocol, stage) → seconds and requests so far, over all models."""
    url = f"http://127.0.0.1:{server.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for sample in (sample for family in families if family.name == METRIC for sample in family.samples):
        if sample.name.endswith(("_sum", "_count")):
            key = sample.labels["protocol"], sample.labels["stage"]
            seconds, count = found.get(key, (0.0, 0.0))
            is_sum = sample.name.endswith("_sum")
            found[key] = (seconds + sample.value, count) if is_sum else (seconds, count + sample.value)
    return found


def _mean_us(before: dict, after: dict, protocol: str, stage: str) -> float:  # type: ignore[type-arg]
    seconds, count = after.get((protocol, stage), (0.0, 0.0))
    first_seconds, first_count = before.get((protocol, stage), (0.0, 0.0))
    return (seconds - first_seconds) / (count - first_count) * 1e6 if count > first_count else float("nan")
