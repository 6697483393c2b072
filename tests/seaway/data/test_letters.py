import string

import numpy as np

from seaway.data import letters
from seaway.data.strokes import LABELS


def test_every_character_has_shapes_in_the_order_of_the_classes() -> None:
    shapes = letters.characters()
    assert tuple(shapes) == LABELS == tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
    assert min(map(len, shapes.values())) >= 5
    assert max(len(strokes) for each in shapes.values() for strokes in each) <= letters.MAX_STROKES


def test_a_curve_goes_through_its_points_and_turns_at_a_corner() -> None:
    curve = letters._curve("0,0 4,2 / 4,6 8,8")
    for point in ((0, 0), (4, 2), (4, 6), (8, 8)):
        assert np.abs(curve - point).sum(axis=1).min() < 1e-9
    steps = np.diff(curve, axis=0)
    directions = steps[np.abs(steps).sum(axis=1) > 0]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bends = (directions[:-1] * directions[1:]).sum(axis=1)
    assert (bends < 0.7).sum() == 1
    assert len(letters._curve("0,0 / 3,3")) >= 2


def test_the_same_choice_is_the_same_shape_and_another_choice_another() -> None:
    labels = np.array([3, 3, 3, 61])
    chosen = letters.choose(labels, np.array([0.0, 0.01, 0.999, 0.999]))
    assert chosen.sharp.shape == chosen.smooth.shape == (4, letters.POINTS, 2)
    np.testing.assert_array_equal(chosen.sharp[0], chosen.sharp[1])
    assert np.abs(chosen.sharp[0] - chosen.sharp[2]).max() > 0.05
    middles = (chosen.sharp.min(axis=1) + chosen.sharp.max(axis=1)) / 2
    np.testing.assert_allclose(middles, 0, atol=0.05)
