import itertools
import json
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import toy
from responder import serving

from seaway.artifacts import card as cards
from seaway.artifacts import golden, store
from seaway.errors import CardError, DataError, InvalidInput, NotFound, Refused
from seaway.load import run as runs
from seaway.load.load import load
from seaway.promote.promote import promote


@pytest.fixture
def made(tmp_path):
    return toy.make(tmp_path / "made")


@pytest.fixture
def volume(made, tmp_path):
    made.publish(tmp_path / "volume")
    return tmp_path / "volume"


@pytest.fixture
def server(volume):
    with serving(volume) as started:
        yield started


class Text(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.words = ""
        self.feed(page)

    def handle_data(self, data):
        self.words += " " + data.strip()


def test_the_stage_writes_evidence_on_which_the_version_is_promoted(server, volume, made, tmp_path):
    out = tmp_path / "evidence"
    of = ["--url", server.url, "--volume", volume, "--name", "toy", "--version", "1", "--evidence", out]
    of += ["--dataset", made.dataset, "--onnx", made.onnx, "--seconds", "1", "--users", "2"]
    command = [sys.executable, "-m", "seaway.load", *of, "--report", tmp_path / "copy.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert " 0 wrong, 0 failed, 0 foreign" in done.stdout

    card = cards.check(out, "evidence")
    version = store.read_card(volume, "toy", 1)
    assert card.parents["version"].sha256 == version.sha256
    truth = np.load(made.dataset / "test_labels.npy")
    recorded = golden.read(made.onnx / golden.TEST_OUTPUTS).outputs["scores"]
    accuracy = (recorded.argmax(axis=1) == truth).mean()
    assert card.metrics["tfs_accuracy"] == card.metrics["graphpipe_accuracy"] == accuracy

    found = json.loads((out / "load.json").read_text())
    titles = ["REST", "GraphPipe", "OIP v2", "OIP v2 binary"]  # all that the server speaks; the toy has no from_png
    assert [row["hop"] for row in found["served"]] == [f"served, {title}" for title in titles]
    assert all(row["examples"] == 40 and row["wrong"] == 0 for row in found["served"])
    assert [run["protocol"] for run in found["runs"]] == ["tfs", "graphpipe", "oip", "oip-binary"]
    assert sum(run["requests"] for run in found["runs"]) == card.metrics["requests"] > 0

    assert [(row["hop"], row["accuracy"], row["wrong"], row["failed"]) for row in found["rows"]] == [
        (f"served, {title}", accuracy, 0, 0) for title in titles
    ]

    words = Text((out / "report.html").read_text()).words
    assert "none wrong, none failed" in words
    assert f"{accuracy:.2%}" in words
    assert (tmp_path / "copy.html").read_bytes() == (out / "report.html").read_bytes()
    (kept,) = store.evidence(volume, "toy", version.sha256).iterdir()
    assert cards.check(kept, "evidence").sha256 == card.sha256
    assert promote(volume, "toy", 1) is None


def test_wrong_and_failed_answers_are_evidence_too_and_promote_refuses(server, volume, tmp_path):
    server.fault, server.every = "nan", 2
    card = load(server.url, volume, "toy", 1, tmp_path / "evidence", seconds=1, users=2, protocols=["tfs"])
    assert card.metrics["wrong"] > 0
    assert card.metrics["failed"] == 0
    words = Text((tmp_path / "evidence" / "report.html").read_text()).words
    assert "wrong answers" in words
    assert "beyond measure" in words
    assert "WrongAnswer: differs from PyTorch's" in words
    with pytest.raises(Refused, match="answers differed from PyTorch's"):
        promote(volume, "toy", 1, tmp_path / "evidence")
    server.every = 1
    card = load(server.url, volume, "toy", 1, tmp_path / "all", seconds=1, users=2, protocols=["tfs"])
    assert card.metrics["wrong"] == card.metrics["requests"] + 16, "the golden examples too"
    (row,) = json.loads((tmp_path / "all" / "load.json").read_text())["rows"]
    assert row["max_abs"] is None
    server.fault, server.every, server.counter = "error", 3, itertools.count()
    card = load(server.url, volume, "toy", 1, tmp_path / "again", seconds=1, users=2, protocols=["graphpipe"])
    assert card.metrics["failed"] > 0
    with pytest.raises(Refused, match="requests failed"):
        promote(volume, "toy", 1, tmp_path / "again")


def test_a_limit_that_is_not_kept_keeps_the_version_from_being_promoted(server, volume, tmp_path):
    own = {"seconds": 1, "users": 2, "protocols": ["tfs"]}
    card = load(server.url, volume, "toy", 1, tmp_path / "kept", limits={"p50_ms": "5000"}, **own)
    assert (card.settings["verdict"], card.settings["not_kept"]) == ("pass", [])
    assert promote(volume, "toy", 1, tmp_path / "kept") is None
    card = load(server.url, volume, "toy", 1, tmp_path / "broken", limits={"p50_ms": 0.001, "rate": "1"}, **own)
    assert card.settings["verdict"] == "fail"
    with pytest.raises(Refused, match=r"REST, p50_ms is fail: p50_ms .* at most 0\.001"):
        promote(volume, "toy", 1, tmp_path / "broken")
    server.delay = 0.05
    card = load(server.url, volume, "toy", 1, tmp_path / "short", limits={"p99_ms": "5000"}, **own)
    with pytest.raises(Refused, match=r"p99_ms is inconclusive: .*run longer"):
        promote(volume, "toy", 1, tmp_path / "short")
    with pytest.raises(InvalidInput, match="no limit 'p98_ms'"):
        load(server.url, volume, "toy", 1, tmp_path / "none", limits={"p98_ms": 1}, **own)
    with pytest.raises(InvalidInput, match="limit rate=21 cannot be reached: a rate of 20"):
        load(server.url, volume, "toy", 1, tmp_path / "none", limits={"rate": 21}, rate=20, **own)
    assert not (tmp_path / "none").exists()


def test_a_version_that_is_slower_than_stable_is_not_promoted(server, volume, made, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LATE_MS", 1000.0)  # other tests run beside this one
    toy.make(tmp_path / "other", seed=1).publish(volume)
    store.set_label(volume, "toy", "stable", 1)
    server.delay = 0.1
    with serving(volume) as stable:
        own = {"seconds": 1, "rate": 20, "users": 8, "protocols": ["tfs"], "baseline": stable.url}
        stable.versions[2] = stable.version(1)[1:]  # a pod serves its one version, whoever asks
        stable.digests[2] = store.read_card(volume, "toy", 1).sha256
        card = load(server.url, volume, "toy", 2, tmp_path / "slow", limits={"slower": "20%"}, **own)
        assert next(stable.counter) > 50, "stable was asked as well"
    assert card.metrics["wrong"] == card.metrics["failed"] == 0
    assert (card.settings["arrivals"], card.settings["users"]) == ("poisson", runs.OPEN_USERS), "as many as it takes"
    assert card.settings["verdict"] != "pass"
    with pytest.raises(Refused, match=r"p50_ms against the baseline is (fail|inconclusive): "):
        promote(volume, "toy", 2, tmp_path / "slow")
    assert store.labels(volume, "toy") == {"stable": 1}


def test_what_the_version_was_not_made_from_is_refused(server, volume, made, tmp_path):
    other = toy.make(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match="not the onnx that toy"):
        load(server.url, volume, "toy", 1, tmp_path / "e", other.dataset, other.onnx)
    with pytest.raises(DataError, match="not the dataset that toy"):
        load(server.url, volume, "toy", 1, tmp_path / "e", other.dataset, made.onnx)
    with pytest.raises(InvalidInput, match="--onnx is missing"):
        load(server.url, volume, "toy", 1, tmp_path / "e", made.dataset)
    with pytest.raises(NotFound, match="no version 2"):
        load(server.url, volume, "toy", 2, tmp_path / "e")
    (made.onnx / golden.TEST_OUTPUTS).unlink()
    with pytest.raises(CardError, match="changed after its card was written"):
        load(server.url, volume, "toy", 1, tmp_path / "e", made.dataset, made.onnx)
    assert not (tmp_path / "e").exists()
