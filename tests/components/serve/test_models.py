from pathlib import Path

import pytest

from components.serve.models import Model, Version, wanted


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
    ],
)
def test_what_should_be_in_memory(states, in_force, labels, volume, expected):
    versions = {number: Version("m", number, Path(), state) for number, state in states.items()}
    assert wanted(Model(versions, in_force, labels), volume) == expected
