"""Locust against a real server in this process: what it reports must be what happened."""

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

from seaway.artifacts import store
from seaway.errors import CardError, InvalidInput, NotFound, Unavailable
from seaway.load import run as runs
from seaway.load.run import LOCUSTFILE, Plan, Progress, run
from seaway.load.tally import Tally

ROOT = Path(__file__).resolve().parents[3]
EACH = pytest.mark.parametrize("protocol", ["tfs", "graphpipe", "oip", "oip-binary"])


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy.make(folder / "made").publish(folder / "volume")
    toy.make(folder / "table", toy.TABLE).publish(folder / "volume")
    return folder / "volume"


def short(server, protocol="tfs", version=1, users=2, **more):
    golden = store.path(server.volume, "toy", version)
    return run(server.url, golden, Plan(protocol, users=users, seconds=1, warmup=0, version=version, **more))


@pytest.mark.parametrize(("protocol", "version"), [("graphpipe", 1), ("tfs", 2), ("oip", 2), ("oip-binary", 1)])
def test_a_healthy_server(server, protocol, version):
    got = short(server, protocol, version, batch=3)
    assert (got.wrong, got.failed, got.errors, got.telling) == (0, 0, {}, True)
    assert got.requests == next(server.counter) - 1  # the probe was no part of it
    assert got.max_abs < 1e-6
    card = store.read_card(server.volume, "toy", version)
    assert got.served_by == {f"toy/{version}@{card.sha256}": got.requests}
    assert 0 < got.p50_ms <= got.p90_ms <= got.p99_ms
    assert got.requests_per_second > 0
    assert 0 < sum(second.right for second in got.over_time) <= got.requests  # the last ones came after the end


@pytest.mark.parametrize(("protocol", "fault"), [("tfs", "nan"), ("graphpipe", "off"), ("oip-binary", "off")])
def test_wrong_answers_are_counted_apart_from_failures(server, protocol, fault):
    server.fault, server.every = fault, 3
    got = short(server, protocol)
    inferences = next(server.counter)
    assert got.failed == 0
    assert got.wrong == (inferences - 1) // 3
    assert all(kind.startswith("WrongAnswer: ") for kind in got.errors)
    assert sum(got.errors.values()) == got.wrong > 0
    assert got.max_abs is None or got.max_abs > 5e-4


@EACH
def test_a_server_that_mixes_up_two_callers_answers_is_caught(server, protocol):
    server.fault = "swap"
    got = short(server, protocol, users=2)
    assert got.wrong > 0
    assert got.failed == 0


@pytest.mark.parametrize(("fault", "kind"), [("error", "HTTP 500"), ("drop", "HTTPConnectionClosed")])
def test_requests_without_an_answer_are_failed_each_once(server, fault, kind):
    server.fault, server.every = fault, 4
    got = short(server)
    assert (got.wrong, set(got.errors)) == (0, {kind})
    assert got.failed == (next(server.counter) - 1) // 4
    assert got.requests == got.failed + sum(got.served_by.values())


def test_a_server_that_answers_too_late_has_failed(server):
    release = threading.Event()
    infer = server.version
    server.version = lambda number: (release.wait(20) if next(seen) else True) and infer(number)
    seen = iter([0, *[1] * 1000])  # the probe is answered, the rest hangs
    got = short(server, request_timeout=1)
    release.set()
    assert got.failed == got.requests >= 2
    assert got.requests_per_second == 0


def test_the_injected_latency_is_what_is_reported(server):
    server.delay = 0.05
    got = short(server, users=1)
    assert got.p50_ms >= 50 * 0.99  # a bin's width less


def test_an_unpinned_run_of_an_onnx_artifact_knows_another_version_s_answers_by_their_digest(server, tmp_path):
    made = toy.make(tmp_path / "made", toy.TABLE)  # the newest version in the volume
    server.digests[2] = "f" * 64
    got = run(server.url, made.onnx, Plan("graphpipe", users=1, seconds=1, warmup=0))
    assert got.wrong == got.failed == 0 < got.requests
    assert set(got.served_by) == {f"toy/2@{'f' * 64}"}


def test_wrong_use_is_one_clear_message(server, tmp_path):
    golden = store.path(server.volume, "toy", 1)
    with pytest.raises(NotFound, match="Servable not found"):
        run(server.url, golden, Plan(model="nobody"))
    with pytest.raises(CardError, match="there is no card"):
        run(server.url, tmp_path, Plan())
    with pytest.raises(InvalidInput, match="at least 1"):
        run(server.url, golden, Plan(batch=0))
    with pytest.raises(InvalidInput, match="no protocol 'grpc'"):
        run(server.url, golden, Plan("grpc"))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="is the server running"):
            run(f"http://127.0.0.1:{held.getsockname()[1]}", golden, Plan())


