import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import toy
from certificates import Authority
from responder import serving
from tls_servers import grpcs, https, plain_grpc

from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.errors import DataError, InvalidInput, MetadataError, NotFound, Refused
from seaway.load import config, gate, result
from seaway.load.client import NoResponse
from seaway.load.load import load
from seaway.promote.promote import promote


@pytest.fixture
def made(tmp_path):
    return toy.make(tmp_path / "made")


@pytest.fixture
def repository(made, tmp_path):
    made.publish(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def server(repository):
    with serving(repository) as started:
        yield started


class Text(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.words = ""
        self.feed(page)

    def handle_data(self, data):
        self.words += " " + data.strip()


def test_the_stage_writes_evidence_that_allows_promotion(server, repository, made, tmp_path):
    out = tmp_path / "evidence"
    options = [
        "--url",
        server.url,
        "--model-repository",
        repository,
        "--name",
        "toy",
        "--version",
        "1",
        "--evidence",
        out,
    ]
    options += ["--dataset", made.dataset, "--onnx", made.onnx, "--duration-s", "1", "--users", "2"]
    command = [sys.executable, "-m", "seaway.load", *options, "--report", tmp_path / "copy.html"]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert completed.returncode == 0, completed.stderr
    assert " 0 wrong, 0 failed, 0 unattributed" in completed.stdout

    metadata = artifact_metadata.check(out, "evidence")
    version = model_repository.read_metadata(repository, "toy", 1)
    assert metadata.parents["version"].sha256 == version.sha256
    true_classes = np.load(made.dataset / "test_labels.npy")
    recorded = golden.read(made.onnx / golden.TEST_OUTPUTS).outputs["scores"]
    accuracy = (recorded.argmax(axis=1) == true_classes).mean()
    assert metadata.metrics["tfs_accuracy"] == metadata.metrics["graphpipe_accuracy"] == accuracy

    document = json.loads((out / "load.json").read_text())
    titles = [
        "REST",
        "GraphPipe",
        "OIP v2",
        "OIP v2 binary",
    ]  # all that the server supports; the toy model has no from_png
    assert [row["hop"] for row in document["served"]] == [f"served, {title}" for title in titles]
    assert all(row["examples"] == 40 and row["wrong"] == 0 for row in document["served"])
    assert [run["protocol"] for run in document["runs"]] == ["tfs", "graphpipe", "oip", "oip-binary"]
    assert sum(run["requests"] for run in document["runs"]) == metadata.metrics["requests"] > 0

    assert [(row["hop"], row["accuracy"], row["wrong"], row["failed"]) for row in document["rows"]] == [
        (f"served, {title}", accuracy, 0, 0) for title in titles
    ]

    words = Text((out / "report.html").read_text()).words
    assert "none wrong, none failed" in words
    assert f"{accuracy:.2%}" in words
    assert (tmp_path / "copy.html").read_bytes() == (out / "report.html").read_bytes()
    (stored,) = model_repository.evidence(repository, "toy", version.sha256).iterdir()
    assert artifact_metadata.check(stored, "evidence").sha256 == metadata.sha256
    assert promote(repository, "toy", 1) is None


def test_promote_refuses_on_evidence_of_wrong_and_failed_responses(server, repository, tmp_path):
    server.fault, server.every = "nan", 2
    metadata = load(server.url, repository, "toy", 1, tmp_path / "evidence", duration_s=1, users=2, protocols=["tfs"])
    assert metadata.metrics["wrong"] > 0
    assert metadata.metrics["failed"] == 0
    words = Text((tmp_path / "evidence" / "report.html").read_text()).words
    assert "wrong responses" in words
    assert "infinite" in words
    assert "wrong response: output 'scores' differs from PyTorch's" in words
    with pytest.raises(Refused, match="responses differed from PyTorch's"):
        promote(repository, "toy", 1, tmp_path / "evidence")
    server.every = 1
    metadata = load(server.url, repository, "toy", 1, tmp_path / "all", duration_s=1, users=2, protocols=["tfs"])
    assert metadata.metrics["wrong"] == metadata.metrics["requests"] + 16, "with the golden examples"
    (row,) = json.loads((tmp_path / "all" / "load.json").read_text())["rows"]
    assert row["max_abs"] is None
    server.fault, server.every, server.counter = "error", 3, itertools.count()
    metadata = load(
        server.url, repository, "toy", 1, tmp_path / "again", duration_s=1, users=2, protocols=["graphpipe"]
    )
    assert metadata.metrics["failed"] > 0
    with pytest.raises(Refused, match="requests failed"):
        promote(repository, "toy", 1, tmp_path / "again")


def test_a_violated_limit_prevents_promotion(server, repository, tmp_path):
    options = {"duration_s": 1, "users": 2, "protocols": ["tfs"]}
    metadata = load(server.url, repository, "toy", 1, tmp_path / "met", limits={"p50_ms": "5000"}, **options)
    assert (metadata.settings["verdict"], metadata.settings["not_kept"]) == ("pass", [])
    assert promote(repository, "toy", 1, tmp_path / "met") is None
    metadata = load(
        server.url, repository, "toy", 1, tmp_path / "violated", limits={"p50_ms": 0.001, "rate": "1"}, **options
    )
    assert metadata.settings["verdict"] == "fail"
    with pytest.raises(Refused, match=r"REST, p50_ms is violated: .* limit 0\.001 ms"):
        promote(repository, "toy", 1, tmp_path / "violated")
    server.delay_s = 0.05
    metadata = load(server.url, repository, "toy", 1, tmp_path / "short", limits={"p99_ms": "5000"}, **options)
    with pytest.raises(Refused, match=r"p99_ms is inconclusive: .*run longer"):
        promote(repository, "toy", 1, tmp_path / "short")
    with pytest.raises(InvalidInput, match="unknown limit 'p98_ms'"):
        load(server.url, repository, "toy", 1, tmp_path / "none", limits={"p98_ms": 1}, **options)
    with pytest.raises(InvalidInput, match="limit rate=21 cannot be reached: a rate of 20"):
        load(server.url, repository, "toy", 1, tmp_path / "none", limits={"rate": 21}, rate=20, **options)
    assert not (tmp_path / "none").exists()


def test_a_version_slower_than_stable_is_not_promoted(server, repository, made, tmp_path, monkeypatch):
    monkeypatch.setattr(result, "MAX_LAG_MS", 1000.0)  # other tests run at the same time
    toy.make(tmp_path / "other", seed=1).publish(repository)
    model_repository.set_label(repository, "toy", "stable", 1)
    server.delay_s = 0.1
    with serving(repository) as stable:
        options = {"duration_s": 1, "rate": 20, "users": 8, "protocols": ["tfs"], "baseline": stable.url}
        stable.versions[2] = stable.version(1)[1:]  # a pod serves its one version whatever the request names
        stable.digests[2] = model_repository.read_metadata(repository, "toy", 1).sha256
        metadata = load(server.url, repository, "toy", 2, tmp_path / "slow", limits={"slower": "20%"}, **options)
        assert next(stable.counter) > 50, "stable got requests as well"
    assert metadata.metrics["wrong"] == metadata.metrics["failed"] == 0
    assert (metadata.settings["arrivals"], metadata.settings["users"]) == ("poisson", config.OPEN_LOOP_USERS), (
        "as many as needed"
    )
    assert metadata.settings["verdict"] != "pass"
    page = (tmp_path / "slow" / "report.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("Against the stable version", "REST: ", " rounds of the baseline toy/"))
    with pytest.raises(Refused, match=r"p50_ms against the baseline is (violated|inconclusive): "):
        promote(repository, "toy", 2, tmp_path / "slow")
    assert model_repository.labels(repository, "toy") == {"stable": 1}


def test_a_version_in_another_engine_than_stable_is_not_compared(server, repository, tmp_path):
    toy.make(tmp_path / "other", seed=1).publish(repository)
    model_repository.set_label(repository, "toy", "stable", 1)
    server.backend = "onnx"
    with serving(repository) as stable:
        stable.backend = "savedmodel"
        options = {"duration_s": 1, "rate": 20, "users": 8, "protocols": ["tfs"], "baseline": stable.url}
        metadata = load(server.url, repository, "toy", 2, tmp_path / "e", limits={"slower": "20%"}, **options)
    assert (metadata.settings["backends"], metadata.settings["verdict"]) == (["onnx"], "inconclusive")
    with pytest.raises(
        Refused, match="slower is inconclusive: the baseline responds with savedmodel and the candidate"
    ):
        promote(repository, "toy", 2, tmp_path / "e")


def test_artifacts_that_the_version_was_not_made_from_are_refused(server, repository, made, tmp_path):
    other = toy.make(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match="not the onnx that toy"):
        load(server.url, repository, "toy", 1, tmp_path / "e", other.dataset, other.onnx)
    with pytest.raises(DataError, match="not the dataset that toy"):
        load(server.url, repository, "toy", 1, tmp_path / "e", other.dataset, made.onnx)
    with pytest.raises(InvalidInput, match="--onnx is missing"):
        load(server.url, repository, "toy", 1, tmp_path / "e", made.dataset)
    with pytest.raises(NotFound, match="no version 2"):
        load(server.url, repository, "toy", 2, tmp_path / "e")
    (made.onnx / golden.TEST_OUTPUTS).unlink()
    with pytest.raises(MetadataError, match="changed after its metadata was written"):
        load(server.url, repository, "toy", 1, tmp_path / "e", made.dataset, made.onnx)
    assert not (tmp_path / "e").exists()


def test_the_stage_at_https_with_a_client_certificate(repository, tmp_path):
    ca = Authority(tmp_path)
    client = ca.issue("client")
    options = ["--model-repository", repository, "--name", "toy", "--version", "1", "--evidence", tmp_path / "evidence"]
    options += ["--duration-s", "1", "--users", "2", "--protocol", "tfs"]
    files = ["--tls-ca", ca.ca, "--tls-cert", client.cert, "--tls-key", client.key]
    with https(repository, ca.issue("server"), client_ca=ca.ca) as server:
        command = [sys.executable, "-m", "seaway.load", "--url", server.url, *options, *files]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ", 0 wrong, 0 failed" in done.stdout
    with pytest.raises(InvalidInput, match=r"http://127.0.0.1:1: no TLS there, so --tls-ca would have no effect"):
        load("http://127.0.0.1:1", repository, "toy", 1, tmp_path / "none", tls=ca.trust())


def test_the_stage_over_http_and_grpc(server, repository, made, tmp_path):
    """Every output over every protocol of both ports, as the pipelines' load stage is called."""
    options = {"dataset": made.dataset, "onnx": made.onnx, "duration_s": 1, "users": 2}
    with plain_grpc(repository) as grpc_url:
        metadata = load(server.url, repository, "toy", 1, tmp_path / "evidence", grpc_url=grpc_url, **options)
    document = json.loads((tmp_path / "evidence" / "load.json").read_text())
    protocols = ["tfs", "graphpipe", "oip", "oip-binary", "tfs-grpc", "oip-grpc"]
    assert [row["protocol"] for row in document["served"]] == metadata.settings["protocols"] == protocols
    assert all(row["examples"] == 40 and row["wrong"] == 0 for row in document["served"])
    assert len({row["accuracy"] for row in document["rows"]}) == 1
    assert [row["hop"] for row in document["rows"]][-2:] == ["served, gRPC Predict", "served, OIP v2 gRPC"]
    assert [run["url"] for run in document["runs"]] == [server.url] * 4 + [grpc_url] * 2
    assert all(run["requests"] and not run["wrong"] and not run["failed"] for run in document["runs"])
    assert promote(repository, "toy", 1) is None


def test_wrong_responses_over_grpc_alone_prevent_promotion(server, repository, tmp_path):
    toy.make(tmp_path / "other", seed=1).publish(tmp_path / "others")
    with plain_grpc(tmp_path / "others") as grpc_url:  # the port of another server, with another model
        metadata = load(
            *(server.url, repository, "toy", 1, tmp_path / "evidence"),
            grpc_url=grpc_url,
            duration_s=1,
            users=2,
            protocols=["tfs", "oip-grpc"],
        )
    rows = json.loads((tmp_path / "evidence" / "load.json").read_text())["rows"]
    assert [(row["hop"], row["wrong"] > 0) for row in rows] == [("served, REST", False), ("served, OIP v2 gRPC", True)]
    assert metadata.metrics["wrong"] == rows[1]["wrong"]
    with pytest.raises(Refused, match="responses differed from PyTorch's"):
        promote(repository, "toy", 1, tmp_path / "evidence")


def test_the_stage_at_grpcs_with_a_client_certificate(repository, tmp_path):
    ca = Authority(tmp_path)
    client = ca.issue("client")
    options = ["--model-repository", repository, "--name", "toy", "--version", "1", "--evidence", tmp_path / "evidence"]
    options += ["--duration-s", "1", "--users", "2"]
    files = ["--tls-ca", ca.ca, "--tls-cert", client.cert, "--tls-key", client.key]
    server = ca.issue("server")
    with https(repository, server, client_ca=ca.ca) as over_http, grpcs(repository, server, ca.ca) as grpc_url:
        protocols = ["--protocol", "tfs", "--protocol", "tfs-grpc", "--protocol", "oip-grpc"]
        urls = ["--url", over_http.url, "--grpc-url", grpc_url]
        command = [sys.executable, "-m", "seaway.load", *urls, *protocols, *options, *files]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ", 0 wrong, 0 failed" in done.stdout
    settings = artifact_metadata.check(tmp_path / "evidence", "evidence").settings
    assert settings["protocols"] == ["tfs", "tfs-grpc", "oip-grpc"]


def test_a_comparison_with_stable_over_grpc(repository, tmp_path, monkeypatch):
    """The baseline and the candidate are called over the same protocol."""
    monkeypatch.setattr(gate, "MAX_ROUNDS", 1)
    shutil.copytree(repository, tmp_path / "stable")
    toy.make(tmp_path / "other", seed=1).publish(repository)
    model_repository.set_label(repository, "toy", "stable", 1)
    evidence, options = tmp_path / "evidence", {"duration_s": 1, "rate": 20, "limits": {"slower": "20%"}}
    with plain_grpc(tmp_path / "stable") as stable, plain_grpc(repository) as canary:
        with pytest.raises(InvalidInput, match=f"slower compares {canary} with the baseline http://127.0.0.1:1"):
            load(canary, repository, "toy", 2, evidence, baseline="http://127.0.0.1:1", **options)
        options["protocols"] = ["oip-grpc"]
        metadata = load(canary, repository, "toy", 2, evidence, baseline=stable, **options)
    assert (metadata.metrics["wrong"], metadata.metrics["failed"]) == (0, 0)
    page = Text((evidence / "report.html").read_text(encoding="utf-8")).words
    assert re.search(r"Against the stable version\s.*OIP v2 gRPC: .*baseline toy/1", page), page


def test_an_address_without_a_server_is_one_line(server, repository, tmp_path):
    with pytest.raises(NoResponse, match=r"grpc://127.0.0.1:1: no response .*is the server running there"):
        load(server.url, repository, "toy", 1, tmp_path / "evidence", grpc_url="grpc://127.0.0.1:1")
    with pytest.raises(InvalidInput, match=r"'127.0.0.1:1' is not the address of a gRPC server"):
        load(server.url, repository, "toy", 1, tmp_path / "evidence", grpc_url="127.0.0.1:1")
    assert not (tmp_path / "evidence").exists()
