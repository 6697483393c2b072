"""Foreign model repositories: versions padded with zeros or 0, and model names that URLs must quote."""

import json
import os
import shutil
from urllib.parse import quote

import numpy as np
import pytest

from seaway.artifacts import model_repository
from seaway.artifacts.artifact_metadata import Tensor
from seaway.load.client import Client
from seaway.protocols import client_codecs, graphpipe

STAMP = 1764408196123456789  # nanoseconds, as some trainers count
NAMES = ["my model", "größe", "v1.0 (old)", "模型", "50% + more", "a:b@c"]


@pytest.fixture(scope="module")
def repository(models, tmp_path_factory):
    repository = tmp_path_factory.mktemp("others")
    for folder in ("padded/00000123", "zero/0", "twice/0001", f"stamped/{STAMP}", *(f"{name}/1" for name in NAMES)):
        shutil.copytree(models / "half" / "1", repository / folder)
    shutil.copytree(models / "half" / "2", repository / "twice" / "1")
    for folder in (".snapshot/1", "empty", "padded/old", "padded/.cache", os.fsdecode(b"\xff/1")):
        (repository / folder).mkdir(parents=True)
    (repository / "padded" / "7").write_text("no folder")
    return repository


@pytest.fixture(scope="module")
def named(repository, server_class):
    running = server_class(repository, "--access-log")
    running.wait_ready()
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize(
    "name, number, offset", [("padded", 123, 2.0), ("zero", 0, 2.0), ("twice", 1, 3.0), ("stamped", STAMP, 2.0)]
)
def test_a_version_is_found_however_its_number_is_written(named, name, number, offset):
    named.wait(lambda: named.states(name) == {number: "AVAILABLE"})
    for target in (name, f"{name}/versions/{number}", f"{name}/versions/000{number}"):
        reply = named.predict(target, {"instances": [1.0]})
        assert reply.json() == {"predictions": [0.5 + offset]}
        assert reply.headers["Seaway-Model"].startswith(f"{name}/{number}@")
    assert named.get(f"/v2/models/{name}/versions/{number}/ready").status == 200
    assert named.get(f"/graphpipe/{name}/versions/{number}").status == 200
    assert named.get(f"/v2/models/{name}").json()["versions"] == [str(number)]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_any_name_over_all_protocols(named, name):
    quoted = quote(name, safe="")
    named.wait(lambda: named.states(quoted) == {1: "AVAILABLE"})
    with Client(named.url) as client:
        for protocol in (client_codecs.TFS, client_codecs.OIP, client_codecs.OIP_BINARY, client_codecs.GRAPHPIPE):
            outputs, served_by = client.predict(protocol, name, {"x": np.float32([1, 2])}, "y")
            assert outputs.tolist() == [2.5, 3.0]
            assert served_by.startswith(f"{quoted}/1@")
        assert client.predict(client_codecs.TFS, name, {"x": np.float32([1])}, "y", 1)[0].tolist() == [2.5]
        assert [status.state for status in client.status(name)] == ["AVAILABLE"]
        assert client.signatures(name)["serving_default"].inputs == (Tensor("x", "float32", (None,)),)
    assert named.get(f"/v2/models/{quoted}").json()["name"] == name
    assert named.get(f"/v2/models/{quoted}/ready").json() == {"name": name, "ready": True}
    body = graphpipe.write_infer_request({"": np.float32([2])})
    assert named.request("POST", f"/graphpipe/{quoted}/versions/1", body).status == 200
    assert f'seaway_requests_total{{protocol="tfs",model="{name}",version="1",code="200"}}' in named.metrics()
    about = {model["name"]: model for model in named.get("/page/about").json()["models"]}
    assert about[name]["default"] == 1
    lines = [json.loads(line) for line in named.log if line.startswith("{")]
    assert {line["model"].rpartition("/")[0] for line in lines if f"/{quoted}:predict" in line["path"]} == {quoted}


def test_skipped_folders_are_logged_once_with_the_reason(named, repository):
    reasons = {
        ".snapshot": "hidden",
        "empty": "not a model: it has no version, that is, no folder whose name is an integer",
        "padded/old": "not a version: its name is not an integer",
        "padded/.cache": "hidden",
        "padded/7": "not a version: it is a file, although its name is an integer",
        "twice/0001": "version 1 is read from 1 beside it",
    }
    for folder, reason in reasons.items():
        named.wait(lambda f=folder: any(f"{repository / f} is skipped" in line for line in named.log))
        lines = [line for line in named.log if f"{repository / folder} is skipped" in line]
        assert len(lines) == 1
        assert lines[0].endswith(f"is skipped: {reason}\n")
    assert sum("is skipped: its name is not UTF-8" in line for line in named.log) == 1
    assert sum("is skipped" in line for line in named.log) == len(reasons) + 1


def test_the_next_number_is_one_more_than_a_padded_one(repository, models):
    (repository / "counted" / "0002").mkdir(parents=True)
    number = model_repository.publish(
        repository, "counted", lambda folder: shutil.copytree(models / "half" / "1", folder, dirs_exist_ok=True)
    )
    assert number == 3
    assert sorted(os.listdir(repository / "counted")) == ["0002", "3"]
    shutil.rmtree(repository / "counted")
