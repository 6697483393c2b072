"""`seaway ship` with a user's own network, and a running server that loads it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import golden, model_repository
from seaway.errors import SeawayError
from seaway.load.client import Client
from seaway.pipeline import local
from seaway.protocols import client_codecs, oip

ROOT = Path(__file__).resolve().parents[3]

FIXTURES = ROOT / "tests" / "fixtures"  # shipped_nets.py
LABELS = ("stays", "leaves", "returns", "complains")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ship")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    return folder


def seaway(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{FIXTURES}", "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=280)


def ship(place: Path, name: str, *arguments: str) -> None:
    done = seaway(place, "ship", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert f"{name} is version 1" in done.stdout
    assert re.search(r"Report   file://\S+/reports/validate.html", done.stdout)


@pytest.fixture(scope="module")
def repository(place: Path) -> Path:
    """A model repository with churn, which has labels."""
    inputs = ("--input", "numeric:6", "--input", "category:3:int64")
    ship(place, "churn", "python:shipped_nets:churn", *inputs, "--labels", "labels.txt")
    return place / ".seaway" / local.REPOSITORY


def test_a_running_server_loads_shipped_networks_and_matches_pytorch(place: Path, repository: Path) -> None:
    with local.server(repository, free_port(), place / "server.log") as (url, *_), Client(url) as client:
        ship(place, "resnet18", "python:torchvision.models:resnet18", "--input", "3x64x64")
        for name in ("churn", "resnet18"):
            wait_until_available(client, name)
            metadata = model_repository.read_metadata(repository, name, 1)
            examples = golden.read(model_repository.path(repository, name, 1) / model_repository.EXTRA / golden.GOLDEN)
            for protocol in ("tfs", "graphpipe"):
                output = metadata.outputs[0].name
                array, served_by = client.predict(client_codecs.named(protocol), name, examples.inputs, output)
                assert golden.compare(array, examples.outputs[output], metadata.tolerances[output]).wrong == 0
                assert served_by == f"{name}/1@{metadata.sha256}"
        evaluated = seaway(place, "evaluate", "--data", "strokes:434", "--name", "churn", "--url", url)
        assert evaluated.returncode == 1
        assert (
            "churn has the inputs ['category', 'numeric']; only a model with one image input can be scored"
            in evaluated.stderr
        )
    assert model_repository.read_metadata(repository, "churn", 1).labels == LABELS
    assert "matches PyTorch at every hop" in (repository.parent / "reports" / "validate.html").read_text("utf-8")


@pytest.mark.parametrize("backend", ["savedmodel", "onnx"])
def test_labels_over_every_protocol(
    place: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("SEAWAY_BACKEND", backend)
    examples = golden.read(model_repository.path(repository, "churn", 1) / model_repository.EXTRA / golden.GOLDEN)
    inputs = {name: array[:2] for name, array in examples.inputs.items()}
    np.savez(place / "rows.npz", **inputs)
    scores = examples.outputs["scores"][:2]
    best = [(LABELS[i], float(row[i])) for row in scores for i in [row.argmax()]]
    with local.server(repository, free_port(), place / "labels.log") as (url, *_), Client(url) as client:
        wait_until_available(client, "churn")
        for protocol in ("tfs", "oip", "oip-binary", "graphpipe"):
            done = seaway(place, "predict", "rows.npz", "--name", "churn", "--url", url, "--protocol", protocol)
            rows = re.findall(r"rows\.npz [01] │ (\w+) +│ ([\d.]+)% │", done.stdout)
            assert [(label, pytest.approx(float(score), abs=0.06)) for label, score in rows] == [
                (label, 100 * score) for label, score in best
            ], done.stdout + done.stderr
        values = {"inputs": {name: array.tolist() for name, array in inputs.items()}}
        (place / "logits.json").write_text(json.dumps({"signature_name": "logits"} | values))
        done = seaway(place, "predict", "logits.json", "--name", "churn", "--url", url)
        for number, row in enumerate(examples.outputs["logits"][:2]):
            shown = re.search(rf"logits\.json {number} │ (.+?) +│", done.stdout)
            assert shown, done.stdout + done.stderr
            assert [float(value) for value in shown[1].split(", ")] == pytest.approx(row.tolist(), abs=1e-4)
        for binary in (False, True):
            document = json.loads(oip.write_infer_request(inputs)[0])
            parameters = {"classification": 2, "binary_data": binary}
            document["outputs"] = [{"name": "scores", "parameters": parameters}]
            request = urllib.request.Request(f"{url}/v2/models/churn/infer", json.dumps(document).encode())
            with urllib.request.urlopen(request) as response:
                classes = oip.read_infer_response(response.read(), response.headers)["scores"]
            assert classes.shape == (2, 2)
            for text, (label, score) in zip(classes[:, 0], best, strict=True):
                value, index, name = text.decode().split(":")
                assert (float(value), int(index), name) == (pytest.approx(score, abs=1e-5), LABELS.index(label), label)
        absent = seaway(place, "predict", "nine.npz", "rows.npz", "nine.json", "--name", "churn", "--url", url)
        assert re.findall(r"(\S+): no such file", absent.stderr) == ["nine.npz", "nine.json"]
        no_image = seaway(place, "predict", "rows.npz", "--name", "churn", "--url", url, "--protocol", "png")
        assert "rows.npz: --protocol png sends images" in no_image.stderr
        (place / "seven.png").touch()
        refused = seaway(place, "predict", "seven.png", "--name", "churn", "--url", url)
        assert "churn has no signature from_png, so it takes no images" in refused.stderr


def test_a_net_that_cannot_be_shipped_publishes_nothing(place: Path) -> None:
    refused = seaway(place, "ship", "python:shipped_nets:AlwaysDropsOut", "--input", "4", "--root", "other")
    assert refused.returncode == 1
    assert "different outputs for the same inputs" in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr
    assert "the stage export-model failed" in refused.stderr
    assert model_repository.models(place / "other" / local.REPOSITORY) == []


def wait_until_available(client: Client, name: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(SeawayError):  # unknown until the server has found it
            if [status.state for status in client.status(name)] == ["AVAILABLE"]:
                return
        time.sleep(0.2)
    pytest.fail(f"{name} was not loaded")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
