"""Servers that restart, have an untrusted certificate or respond with errors; an interrupted run."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from responder import serving

from seaway.artifacts import model_repository
from seaway.client_tls import ClientTls
from seaway.errors import DataError, InvalidInput, Unavailable
from seaway.load import formatting, gate, report, result_files
from seaway.load.client import Client
from seaway.load.config import LoadConfig
from seaway.load.run import run
from seaway.protocols import client_codecs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, and its key."""
    key, certificate = tmp_path / "key.pem", tmp_path / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=seaway"]
    subprocess.run(
        [*command, "-keyout", key, "-out", certificate, "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_an_untrusted_certificate(repository, certificate, monkeypatch):
    certificate_file, key = certificate
    source, config = model_repository.path(repository, "toy", 1), LoadConfig(users=2, duration_s=1, warmup_s=0)
    with serving(repository) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        with pytest.raises(
            Unavailable, match=r"TLS certificate is not trusted \(self.signed certificate\): .* --tls-ca"
        ):
            run(url, source, config)
        result = run(url, source, LoadConfig(users=2, duration_s=1, warmup_s=0, tls=ClientTls(insecure=True)))
        assert (result.failed, result.wrong) == (0, 0) and result.requests > 0
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate_file))
        result = run(url, source, config)
        assert (result.failed, result.wrong) == (0, 0) and result.requests > 0


def test_a_server_that_restarts(repository):
    """Requests fail while it is down and are reported by kind and second; all others get correct responses."""
    source = model_repository.path(repository, "toy", 1)
    with serving(repository) as first:
        port = first.server_address[1]
        stopped = threading.Event()

        def stop(progress):
            if progress.elapsed_s > 1.5 and not stopped.is_set():
                stopped.set()
                first.shutdown()
                first.server_close()
                threading.Timer(2.0, restarted.start).start()

        config = LoadConfig(rate=40, users=8, duration_s=7, warmup_s=0, new_connections=True)
        with _LaterServer(repository, port) as restarted:
            result = run(first.url, source, config, stop)
    assert stopped.is_set()
    assert result.failed > 0 == result.wrong
    assert any("refused" in kind.lower() for kind in result.errors), result.errors
    assert (
        sum(result.errors.values())
        == result.failed
        == sum(n for points in result.errors_over_time.values() for _, n in points)
    )
    assert result.over_time[0].correct > 0 < result.over_time[-1].correct
    assert max(second.errors for second in result.over_time) > 10


class _LaterServer:
    """A server on a port that starts when `start` is called, and stops at the end of the block."""

    def __init__(self, repository, port):
        self.repository, self.port, self.server = repository, port, None

    def start(self):
        self.context = serving(self.repository, self.port)
        self.server = self.context.__enter__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.server is not None:
            self.context.__exit__(None, None, None)


def interrupted(repository, folder, *arguments):
    """The exit status and output of a command that gets Ctrl-C once it has measured something. In `arguments`, URL
    stands for the server's address."""
    with serving(repository) as server:
        requested, version = [], server.version
        server.version = lambda number: requested.append(number) or version(number)
        command = [sys.executable, "-m", "seaway.cli.main", *arguments, "--model-repository", repository]
        command += ["--name", "toy", "--protocol", "tfs", "--time", "120"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        process = subprocess.Popen(
            [server.url if word == "URL" else str(word) for word in command], cwd=folder, env=environment,
            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # even if it is ignored here
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 100
            while len(requested) < 50 and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(2.5)  # counters are written once per second
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, output


def test_an_interrupted_run_reports_what_it_measured(repository, tmp_path):
    status, output = interrupted(repository, tmp_path, "load", "URL", "--users", "2", "--report", tmp_path / "out")
    assert status == 3, output
    assert "the run was interrupted; run the same command again" in output
    document = json.loads((tmp_path / "out" / "load.json").read_text())
    assert document["verdict"] == "inconclusive"
    assert document["runs"][0]["partial"] is True
    assert document["runs"][0]["requests"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("load", "URL", "--protocol", "graphpipe"), 3),  # a report
        (("load", "capacity", "URL", "--limit", "p99_ms=5000"), 130),
        (("load", "URL", "--rate", "50", "--baseline", "URL"), 130),
        (("verify", "URL", "--protocol", "graphpipe"), 130),
    ],
)
def test_no_other_run_follows_an_interrupted_one(repository, tmp_path, arguments, expected):
    status, output = interrupted(repository, tmp_path, *arguments)
    assert (status, "interrupted; run the same command again" in output) == (expected, True), output
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def all_errors(repository):
    """(a run with only wrong responses, one with only failed requests), one second each."""
    results = []
    for fault in ("off", "error"):
        with serving(repository) as server:
            server.fault = fault
            source, config = model_repository.path(repository, "toy", 1), LoadConfig(users=2, duration_s=1, warmup_s=0)
            results.append(run(server.url, source, config))
    return results


