"""A running server follows its model repository. Each test publishes a model of its own."""

import shutil

import numpy as np
import pytest

from seaway.artifacts import model_repository
from seaway.protocols import graphpipe


def test_a_new_version_is_swapped_in_under_load(following, under_load):
    server = following.server
    following.publish("swapped")
    following.wait_available("swapped", 1)
    with under_load(server.port, "swapped", {"swapped/1": 2.0, "swapped/2": 3.0}) as load:
        server.wait(lambda: load.answers.get("swapped/1", 0) > 20)
        following.publish("swapped", version=2)
        server.wait(lambda: load.answers.get("swapped/2", 0) > 20)
        server.wait(lambda: server.states("swapped") == {2: "AVAILABLE"})  # the old one is drained and unloaded
        seen = load.answers["swapped/2"]
        server.wait(lambda: load.answers["swapped/2"] > seen + 20)
    assert load.failed == []
    assert load.wrong == []


def test_the_digest_is_that_of_the_metadata(following):
    following.publish("named")
    following.wait_available("named", 1)
    reply = following.server.predict("named", {"instances": [1]})
    metadata = model_repository.read_metadata(following.repository, "named", 1)
    assert reply.headers["Seaway-Model"] == f"named/1@{metadata.sha256}"


@pytest.mark.parametrize(
    "wrong, offset, said",
    [
        ("truncated", None, "not a SavedModel, or a truncated one"),
        ("changed", None, "changed after its metadata was written"),
        ("", 2.5, "is wrong for 4 of 4 golden examples"),
    ],
)
def test_a_version_that_fails_verification_replaces_nothing(following, wrong, offset, said):
    server, name = following.server, f"kept-{wrong or 'golden'}"
    following.publish(name)
    following.wait_available(name, 1)
    bad = following.publish(name, offset=offset, wrong=wrong)
    model_repository.set_label(following.repository, name, "canary", bad)
    assert said in following.wait_end(name, bad)
    assert server.states(name) == {1: "AVAILABLE", 2: "END"}
    assert server.predict(name, {"instances": [1]}).json() == {"predictions": [2.5]}
    refused = server.predict(f"{name}/labels/canary", {"instances": [1]})
    assert refused.status == 503
    assert said in refused.json()["error"]


def test_labels_choose_and_move(following):
    server = following.server
    following.publish("labelled")
    following.wait_available("labelled", 1)
    model_repository.set_label(following.repository, "labelled", "stable", 1)
    server.wait(lambda: server.predict("labelled/labels/stable", {"instances": [0]}).status == 200)
    following.publish("labelled", version=2)
    following.wait_available("labelled", 2)
    assert server.states("labelled") == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert server.predict("labelled", {"instances": [0]}).json() == {"predictions": [2.0]}  # stable, not latest
    model_repository.set_label(following.repository, "labelled", "stable", 2)
    server.wait(lambda: server.predict("labelled", {"instances": [0]}).json() == {"predictions": [3.0]})
    server.wait(lambda: server.states("labelled") == {2: "AVAILABLE"})


def test_a_repository_that_vanishes_and_returns(following):
    server, away = following.server, following.repository.with_name("away")
    following.publish("lasting")
    following.wait_available("lasting", 1)
    following.repository.rename(away)
    try:
        server.wait(lambda: any("no such model repository" in line for line in server.log))
        assert server.predict("lasting", {"instances": [0]}).status == 200
        following.repository.mkdir()  # like an empty mount point
        server.wait(lambda: any("all models disappeared at once" in line for line in server.log))
        assert server.predict("lasting", {"instances": [0]}).status == 200
        assert server.get("/readyz").status == 200
    finally:
        shutil.rmtree(following.repository, ignore_errors=True)
        away.rename(following.repository)
    following.publish("lasting", version=2)
    following.wait_available("lasting", 2)


def test_unreadable_labels_freeze_only_their_own_model(following):
    server = following.server
    following.publish("unreadable")
    following.wait_available("unreadable", 1)
    labels = following.repository / "unreadable" / model_repository.LABELS
    labels.write_text("{")
    try:
        server.wait(lambda: any(f"{labels}: not JSON" in line for line in server.log))
        following.publish("unreadable", version=2)
        following.publish("beside")
        following.wait_available("beside", 1)
        assert server.predict("unreadable", {"instances": [0]}).status == 200
        assert server.states("unreadable") == {1: "AVAILABLE"}
    finally:
        labels.unlink()
    following.wait_available("unreadable", 2)


def test_a_model_that_is_removed_is_unloaded(following):
    following.publish("removed")
    following.wait_available("removed", 1)
    shutil.rmtree(following.repository / "removed")
    following.server.wait(lambda: following.server.get("/v1/models/removed").status == 404)
    assert following.server.predict("removed", {"instances": [0]}).status == 404


def test_graphpipe_serves_the_same_versions(following):
    request = graphpipe.write_infer_request({"": np.float32([2])})
    reply = following.server.request("POST", "/graphpipe/first", request)
    assert graphpipe.read_infer_response(reply.body)[0].tolist() == [3]
    assert (
        reply.headers["Seaway-Model"] == following.server.predict("first", {"instances": [0]}).headers["Seaway-Model"]
    )
