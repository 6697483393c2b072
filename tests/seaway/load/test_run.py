"""Locust against a real server in this process: the result must be what happened."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import toy

from seaway.artifacts import model_repository
from seaway.errors import InvalidInput, MetadataError, NotFound, Unavailable
from seaway.load import run as run_module
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.progress import Progress
from seaway.load.result import summarize
from seaway.load.run import LOCUSTFILE, run

ROOT = Path(__file__).resolve().parents[3]
EACH_PROTOCOL = pytest.mark.parametrize("protocol", ["tfs", "graphpipe", "oip", "oip-binary"])


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy.make(folder / "made").publish(folder / "models")
    toy.make(folder / "table", toy.TABLE_INPUTS).publish(folder / "models")
    return folder / "models"


def run_briefly(server, protocol="tfs", version=1, users=2, **more):
    golden = model_repository.path(server.repository, "toy", version)
    config = LoadConfig(protocol, users=users, duration_s=1, warmup_s=0, version=version, **more)
    return run(server.url, golden, config)


@pytest.mark.parametrize(("protocol", "version"), [("graphpipe", 1), ("tfs", 2), ("oip", 2), ("oip-binary", 1)])
def test_a_healthy_server(server, protocol, version):
    result = run_briefly(server, protocol, version, batch=3)
    assert (result.wrong, result.failed, result.errors, result.discriminative) == (0, 0, {}, True)
    assert result.requests == next(server.counter) - 1  # the probe is not part of it
    assert result.max_abs < 1e-6
    metadata = model_repository.read_metadata(server.repository, "toy", version)
    assert result.served_by == {f"toy/{version}@{metadata.sha256}": result.requests}
    assert 0 < result.p50_ms <= result.p90_ms <= result.p99_ms
    assert result.requests_per_second > 0
    assert (
        0 < sum(second.correct for second in result.over_time) <= result.requests
    )  # the last ones arrived after the end


@pytest.mark.parametrize(("protocol", "fault"), [("tfs", "nan"), ("graphpipe", "off"), ("oip-binary", "off")])
def test_wrong_responses_are_counted_apart_from_failures(server, protocol, fault):
    server.fault, server.every = fault, 3
    result = run_briefly(server, protocol)
    inferences = next(server.counter)
    assert result.failed == 0
    assert result.wrong == (inferences - 1) // 3
    assert all(kind.startswith("wrong response: ") for kind in result.errors)
    assert sum(result.errors.values()) == result.wrong > 0
    assert result.max_abs is None or result.max_abs > 5e-4


@EACH_PROTOCOL
def test_swapped_responses_are_wrong(server, protocol):
    server.fault = "swap"
    result = run_briefly(server, protocol, users=2)
    assert result.wrong > 0
    assert result.failed == 0


@pytest.mark.parametrize(("fault", "kind"), [("error", "HTTP 500"), ("drop", "HTTPConnectionClosed")])
def test_a_request_without_a_2xx_response_fails_once(server, fault, kind):
    server.fault, server.every = fault, 4
    result = run_briefly(server)
    assert (result.wrong, set(result.errors)) == (0, {kind})
    assert result.failed == (next(server.counter) - 1) // 4
    assert result.requests == result.failed + sum(result.served_by.values())


def test_a_response_after_the_timeout_is_a_failure(server):
    release = threading.Event()
    infer = server.version
    server.version = lambda number: (release.wait(20) if next(hangs) else True) and infer(number)
    hangs = iter([0, *[1] * 1000])  # the probe gets a response, the rest hangs
    result = run_briefly(server, request_timeout_s=1)
    release.set()
    assert result.failed == result.requests >= 2
    assert result.requests_per_second == 0


def test_the_injected_latency_is_reported(server):
    server.delay_s = 0.05
    result = run_briefly(server, users=1)
    assert result.p50_ms >= 50 * 0.99  # a bin's width less


def test_a_run_without_a_version_reports_the_digest_of_the_one_that_responds(server, tmp_path):
    artifacts = toy.make(tmp_path / "made", toy.TABLE_INPUTS)  # those of the repository's newest version
    server.digests[2] = "f" * 64
    result = run(server.url, artifacts.onnx, LoadConfig("graphpipe", users=1, duration_s=1, warmup_s=0))
    assert result.wrong == result.failed == 0 < result.requests
    assert set(result.served_by) == {f"toy/2@{'f' * 64}"}


def test_wrong_use_is_one_clear_message(server, tmp_path):
    golden = model_repository.path(server.repository, "toy", 1)
    with pytest.raises(NotFound, match="Servable not found"):
        run(server.url, golden, LoadConfig(model="nobody"))
    with pytest.raises(MetadataError, match="is not an artifact of Seaway, or is incomplete"):
        run(server.url, tmp_path, LoadConfig())
    with pytest.raises(InvalidInput, match="at least 1"):
        run(server.url, golden, LoadConfig(batch=0))
    with pytest.raises(InvalidInput, match="no protocol 'grpc'"):
        run(server.url, golden, LoadConfig("grpc"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="is the server running"):
            run(f"http://127.0.0.1:{unused.getsockname()[1]}", golden, LoadConfig())


def test_the_output_of_a_broken_locust_is_in_the_error(server, tmp_path, monkeypatch):
    broken = tmp_path / "locustfile.py"
    broken.write_text("raise SystemExit('no such luck')\n")
    monkeypatch.setattr(run_module, "LOCUSTFILE", broken)
    with pytest.raises(Unavailable, match="no such luck"):
        run_briefly(server)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "Locust was killed by SIGKILL, and measured nothing"),
        ("raise SystemExit(7)", "Locust ended with exit status 7, and measured nothing"),
    ],
)
def test_an_error_describes_how_a_silent_locust_ended(server, tmp_path, monkeypatch, code, message):
    broken = tmp_path / "locustfile.py"
    broken.write_text(f"import os, signal\n{code}\n")
    monkeypatch.setattr(run_module, "LOCUSTFILE", broken)
    with pytest.raises(Unavailable) as raised:
        run_briefly(server)
    assert str(raised.value) == message


def test_an_interrupt_before_anything_was_measured_is_raised(server, tmp_path, monkeypatch):
    """It is not reported as a Locust that was terminated."""
    slow = tmp_path / "locustfile.py"
    slow.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(run_module, "LOCUSTFILE", slow)

    def interrupted_sleep(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "time", types.SimpleNamespace(sleep=interrupted_sleep, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        run_briefly(server)


def test_a_callback_that_interrupts_gets_what_was_measured(server):
    times = []

    def interrupt(progress):
        times.append(progress.elapsed_s)
        raise KeyboardInterrupt

    config = LoadConfig("tfs", users=2, duration_s=9, warmup_s=0, version=1)
    result = run(server.url, model_repository.path(server.repository, "toy", 1), config, interrupt)
    assert (len(times), result.partial) == (1, True)
    assert result.requests > 0


def locust(server, tmp_path, *more):
    """Runs the locustfile as a user does, without our runner; returns (completed process, counters by protocol)."""
    command = [sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", "--host", server.url, "--users", "2"]
    command += ["--run-time", "2s", "--stop-timeout", "9", "--counts", tmp_path / "counts", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    completed = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
    )
    file, counted = tmp_path / "counts", {}
    for line in file.read_text().splitlines() if file.exists() else ():
        for key, counters in json.loads(line)["counters"].items():
            counted.setdefault(key, Counters()).merge(Counters.from_json(counters))
    return completed, counted


def test_the_locustfile_alone_sends_both_protocols_and_agrees_with_locust_s_statistics(server, tmp_path):
    server.fault, server.every = "off", 5
    golden = model_repository.path(server.repository, "toy", 2)
    completed, counted = locust(server, tmp_path, "--golden", golden, "--protocol", "both", "--json")
    assert completed.returncode == 1, completed.stderr  # Locust counts wrong responses as failures too
    own = {row["name"]: row for row in json.loads(completed.stdout)}
    for key, name in (("tfs", "REST predict"), ("graphpipe", "GraphPipe infer")):
        assert counted[key].requests == own[name]["num_requests"] > 0
        assert counted[key].wrong == own[name]["num_failures"]
    assert sum(counters.wrong for counters in counted.values()) == (next(server.counter) - 1) // 5 > 0


def test_several_processes_are_counted_together(server, tmp_path):
    golden = model_repository.path(server.repository, "toy", 1)
    more = ["--protocol", "graphpipe", "--processes", "2", "--model-version", "1"]
    completed, counted = locust(server, tmp_path, "--golden", golden, *more)
    assert completed.returncode == 0, completed.stderr
    assert counted["graphpipe"].requests == next(server.counter)
    assert counted["graphpipe"].wrong == counted["graphpipe"].failed == 0


def test_the_locustfile_without_examples_names_the_missing_option(server, tmp_path):
    completed, _ = locust(server, tmp_path)
    assert completed.returncode == 1
    assert "--golden is missing" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_terminating_a_process_that_ignores_sigterm():
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    process.stdout.readline()
    run_module.terminate(process, grace_s=0.1)
    process.stdout.close()
    assert process.returncode == -9
    run_module.terminate(process)


def summarize_counters(counters, elapsed_s, **config):
    return summarize(Progress(elapsed_s, total=counters), "", LoadConfig(**config))


def test_percentiles_are_within_one_percent():
    random = np.random.default_rng(0)
    samples = random.lognormal(3, 1, 20000)
    counters = Counters()
    for sample in samples:
        counters.record_correct(0, float(sample))
    result = summarize_counters(
        Counters.from_json(json.loads(json.dumps(counters.to_json()))), 1, duration_s=1, warmup_s=0
    )
    for percent, value in ((50, result.p50_ms), (90, result.p90_ms), (99, result.p99_ms)):
        assert value == pytest.approx(np.percentile(samples, percent), rel=0.01)


def test_the_warm_up_counts_for_correctness_but_not_for_speed():
    counters = Counters()
    for second in (0, 1, 2, 2, 3, 4):
        counters.record_correct(second, 1000 if second < 2 else 10)
    counters.record_error(3, "HTTP 500", wrong=False)
    result = summarize_counters(counters, 4.1, duration_s=2, warmup_s=2)
    assert (result.requests, result.failed) == (7, 1)
    assert result.requests_per_second == 1.5
    assert [second.second for second in result.over_time] == [0, 1, 2, 3]
    assert [second.errors for second in result.over_time] == [0, 0, 0, 1]
    early = summarize_counters(counters, 3.5, duration_s=2, warmup_s=2)
    assert early.requests_per_second == 2
    assert result.p99_ms == pytest.approx(10, rel=0.01)