def test_without_a_correct_response_there_is_no_latency(all_errors, tmp_path):
    """Neither in JSON nor in Markdown nor on the page; nor a distance if no response was compared."""
    wrong, failed = all_errors
    assert wrong.requests == wrong.wrong > 0 < failed.failed == failed.requests
    limit_results = gate.evaluate_limits(wrong, gate.Limits(p99_ms=50))
    result_files.write_json(tmp_path / "load.json", all_errors, limit_results)
    for one in json.loads((tmp_path / "load.json").read_text())["runs"]:
        assert [one[name] for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")] == [None] * 4
        assert set(one["percentiles"].values()) == {None}
    assert [row.p99_ms for row in result_files.read_json(tmp_path / "load.json")] == [None, None]
    first, second = result_files.markdown("bad", all_errors, limit_results).splitlines()[4:6]
    assert first.split(" | ")[3:] == ["0", "n/a", "n/a", "n/a", "0.001", f"{wrong.requests:,}", "0 |"]
    assert second.split(" | ")[3:] == ["0", "n/a", "n/a", "n/a", "n/a", "0", f"{failed.requests:,} |"]
    page = report.load_page("bad", all_errors, limit_results)
    assert page.count(">n/a<") >= 7
    assert "Latency by percentile" not in page
    assert "no correct response, so no p99;" in page
    assert "inf" not in re.sub(r"<(svg|style).*?</\1>", "", page, flags=re.DOTALL)
    assert "n/a" in result_files.compare(all_errors, all_errors)


def test_reports_name_the_reference_of_the_comparison(server, repository, all_errors, tmp_path):
    """PyTorch's outputs, the file's, or a request's first response; none if there was no response."""
    images = np.random.default_rng(0).normal(size=(4, 4, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "bare.npz", image=images)
    np.savez(tmp_path / "known.npz", image=images, **{"output:scores": np.full((4, 3), 2, np.float32)})
    config = LoadConfig(users=1, duration_s=1, warmup_s=0, model="toy")
    bare, known = (run(server.url, tmp_path / name, config) for name in ("bare.npz", "known.npz"))
    page, markdown = report.load_page("bare", [bare], []), result_files.markdown("bare", [bare])
    assert (
        "Every response was compared with the first response to the same request, because the examples have no" in page
    )
    assert "a server that always gives the same wrong response would pass" in page
    assert "the first response to the same request" in markdown
    assert "PyTorch" not in page + markdown
    assert bare.wrong == 0 < bare.requests
    page = report.load_page("known", [known], [])
    assert "the outputs in the file of examples for the same input" in page
    assert set(known.errors) == {"wrong response: output 'scores' differs from the file's by more than the tolerance"}
    assert "PyTorch" not in page
    wrong, failed = all_errors
    assert formatting.describe_references([wrong]) == [
        "Every response was compared with PyTorch's recorded outputs for the same input."
    ]
    assert formatting.describe_references([failed]) == []


def test_a_file_without_examples_is_an_error(server, tmp_path):
    np.savez(tmp_path / "none.npz", x=np.empty((0, 4), np.float32))
    with pytest.raises((DataError, InvalidInput), match="there are no examples to send"):
        run(server.url, tmp_path / "none.npz", LoadConfig(model="toy", duration_s=1))


def test_a_wrong_metrics_address_is_an_error_before_the_load(server, repository):
    source = model_repository.path(repository, "toy", 1)
    for address, error in (
        (f"{server.url}/", "not a Prometheus page"),
        ("admin:8502", "give one like"),
    ):
        with pytest.raises((Unavailable, InvalidInput), match=error):
            run(server.url, source, LoadConfig(duration_s=1, metrics_url=address))
    assert next(server.counter) <= 2, "only the probes"


def test_a_response_that_is_none_of_the_protocol_is_a_one_line_error(server):
    inputs = {"image": np.zeros((1, 4, 4, 1), np.float32)}
    server.fault = "garbage"
    with Client(server.url) as client:
        client.predict(client_codecs.TFS, "toy", inputs, "scores")  # the first inference is always correct
        with pytest.raises(Unavailable, match="not a REST response"):
            client.predict(client_codecs.TFS, "toy", inputs, "scores")
