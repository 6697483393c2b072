"""`seaway load` and `seaway verify` as commands, against a tiny real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "seaway" / "load"))

import toy  # noqa: E402
from responder import serving  # noqa: E402


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy.make(folder / "made").publish(folder / "volume")
    return folder / "volume"


@pytest.fixture
def server(volume):
    with serving(volume) as started:
        yield started


def seaway(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


SHORT = ["--time", "1s", "--warmup", "0", "--users", "2"]


def test_limits_lines_reports_and_exit_codes(server, volume, tmp_path):
    own = ["--volume", volume, "--name", "toy", *SHORT, "--protocol", "tfs"]
    good = seaway(tmp_path, "load", server.url, *own, "--limit", "p50_ms=1000", "--report", "out")
    assert good.returncode == 0, good.stdout + good.stderr
    assert [line.split()[:2] for line in good.stdout.splitlines() if line.startswith("pass")] == [
        ["pass", "failed:"],
        ["pass", "wrong:"],
        ["pass", "p50_ms:"],
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"load.html", "load.json", "load.md"}
    found = json.loads((tmp_path / "out" / "load.json").read_text())
    assert (found["verdict"], len(found["runs"]), len(found["limits"])) == ("pass", 1, 3)
    assert "<svg" in (tmp_path / "out" / "load.html").read_text()
    assert "✅" in (tmp_path / "out" / "load.md").read_text()
    (tmp_path / "limits.yaml").write_text("p50_ms: 0.001\nfailed: 0\n")
    broken = seaway(tmp_path, "load", server.url, *own, "--limits", "limits.yaml", "--report", "other")
    assert broken.returncode == 1
    assert "fail         p50_ms" in broken.stdout
    unclear = seaway(tmp_path, "load", server.url, *own, "--rate", "20", "--limit", "p99_ms=5000")
    assert unclear.returncode == 3, unclear.stdout
    compared = seaway(tmp_path, "load", "compare", "out/load.json", "other/load.json")
    assert compared.returncode == 0
    assert "| REST, batch 1 | p50_ms |" in compared.stdout


def test_wrong_answers_and_failures_break_the_default_limits(server, volume, tmp_path):
    server.fault, server.every = "off", 5
    got = seaway(tmp_path, "load", server.url, "--volume", volume, "--name", "toy", *SHORT)
    assert got.returncode == 1
    assert "fail         wrong" in got.stdout
    assert "differs from PyTorch's" in got.stderr
    assert "REST" in got.stdout
    assert "GraphPipe" not in got.stdout, "one protocol, REST where it is spoken"


def test_several_protocols_are_told_apart(server, volume, tmp_path):
    both = ["--protocol", "oip", "--protocol", "graphpipe"]
    got = seaway(tmp_path, "load", server.url, "--volume", volume, "--name", "toy", *SHORT, *both)
    assert got.returncode == 0, got.stdout + got.stderr
    assert "pass         OIP v2, wrong" in got.stdout
    assert "pass         GraphPipe, wrong" in got.stdout


def test_the_arrivals_of_an_open_loop_are_in_the_report(server, volume, tmp_path):
    own = ["--volume", volume, "--name", "toy", "--time", "2s", "--warmup", "0", "--rate", "20"]
    for more, asked, arrivals in (
        (["--seed", "3"], "20/s poisson, seed 3", "poisson"),
        (["--arrivals", "uniform"], "20/s uniform", "uniform"),
    ):
        got = seaway(tmp_path, "load", server.url, *own, *more, "--report", arrivals)
        assert got.returncode == 0, got.stdout + got.stderr
        [run] = json.loads((tmp_path / arrivals / "load.json").read_text())["runs"]
        assert (run["arrivals"], run["expected_per_second"]) == (arrivals, 20.0)
        assert asked in (tmp_path / arrivals / "load.html").read_text()
        assert asked in (tmp_path / arrivals / "load.md").read_text()


def test_a_file_of_examples_against_any_server(server, tmp_path):
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype(np.float32))
    got = seaway(tmp_path, "load", server.url, "--data", "x.npz", "--name", "toy", "--protocol", "tfs", *SHORT)
    assert got.returncode == 0, got.stdout + got.stderr
    nameless = seaway(tmp_path, "load", server.url, "--data", "x.npz", *SHORT)
    assert nameless.returncode == 1
    assert "--name is missing" in nameless.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://127.0.0.1:9"], "is the server running"),
        (["--limit", "p99=1"], "no limit 'p99'"),
        (["--limit", "p99_ms"], "give NAME=VALUE"),
        (["--limit", "p50_ms=9", "--limit", "p99_ms=1"], "contradicts"),
        (["--shape", "square"], "no shape 'square'"),
        (["--protocol", "grpc"], "no protocol 'grpc'"),
        (["--name", "nobody"], "holds no model 'nobody'"),
        (["--version", "7"], "7"),
        (["--users", "1", "--processes", "2"], "need as many users"),
        (["--baseline-version", "1"], "needs --rate"),
        (["--rate", "50", "--limit", "rate=51"], "limit rate=51 cannot be reached: a rate of 50"),
        (["--rate", "50", "--arrivals", "pareto"], "no arrivals 'pareto': choose one of poisson, uniform"),
    ],
)
def test_wrong_use_is_one_line(volume, tmp_path, arguments, said):
    if not arguments[0].startswith("http"):
        arguments = ["http://127.0.0.1:9", *arguments]
    if "--name" not in arguments:
        arguments = [*arguments, "--name", "toy"]
    users = [] if "--users" in arguments else ["--users", "2"]
    got = seaway(tmp_path, "load", *arguments, "--volume", volume, *users)
    assert got.returncode == 1, got.stdout + got.stderr
    assert said in got.stderr
    assert "Traceback" not in got.stderr


def test_verify_names_the_replica(server, volume, tmp_path):
    server.pod = "seaway-0"
    own = ["--volume", volume, "--name", "toy", "--time", "1", "--users", "2"]
    good = seaway(tmp_path, "verify", server.url, *own)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "seaway-0" in good.stdout
    for title in ("REST", "GraphPipe", "OIP v2", "OIP v2 binary"):
        assert f"{title}: " in good.stdout
    changed = tmp_path / "changed"
    shutil.copytree(volume, changed)
    file = changed / "toy" / "1" / "saved_model.pb"
    weights = np.load(file)
    weights[0, 0] += 1
    with file.open("wb") as opened:
        np.save(opened, weights)
    with serving(changed) as other:
        other.pod = "seaway-1"
        bad = seaway(tmp_path, "verify", other.url, *own, "--protocol", "graphpipe", "--report", "out")
    assert bad.returncode == 1
    assert "seaway-1 answered" in bad.stderr
    assert (tmp_path / "out" / "load.html").exists()


@pytest.mark.parametrize("verb", ["load", "load run", "load capacity", "load compare", "verify"])
def test_the_commands_explain_themselves(tmp_path, verb):
    got = seaway(tmp_path, *verb.split(), "--help")
    assert got.returncode == 0
    assert "Usage" in got.stdout
    assert verb.split()[-1] in got.stdout