def test_locust_that_breaks_says_what_it_said(server, tmp_path, monkeypatch):
    broken = tmp_path / "locustfile.py"
    broken.write_text("raise SystemExit('no such luck')\n")
    monkeypatch.setattr(runs, "LOCUSTFILE", broken)
    with pytest.raises(Unavailable, match="no such luck"):
        short(server)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "Locust was killed by SIGKILL, and measured nothing"),
        ("raise SystemExit(7)", "Locust ended with exit status 7, and measured nothing"),
    ],
)
def test_locust_that_ends_without_a_word_is_told_in_words(server, tmp_path, monkeypatch, code, said):
    broken = tmp_path / "locustfile.py"
    broken.write_text(f"import os, signal\n{code}\n")
    monkeypatch.setattr(runs, "LOCUSTFILE", broken)
    with pytest.raises(Unavailable) as raised:
        short(server)
    assert str(raised.value) == said


def test_an_interrupt_before_anything_was_measured_is_one(server, tmp_path, monkeypatch):
    """Not a Locust that "ended with status -15"."""
    slow = tmp_path / "locustfile.py"
    slow.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(runs, "LOCUSTFILE", slow)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "time", types.SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        short(server)


def test_who_interrupts_each_time_that_it_is_told_gets_what_was_measured(server):
    times = []

    def told(progress):
        times.append(progress.elapsed)
        raise KeyboardInterrupt

    plan = Plan("tfs", users=2, seconds=9, warmup=0, version=1)
    result = run(server.url, store.path(server.volume, "toy", 1), plan, told)
    assert (len(times), result.partial) == (1, True)
    assert result.requests > 0


def locust(server, tmp_path, *more):
    """The locustfile as a user starts it, without our runner; returns (process's result, its counts)."""
    command = [sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", "--host", server.url, "--users", "2"]
    command += ["--run-time", "2s", "--stop-timeout", "9", "--counts", tmp_path / "counts", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
    )
    file, counted = tmp_path / "counts", {}
    for line in file.read_text().splitlines() if file.exists() else ():
        for key, tally in json.loads(line)["tallies"].items():
            counted.setdefault(key, Tally()).merge(Tally.from_json(tally))
    return done, counted


def test_the_locustfile_alone_speaks_both_protocols_and_agrees_with_locust_s_own_counts(server, tmp_path):
    server.fault, server.every = "off", 5
    golden = store.path(server.volume, "toy", 2)
    done, counted = locust(server, tmp_path, "--golden", golden, "--protocol", "both", "--json")
    assert done.returncode == 1, done.stderr  # wrong answers are failures in Locust's eyes too
    own = {row["name"]: row for row in json.loads(done.stdout)}
    for key, name in (("tfs", "REST predict"), ("graphpipe", "GraphPipe infer")):
        assert counted[key].requests == own[name]["num_requests"] > 0
        assert counted[key].wrong == own[name]["num_failures"]
    assert sum(tally.wrong for tally in counted.values()) == (next(server.counter) - 1) // 5 > 0


def test_several_processes_are_counted_together(server, tmp_path):
    golden = store.path(server.volume, "toy", 1)
    more = ["--protocol", "graphpipe", "--processes", "2", "--model-version", "1"]
    done, counted = locust(server, tmp_path, "--golden", golden, *more)
    assert done.returncode == 0, done.stderr
    assert counted["graphpipe"].requests == next(server.counter)
    assert counted["graphpipe"].wrong == counted["graphpipe"].failed == 0


def test_the_locustfile_without_examples_says_what_to_give(server, tmp_path):
    done, _ = locust(server, tmp_path)
    assert done.returncode == 1
    assert "--golden is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_ending_a_process_that_does_not_listen():
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    process.stdout.readline()
    runs.end(process, grace=0.1)
    process.stdout.close()
    assert process.returncode == -9
    runs.end(process)


def result(tally, elapsed, **plan):
    return runs.result(Progress(elapsed, total=tally), "", Plan(**plan))


def test_percentiles_are_within_one_percent():
    random = np.random.default_rng(0)
    samples = random.lognormal(3, 1, 20000)
    tally = Tally()
    for sample in samples:
        tally.right(0, float(sample))
    got = result(Tally.from_json(json.loads(json.dumps(tally.to_json()))), 1, seconds=1, warmup=0)
    for share, value in ((50, got.p50_ms), (90, got.p90_ms), (99, got.p99_ms)):
        assert value == pytest.approx(np.percentile(samples, share), rel=0.01)


def test_the_warm_up_counts_for_correctness_but_not_for_speed():
    tally = Tally()
    for second in (0, 1, 2, 2, 3, 4):
        tally.right(second, 1000 if second < 2 else 10)
    tally.fault(3, "HTTP 500", wrong=False)
    got = result(tally, 4.1, seconds=2, warmup=2)
    assert (got.requests, got.failed) == (7, 1)
    assert got.requests_per_second == 1.5
    assert [second.second for second in got.over_time] == [0, 1, 2, 3]
    assert [second.faults for second in got.over_time] == [0, 0, 0, 1]
    early = result(tally, 3.5, seconds=2, warmup=2)
    assert early.requests_per_second == 2
    assert got.p99_ms == pytest.approx(10, rel=0.01)
