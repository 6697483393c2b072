from pathlib import Path

import pytest

from seaway.serve.supervisor.models import Model, Version, wanted, why_not


@pytest.mark.parametrize(
    "states, in_force, labels, volume, expected",
    [
        ({}, {}, {}, [1, 2, 3], {3}),  # the latest
        ({}, {}, {"stable": 1}, [1, 2, 3], {1, 3}),
        ({}, {}, {"stable": 9}, [1], {1}),  # a label may point at nothing
        ({1: "AVAILABLE"}, {}, {}, [1, 2], {1, 2}),  # the old one stays until the new one can answer
        ({1: "AVAILABLE", 2: "LOADING"}, {}, {}, [1, 2], {1, 2}),
        ({1: "AVAILABLE", 2: "AVAILABLE"}, {}, {}, [1, 2], {2}),
        ({1: "AVAILABLE", 2: "END"}, {}, {}, [1, 2], {1, 2}),  # 2 is known, so that it is not tried again
        ({2: "END"}, {}, {}, [1, 2], {1, 2}),  # the latest that may load
        ({1: "AVAILABLE", 2: "AVAILABLE", 3: "END"}, {"stable": 1}, {"stable": 3}, [1, 2, 3], {1, 2, 3}),
        ({1: "AVAILABLE", 2: "LOADING"}, {}, {}, [], {2}),  # what is loading is not interrupted
        # Where the stable one cannot answer, the one before it is to, and no newer one that was not promoted.
        ({2: "END"}, {"stable": 2}, {"stable": 2}, [1, 2, 3], {1, 2, 3}),
        ({1: "END", 2: "END"}, {"stable": 2}, {"stable": 2}, [0, 1, 2], {0, 1, 2}),
        ({3: "AVAILABLE"}, {"stable": 2}, {"stable": 2}, [1, 3], {1, 3}),  # its folder is gone
        ({2: "LOADING"}, {}, {"stable": 2}, [1, 2], {2}),  # it will answer soon
    ],
)
def test_what_should_be_in_memory(states, in_force, labels, volume, expected):
    versions = {number: Version("m", number, Path(), state) for number, state in states.items()}
    assert wanted(Model(versions, in_force, labels), volume) == expected


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
def test_what_may_answer_in_the_stable_versions_place(states, labels, expected):
    versions = {number: Version("m", number, Path(), state) for number, state in states.items()}
    assert Model(versions, labels, labels).instead_of_stable() == expected


def test_a_version_that_is_tried_again_is_as_far_away_as_before():
    failed = Version("m", 2, Path(), "LOADING", error="truncated")
    model = Model({1: Version("m", 1, Path(), "AVAILABLE"), 2: failed}, {"stable": 2}, {"stable": 2})
    assert model.instead_of_stable() == [1]
    assert wanted(model, [1, 2, 3]) == {1, 2, 3}
    assert why_not(model, 2, 2.0) == "truncated; it is being tried again"


def test_what_no_one_would_ask_for_is_not_tried_again():
    model = Model({n: Version("m", n, Path(), state) for n, state in {1: "END", 2: "AVAILABLE", 3: "END"}.items()})
    assert [model.needs(1), model.needs(3)] == [False, True]
    model.wanted_labels = {"canary": 1}
    assert model.needs(1)


def test_what_still_arrives_keeps_no_older_one_waiting():
    arriving = Version("m", 2, Path(), "START")
    model = Model({2: arriving})
    assert wanted(model, [1, 2]) == {2}
    arriving.watch.look("half", 0.0)
    arriving.watch.look("more", 1.0)
    assert wanted(model, [1, 2]) == {1, 2}
    assert "have not for 2 s" in why_not(model, 2, 2.0)
