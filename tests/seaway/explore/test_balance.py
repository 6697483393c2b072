"""Numbers from counts, against numbers worked out by hand or by simulation of another kind."""

import numpy as np
import pytest

from seaway.explore import balance


def test_the_same_shares_are_no_difference() -> None:
    found = balance.compare(np.array([600, 300, 60]), np.array([100, 50, 10]))
    assert found.total_variation == 0
    assert found.chi_square == pytest.approx(0, abs=1e-9)
    assert found.p_value == 1
    assert found.by_chance


def test_total_variation_chi_square_and_cramers_v_as_worked_out_by_hand() -> None:
    found = balance.compare(np.array([30, 10]), np.array([10, 30]))
    assert found.total_variation == pytest.approx(0.5)
    assert found.chi_square == pytest.approx(20)  # expected 20 everywhere: 4 · 10² / 20
    assert found.cramers_v == pytest.approx(0.5)  # sqrt(20 / 80)
    assert found.p_value < 0.002
    assert not found.by_chance
    np.testing.assert_allclose(found.residuals, [-np.sqrt(20), np.sqrt(20)])


def test_sets_from_one_pool_are_as_far_apart_as_chance_says() -> None:
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.ones(20))
    found = [balance.compare(rng.multinomial(6000, shares), rng.multinomial(1000, shares)) for _ in range(40)]
    assert np.mean([each.total_variation for each in found]) == pytest.approx(
        np.mean([f.chance for f in found]), rel=0.1
    )
    assert all(each.chance < each.chance_95 for each in found)
    assert 0.3 < np.mean([each.p_value for each in found]) < 0.7  # uniform under chance
    assert sum(each.by_chance for each in found) >= 37


def test_an_imbalance_as_worked_out_by_hand() -> None:
    found = balance.imbalance(np.array([8, 4, 4]), np.array([5, 0, 15]))
    assert (found.commonest, found.rarest, found.ratio) == (0, 1, 2)
    assert found.effective == pytest.approx(np.sqrt(8))  # entropy: 1.5 bits
    assert found.guess == 0.25
    assert found.ten == 1
    assert balance.imbalance(np.full(20, 7), np.full(20, 1)).effective == pytest.approx(20)
    assert balance.imbalance(np.full(20, 7), np.full(20, 1)).ten == pytest.approx(0.5)


def test_what_each_sampling_makes_of_an_epoch() -> None:
    choices = {choice.name: choice for choice in balance.samplings(np.array([100, 50, 10]))}
    assert {name: (c.pictures, c.commonest, c.rarest) for name, c in choices.items()} == {
        "none": (160, 100, 10),
        "down": (30, 10, 10),
        "up": (300, 100, 100),
        "synthetic": (300, 100, 100),
        "weighted": (160, 100, 10),
    }
    assert "81%" in choices["down"].what
    assert "10 times" in choices["up"].what
    assert "140 distorted copies" in choices["synthetic"].what
    assert "0.53 and 5.3 times" in choices["weighted"].what  # 160 / 3 / (100, 10)


def test_groups() -> None:
    counted = balance.by_group(("7", "Q", "a", "b", "é", "$"), np.arange(6), np.full(6, 2))
    assert counted == {"digits": (1, 0, 2), "upper case": (1, 1, 2), "lower case": (2, 5, 4), "other": (2, 9, 4)}
