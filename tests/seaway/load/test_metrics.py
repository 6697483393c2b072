"""The server's own metrics from its Prometheus page, over the load test's time."""

import re

import pytest
from exposition import exposing

from seaway.artifacts import model_repository
from seaway.load import gate, metrics, report
from seaway.load.config import LoadConfig
from seaway.load.run import run
from seaway.serve.supervisor.metrics import Metrics


def test_series_are_differences_between_two_pages():
    queue_length = [3.0]
    server = Metrics({"seaway_queue_length": lambda: queue_length[0]})
    with exposing(lambda: server.exposition()[0]) as url:
        server.observe_stages("tfs", "m", "1", 1.0, 1.0, 1.0, 1.0, 1.0)
        pages = [(1.0, metrics.read(url))]
        for protocol in ("tfs", "graphpipe"):  # summed over all labels but the stage
            server.observe_stages(protocol, "m", "1", 0.001, 0.002, 0.003, 0.004, 0.006)
            server.observe_stages(protocol, "m", "1", 0.003, 0.002, 0.003, 0.004, 0.006)
        server.observe_batch("m", "1", 4, 12, 0.01)
        queue_length[0] = 5.0
        pages.append((2.0, metrics.read(url)))
        pages.append((3.0, metrics.read(url)))
    series = metrics.series(pages)
    stages = {stage: series[f"in the server, mean ms: {stage}"] for stage in metrics.STAGES}
    assert {stage: pytest.approx(points[0][1]) for stage, points in stages.items()} == {
        "read": 2.0, "queue": 2.0, "parse": 3.0, "compute": 4.0, "write": 6.0,
    }  # fmt: skip
    assert all([at for at, _ in points] == [2.0] for points in stages.values()), "no observation before the third page"
    assert series["requests: rows a batch"] == ((2.0, 12.0),)
    assert series["requests: waiting to be computed"] == ((2.0, 5.0), (3.0, 5.0))
    assert "requests: in the server" not in series, "the page does not have it"
    assert series["the process that answers /metrics: GB resident"][0][1] > 0.01


def test_a_report_plots_the_server_s_metrics_and_errors(repository, server):
    own = Metrics()
    server.fault, server.every = "error", 5
    with exposing(lambda: own.exposition()[0]) as url:
        config = LoadConfig(users=2, duration_s=3, warmup_s=0, metrics_url=url)
        result = run(server.url, model_repository.path(repository, "toy", 1), config)
    assert result.errors_over_time["HTTP 500"]
    assert any(name.endswith("GB resident") for name in result.server_metrics)
    page = report.load_page("A test", [result], [])
    assert "The server&#39;s own metrics" in page
    assert "Errors over time by kind" in page
    assert "resident memory, GB" in page
    assert "Time in the server by stage" not in page, "no request was observed"


def test_a_report_of_many_runs_is_short(repository, server, report_faults, tmp_path):
    """A comparison has up to 15 rounds; each is in every plot and table."""
    own = Metrics()
    own.observe_stages("tfs", "m", "1", 0.001, 0.002, 0.003, 0.004, 0.006)
    requests = iter(range(1000))

    def page():
        own.observe_stages("tfs", "m", "1", *[0.001 * next(requests)] * 5)
        return own.exposition()[0]

    with exposing(page) as url:
        config = LoadConfig(users=2, duration_s=3, warmup_s=0, metrics_url=url)
        result = run(server.url, model_repository.path(repository, "toy", 1), config)
    file = tmp_path / "load.html"
    limit_results = gate.evaluate_limits(result, gate.Limits(p50_ms=50, p99_ms=50))
    file.write_text(report.load_page("A test", [result] * gate.MAX_ROUNDS, limit_results))
    assert report_faults(file, max_screens=5) == []
    drawings = re.findall(r'aria-label="([^"]+)">(.*?)</svg>', file.read_text(), re.DOTALL)
    assert [alt for alt, _ in drawings] == [
        "Latency over time", "Throughput over time", "Latency by percentile", "Time in the server by stage",
    ]  # fmt: skip
    for alt, drawing in drawings:
        assert drawing.count(">REST, run ") == gate.MAX_ROUNDS, alt
