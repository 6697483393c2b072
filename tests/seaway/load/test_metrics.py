"""The server's own metrics, as its exposition has them, on the load test's axis of time."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seaway.artifacts import store
from seaway.load import metrics, report
from seaway.load.run import Plan, run
from seaway.serve.supervisor.metrics import Metrics


@contextmanager
def exposing(page):
    """An address at which `page()` is read."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        finally:
            server.shutdown()


def test_series_are_of_what_was_observed_between_two_pages():
    waiting = [3.0]
    server = Metrics({"seaway_queue_length": lambda: waiting[0]})
    with exposing(lambda: server.exposition()[0]) as url:
        server.staged("tfs", "m", "1", 1.0, 1.0, 1.0, 1.0, 1.0)
        pages = [(1.0, metrics.read(url))]
        for protocol in ("tfs", "graphpipe"):  # summed over all labels but the stage
            server.staged(protocol, "m", "1", 0.001, 0.002, 0.003, 0.004, 0.006)
            server.staged(protocol, "m", "1", 0.003, 0.002, 0.003, 0.004, 0.006)
        server.batched("m", "1", 4, 12, 0.01)
        waiting[0] = 5.0
        pages.append((2.0, metrics.read(url)))
        pages.append((3.0, metrics.read(url)))
    got = metrics.series(pages)
    stages = {stage: got[f"in the server, mean ms: {stage}"] for stage in metrics.STAGES}
    assert {stage: pytest.approx(points[0][1]) for stage, points in stages.items()} == {
        "read": 2.0, "queue": 2.0, "parse": 3.0, "compute": 4.0, "write": 6.0,
    }  # fmt: skip
    assert all([at for at, _ in points] == [2.0] for points in stages.values()), "nothing was observed in the third"
    assert got["requests: rows a batch"] == ((2.0, 12.0),)
    assert got["requests: waiting to be computed"] == ((2.0, 5.0), (3.0, 5.0))
    assert "requests: in the server" not in got, "the page does not have it"
    assert got["the process that answers /metrics: GB resident"][0][1] > 0.01


def test_a_run_with_metrics_and_faults_draws_both(volume, server):
    own = Metrics()
    server.fault, server.every = "error", 5
    with exposing(lambda: own.exposition()[0]) as url:
        plan = Plan(users=2, seconds=3, warmup=0, metrics=url)
        got = run(server.url, store.path(volume, "toy", 1), plan)
    assert got.faults["HTTP 500"]
    assert any(name.endswith("GB resident") for name in got.server)
    page = report.load_page("A test", [got], [])
    assert "The server&#39;s own metrics" in page or "The server's own metrics" in page
    assert "Faults over time by kind" in page
    assert "the process that answers /metrics" in page
