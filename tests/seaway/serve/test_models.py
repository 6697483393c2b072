from pathlib import Path

import pytest

from seaway.artifacts.artifact_metadata import Tensor
from seaway.protocols.calls import ModelVersionInfo, Signature
from seaway.serve.supervisor import endpoints
from seaway.serve.supervisor.models import Model, ModelVersion, unavailable_reason, wanted_versions


@pytest.mark.parametrize(
    "states, in_effect, labels, numbers, expected",
    [
        ({}, {}, {}, [1, 2, 3], {3}),  # the latest
        ({}, {}, {"stable": 1}, [1, 2, 3], {1, 3}),
        ({}, {}, {"stable": 9}, [1], {1}),  # a label may point at a missing version
        ({1: "AVAILABLE"}, {}, {}, [1, 2], {1, 2}),  # the old one stays until the new one is available
        ({1: "AVAILABLE", 2: "LOADING"}, {}, {}, [1, 2], {1, 2}),
        ({1: "AVAILABLE", 2: "AVAILABLE"}, {}, {}, [1, 2], {2}),
        ({1: "AVAILABLE", 2: "END"}, {}, {}, [1, 2], {1, 2}),  # 2 stays known, so it is not retried at once
        ({2: "END"}, {}, {}, [1, 2], {1, 2}),  # the latest that may load
        ({1: "AVAILABLE", 2: "AVAILABLE", 3: "END"}, {"stable": 1}, {"stable": 3}, [1, 2, 3], {1, 2, 3}),
        ({1: "AVAILABLE", 2: "LOADING"}, {}, {}, [], {2}),  # loading is not interrupted
        # If the stable one is unavailable, the one before it is loaded, but no newer one, which was not promoted.
        ({2: "END"}, {"stable": 2}, {"stable": 2}, [1, 2, 3], {1, 2, 3}),
        ({1: "END", 2: "END"}, {"stable": 2}, {"stable": 2}, [0, 1, 2], {0, 1, 2}),
        ({3: "AVAILABLE"}, {"stable": 2}, {"stable": 2}, [1, 3], {1, 3}),  # its folder has disappeared
        ({2: "LOADING"}, {}, {"stable": 2}, [1, 2], {2}),  # it will be available soon
    ],
)
def test_versions_that_should_be_in_memory(states, in_effect, labels, numbers, expected):
    versions = {number: ModelVersion("m", number, Path(), state) for number, state in states.items()}
    assert wanted_versions(Model(versions, in_effect, labels), numbers) == expected


@pytest.mark.parametrize(
    "newest, states, numbers, expected",
    [
        (2, {}, [1, 2, 3], {2, 3}),
        (9, {}, [1, 2, 3], {1, 2, 3}),
        (2, {1: "AVAILABLE", 2: "AVAILABLE"}, [1, 2, 3], {1, 2, 3}),  # until 3 is available
        (2, {1: "AVAILABLE", 2: "AVAILABLE", 3: "AVAILABLE"}, [1, 2, 3], {2, 3}),
        (2, {1: "AVAILABLE", 2: "AVAILABLE", 3: "END"}, [1, 2, 3], {1, 2, 3}),
        (1, {1: "AVAILABLE"}, [2], {1, 2}),  # another version was chosen: 1 stays until it is available
        (1, {1: "AVAILABLE", 2: "AVAILABLE"}, [2], {2}),
        (3, {1: "AVAILABLE", 2: "AVAILABLE", 3: "AVAILABLE"}, [3], {3}),
    ],
)
def test_several_of_the_newest_versions(newest, states, numbers, expected):
    versions = {number: ModelVersion("m", number, Path(), state) for number, state in states.items()}
    assert wanted_versions(Model(versions, newest=newest), numbers) == expected


def test_as_many_of_the_newest_versions_are_retried_as_are_served():
    states = {1: "END", 2: "END", 3: "AVAILABLE"}
    model = Model({n: ModelVersion("m", n, Path(), state) for n, state in states.items()}, newest=2)
    assert [model.would_serve(1), model.would_serve(2)] == [True, True]
    model.versions[2].state = "AVAILABLE"
    assert not model.would_serve(1)


@pytest.mark.parametrize(
    "states, labels, expected",
    [
        ({1: "AVAILABLE", 2: "AVAILABLE"}, {"stable": 2}, []),
        ({1: "AVAILABLE", 2: "END"}, {"stable": 2}, [1]),
        ({1: "AVAILABLE", 2: "END", 3: "AVAILABLE"}, {"stable": 2}, [1]),
        ({1: "AVAILABLE", 2: "LOADING"}, {"stable": 2}, []),
        ({1: "AVAILABLE"}, {"stable": 2}, [1]),
        ({1: "AVAILABLE", 2: "END"}, {}, []),
    ],
)
def test_versions_that_may_replace_the_stable_one(states, labels, expected):
    versions = {number: ModelVersion("m", number, Path(), state) for number, state in states.items()}
    assert Model(versions, labels, labels).stable_fallbacks() == expected


def test_a_version_that_is_being_retried_still_counts_as_failed():
    failed = ModelVersion("m", 2, Path(), "LOADING", error="truncated")
    model = Model({1: ModelVersion("m", 1, Path(), "AVAILABLE"), 2: failed}, {"stable": 2}, {"stable": 2})
    assert model.stable_fallbacks() == [1]
    assert wanted_versions(model, [1, 2, 3]) == {1, 2, 3}
    assert unavailable_reason(model, 2, 2.0) == "truncated; it is being retried"


def test_versions_that_no_request_would_get_are_not_retried():
    model = Model({n: ModelVersion("m", n, Path(), state) for n, state in {1: "END", 2: "AVAILABLE", 3: "END"}.items()})
    assert [model.would_serve(1), model.would_serve(3)] == [False, True]
    model.requested_labels = {"canary": 1}
    assert model.would_serve(1)


def test_an_arriving_version_does_not_delay_an_older_one():
    files_changing = ModelVersion("m", 2, Path(), "START")
    model = Model({2: files_changing})
    assert wanted_versions(model, [1, 2]) == {2}
    files_changing.watch.observe("half", 0.0)
    files_changing.watch.observe("more", 1.0)
    assert wanted_versions(model, [1, 2]) == {1, 2}
    assert "unchanged for 2 s" in unavailable_reason(model, 2, 2.0)


def test_the_page_learns_that_a_rank_is_unknown():
    signature = Signature((Tensor("x", "float32", ()),), (Tensor("y", "float32", ()),), unranked=frozenset("x"))
    version = ModelVersion("m", 1, Path(), served=ModelVersionInfo("m", 1, "m/1@0", {"f": signature}))
    described = endpoints._about(version)["signatures"]["f"]
    assert described["inputs"] == [{"name": "x", "dtype": "float32", "shape": None}]
    assert described["outputs"] == [{"name": "y", "dtype": "float32", "shape": ()}]
