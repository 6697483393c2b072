"""`seaway load` and `seaway verify` as commands, against a tiny real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "seaway" / "load"))

import toy  # noqa: E402
from responder import serving  # noqa: E402
from tls_servers import grpcs, https  # noqa: E402


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy.make(folder / "made").publish(folder / "models")
    return folder / "models"


@pytest.fixture
def server(repository):
    with serving(repository) as started:
        yield started


def seaway(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


SHORT = ["--time", "1s", "--warmup", "0", "--users", "2"]


def test_limits_reports_and_exit_statuses(server, repository, tmp_path):
    options = ["--model-repository", repository, "--name", "toy", *SHORT, "--protocol", "tfs"]
    good = seaway(tmp_path, "load", server.url, *options, "--limit", "p50_ms=1000", "--report", "out")
    assert good.returncode == 0, good.stdout + good.stderr
    assert [line.split()[:2] for line in good.stdout.splitlines() if line.startswith("pass")] == [
        ["pass", "failed:"],
        ["pass", "wrong:"],
        ["pass", "p50_ms:"],
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"load.html", "load.json", "load.md"}
    document = json.loads((tmp_path / "out" / "load.json").read_text())
    assert (document["verdict"], len(document["runs"]), len(document["limits"])) == ("pass", 1, 3)
    assert "<svg" in (tmp_path / "out" / "load.html").read_text()
    assert "✅" in (tmp_path / "out" / "load.md").read_text()
    (tmp_path / "limits.yaml").write_text("p50_ms: 0.001\nfailed: 0\n")
    violated = seaway(tmp_path, "load", server.url, *options, "--limits", "limits.yaml", "--report", "other")
    assert violated.returncode == 1
    assert "fail         p50_ms" in violated.stdout
    inconclusive = seaway(tmp_path, "load", server.url, *options, "--rate", "20", "--limit", "p99_ms=5000")
    assert inconclusive.returncode == 3, inconclusive.stdout
    compared = seaway(tmp_path, "load", "compare", "out/load.json", "other/load.json")
    assert compared.returncode == 0
    assert "| REST, batch 1 | p50 ms |" in compared.stdout


def test_wrong_responses_violate_the_default_limits(server, repository, tmp_path):
    server.fault, server.every = "off", 5
    completed = seaway(tmp_path, "load", server.url, "--model-repository", repository, "--name", "toy", *SHORT)
    assert completed.returncode == 1
    assert "fail         wrong" in completed.stdout
    assert "differs from PyTorch's" in completed.stderr
    assert "REST" in completed.stdout
    assert "GraphPipe" not in completed.stdout, "one protocol, REST if the server supports it"


def test_the_limits_of_several_protocols_have_a_prefix(server, repository, tmp_path):
    both = ["--protocol", "oip", "--protocol", "graphpipe"]
    completed = seaway(tmp_path, "load", server.url, "--model-repository", repository, "--name", "toy", *SHORT, *both)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "pass         OIP v2, wrong" in completed.stdout
    assert "pass         GraphPipe, wrong" in completed.stdout


def test_the_arrivals_of_an_open_loop_are_in_the_report(server, repository, tmp_path):
    options = ["--model-repository", repository, "--name", "toy", "--time", "2s", "--warmup", "0", "--rate", "20"]
    for more, load, arrivals in (
        (["--seed", "3"], "20/s poisson, seed 3", "poisson"),
        (["--arrivals", "uniform"], "20/s uniform", "uniform"),
    ):
        completed = seaway(tmp_path, "load", server.url, *options, *more, "--report", arrivals)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        [run] = json.loads((tmp_path / arrivals / "load.json").read_text())["runs"]
        assert (run["arrivals"], run["expected_per_second"]) == (arrivals, 20.0)
        assert load in (tmp_path / arrivals / "load.html").read_text()
        assert load in (tmp_path / arrivals / "load.md").read_text()


def test_a_file_of_examples_against_any_server(server, tmp_path):
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype(np.float32))
    url = f"{server.url}/"  # a slash at the end makes no difference
    completed = seaway(tmp_path, "load", url, "--data", "x.npz", "--name", "toy", "--protocol", "tfs", *SHORT)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    wrong = seaway(tmp_path, "load", f"{url}api", "--data", "x.npz", "--name", "toy", "--protocol", "tfs", *SHORT)
    assert (wrong.returncode, "every path begins with the URL's /api" in wrong.stderr) == (1, True), wrong.stderr
    nameless = seaway(tmp_path, "load", server.url, "--data", "x.npz", *SHORT)
    assert nameless.returncode == 1
    assert "--name is missing" in nameless.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://127.0.0.1:9"], "is the server running"),
        (["--limit", "p99=1"], "unknown limit 'p99'"),
        (["--limit", "p99_ms"], "give NAME=VALUE"),
        (["--limit", "p50_ms=9", "--limit", "p99_ms=1"], "--limit: p99_ms=1 is lower than p50_ms=9"),
        (["--shape", "square"], "--shape square: choose from"),
        (["--protocol", "grpc"], "no protocol 'grpc'"),
        (["--users", "1", "--processes", "2"], "--processes 2 needs at least 2 users"),
        (["--baseline-version", "1"], "needs --rate"),
        (["--limit", "p99_ms=50%"], "--limit: p99_ms='50%' must be a number of milliseconds"),
        (["--rate", "50", "--limit", "slower=20%"], "limit slower needs a baseline: add --baseline URL"),
        (["--rate", "50", "--limit", "rate=51"], "limit rate=51 cannot be reached: a rate of 50"),
        (["--rate", "50", "--arrivals", "pareto"], "--arrivals pareto: choose from poisson, uniform"),
    ],
)
def test_wrong_use_is_a_one_line_error(repository, tmp_path, arguments, message):
    if not arguments[0].startswith("http"):
        arguments = ["http://127.0.0.1:9", *arguments]
    if "--name" not in arguments:
        arguments = [*arguments, "--name", "toy"]
    users = [] if "--users" in arguments else ["--users", "2"]
    completed = seaway(tmp_path, "load", *arguments, "--model-repository", repository, *users)
    assert completed.returncode == 1, completed.stdout + completed.stderr
    assert message in completed.stderr
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--name", "nobody"], "has no model 'nobody'"), (["--version", "7"], "toy has no version 7 in ")],
)
def test_a_model_that_the_repository_does_not_have(server, repository, tmp_path, arguments, message):
    completed = seaway(tmp_path, "load", server.url, "--model-repository", repository, *arguments)
    assert (completed.returncode, completed.stderr.count("\n")) == (1, 1)
    assert message in completed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "load capacity needs a latency limit: add e.g. --limit p99_ms=50"),
        (["--limit", "failed=1%"], "load capacity needs a latency limit"),
        (["--limit", "p99_ms=50", "--limit", "rate=9"], "load capacity cannot use the limit rate"),
        (["--limit", "p99_ms=50", "--limit", "slower=20%"], "load capacity cannot use the limit slower"),
    ],
)
def test_limits_that_a_capacity_search_cannot_use(repository, tmp_path, arguments, message):
    options = ["--name", "toy", "--model-repository", repository]
    completed = seaway(tmp_path, "load", "capacity", "http://127.0.0.1:9", *options, *arguments)
    assert (completed.returncode, message in completed.stderr) == (1, True), completed.stderr


def test_verify_names_the_replica(server, repository, tmp_path):
    server.pod = "seaway-0"
    options = ["--model-repository", repository, "--name", "toy", "--time", "1", "--users", "2"]
    good = seaway(tmp_path, "verify", server.url, *options)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "seaway-0" in good.stdout
    for title in ("REST", "GraphPipe", "OIP v2", "OIP v2 binary"):
        assert f"{title}: " in good.stdout
    changed = tmp_path / "changed"
    shutil.copytree(repository, changed)
    file = changed / "toy" / "1" / "saved_model.pb"
    weights = np.load(file)
    weights[0, 0] += 1
    with file.open("wb") as opened:
        np.save(opened, weights)
    with serving(changed) as other:
        other.pod = "seaway-1"
        bad = seaway(tmp_path, "verify", other.url, *options, "--protocol", "graphpipe", "--report", "out")
    assert bad.returncode == 1
    assert "seaway-1: " in bad.stderr
    for file in ("load.html", "load.md"):
        assert "responses were wrong" in (tmp_path / "out" / file).read_text(encoding="utf-8")


def test_verify_stores_no_evidence_if_another_version_responded(server, repository, tmp_path):
    server.digests[1] = "f" * 64
    options = ["--model-repository", repository, "--name", "toy", "--version", "1", "--protocol", "tfs", "--time", "1"]
    done = seaway(tmp_path, "verify", server.url, *options, "--users", "2")
    assert done.returncode == 1
    assert "no evidence was stored for toy/1@" in done.stderr
    assert "evidence: " not in done.stderr


@pytest.mark.parametrize("verb", ["load", "load run", "load capacity", "load compare", "verify"])
def test_the_help_of_each_command(tmp_path, verb):
    completed = seaway(tmp_path, *verb.split(), "--help")
    assert completed.returncode == 0
    assert "Usage" in completed.stdout
    assert verb.split()[-1] in completed.stdout


def test_servers_that_require_a_client_certificate(repository, tmp_path):
    ca = Authority(tmp_path)
    own, client = ca.issue("server"), ca.issue("client")
    trust, both = ["--tls-ca", "ca.pem"], ["--tls-cert", "client.crt", "--tls-key", client.key]
    examples = ["--golden", repository / "toy" / "1"]
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 4, 4, 1), np.float32))
    with https(repository, own, client_ca=ca.ca) as server, grpcs(repository, own, client_ca=ca.ca) as rpc:
        for arguments, shown in (
            (["load", server.url, *SHORT], "pass         wrong"),
            (["load", rpc, *SHORT], "pass         wrong"),
            (["load", "capacity", rpc, "--time", "1s", "--rate", "1", "--limit", "p50_ms=0.001"], "capacity over gRPC"),
            (["verify", rpc, "--time", "1s", "--users", "2", "--no-evidence"], "OIP v2 gRPC:"),
            (["deploy", "--version", "1", "--model-repository", repository, "--url", server.url], "over REST: match"),
        ):
            inputs = [] if arguments[0] == "deploy" else examples
            done = seaway(tmp_path, *arguments, *inputs, *trust, *both)
            assert shown in done.stdout, (arguments, done.stdout + done.stderr)
        for url in (server.url, rpc):
            without = seaway(tmp_path, "verify", url, *examples, *trust)
            assert (without.returncode, without.stdout) == (1, "")
            [line] = without.stderr.splitlines()
            assert line.startswith(f"seaway: {url}: the server ") and "give --tls-cert FILE and --tls-key FILE" in line
            untrusted = seaway(tmp_path, "predict", "x.npz", "--url", url, "--name", "toy", *both)
            [line] = untrusted.stderr.splitlines()
            assert line.startswith(f"seaway: {url}: the server's TLS certificate is not trusted")


@pytest.mark.parametrize(
    "verb", [["load", "{}"], ["load", "capacity", "{}", "--limit", "p50_ms=9"], ["verify", "{}"], ["evaluate", "{}"],
             ["predict", "x.npz", "--url", "{}"]], ids=lambda verb: " ".join(verb[:2]),
)  # fmt: skip
def test_tls_options_are_checked_before_any_request(verb, tmp_path):
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 4, 4, 1), np.float32))
    for url, option, message in (
        ("http://127.0.0.1:1", ["--insecure"], "http://127.0.0.1:1: no TLS there, so --insecure would have no effect"),
        ("grpcs://127.0.0.1:1", ["--insecure"], "gRPC cannot skip the verification of a certificate"),
        ("https://127.0.0.1:1", ["--tls-ca", "none.crt"], "--tls-ca none.crt: it does not exist: check the path"),
        ("https://127.0.0.1:1", ["--tls-key", "x.key"], "--tls-key x.key: its certificate is missing"),
    ):
        done = seaway(tmp_path, *(word.format(url) for word in verb), *option)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
