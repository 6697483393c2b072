"""`seaway ship` as a user ships a net of their own, and a running server that takes it up."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seaway.artifacts import golden, store
from seaway.errors import SeawayError
from seaway.load.client import Client
from seaway.pipeline import local
from seaway.protocols import wire

ROOT = Path(__file__).resolve().parents[3]

FIXTURES = ROOT / "tests" / "fixtures"  # shipped_nets.py


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ship")
    (folder / "labels.txt").write_text("stays\nleaves\nreturns\ncomplains\n")
    return folder


def seaway(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{FIXTURES}", "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=280)


def test_two_nets_are_shipped_and_a_running_server_answers_as_pytorch_did(place: Path) -> None:
    volume = place / ".seaway" / local.VOLUME
    churn = ("python:shipped_nets:churn", "--input", "numeric:6", "--input", "category:3:int64")
    resnet18 = ("python:torchvision.models:resnet18", "--input", "3x64x64")
    with local.server(volume, free_port(), place / "server.log") as (url, _), Client(url) as client:
        for name, arguments in {"churn": (*churn, "--labels", "labels.txt"), "resnet18": resnet18}.items():
            shipped = seaway(place, "ship", *arguments)
            assert shipped.returncode == 0, shipped.stdout[-3000:] + shipped.stderr
            assert f"{name} is version 1" in shipped.stdout
            wait_until_available(client, name)
            card = store.read_card(volume, name, 1)
            known = golden.read(store.path(volume, name, 1) / store.EXTRA / golden.GOLDEN)
            for protocol in ("tfs", "graphpipe"):
                got, served_by = client.predict(wire.named(protocol), name, known.inputs, "scores")
                assert golden.compare(got, known.outputs["scores"], card.tolerances["scores"]).wrong == 0
                assert served_by == f"{name}/1@{card.sha256}"
        scored = seaway(place, "evaluate", "--data", "strokes:434", "--name", "churn", "--url", url)
        assert scored.returncode == 1
        assert "churn takes ['category', 'numeric'], and only a model of pictures alone can be scored" in scored.stderr
    assert store.read_card(volume, "churn", 1).labels == ("stays", "leaves", "returns", "complains")


def test_a_net_that_cannot_be_shipped_publishes_nothing(place: Path) -> None:
    refused = seaway(place, "ship", "python:shipped_nets:ReturnsTuple", "--input", "4", "--root", "other")
    assert refused.returncode == 1
    assert "tuple" in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr
    assert "the stage export-model failed" in refused.stderr
    assert store.models(place / "other" / local.VOLUME) == []


def wait_until_available(client: Client, name: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(SeawayError):  # unknown until the server has seen it
            if [status.state for status in client.status(name)] == ["AVAILABLE"]:
                return
        time.sleep(0.2)
    pytest.fail(f"{name} was not taken up")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
