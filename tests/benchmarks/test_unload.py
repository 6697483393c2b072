"""The share of memory that unloading gives back."""

import math

import pytest

from benchmarks.serving.unload import given_back


@pytest.mark.parametrize(("after", "share"), [(100, 1.0), (300, 0.0), (120, 0.9), (320, -0.1)])
def test_the_share_is_of_what_loading_took(after, share):
    assert given_back(100, 300, after) == pytest.approx(share)


def test_without_anything_taken_there_is_no_share():
    assert math.isnan(given_back(100, 100, 90))
