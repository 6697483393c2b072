"""Statistics of class counts, against values computed by hand or by another simulation."""

import numpy as np
import pytest

from seaway.explore import class_balance


def test_the_same_shares_are_no_difference() -> None:
    difference = class_balance.compare(np.array([600, 300, 60]), np.array([100, 50, 10]))
    assert difference.total_variation == 0
    assert difference.chi_square == pytest.approx(0, abs=1e-9)
    assert difference.p_value == 1
    assert difference.within_chance


def test_total_variation_chi_square_and_cramers_v_as_computed_by_hand() -> None:
    difference = class_balance.compare(np.array([30, 10]), np.array([10, 30]))
    assert difference.total_variation == pytest.approx(0.5)
    assert difference.chi_square == pytest.approx(20)  # expected 20 everywhere: 4 · 10² / 20
    assert difference.cramers_v == pytest.approx(0.5)  # sqrt(20 / 80)
    assert difference.p_value < 0.002
    assert not difference.within_chance
    np.testing.assert_allclose(difference.residuals, [-np.sqrt(20), np.sqrt(20)])


def test_sets_from_one_pool_differ_as_expected_by_chance() -> None:
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.ones(20))
    differences = [
        class_balance.compare(rng.multinomial(6000, shares), rng.multinomial(1000, shares)) for _ in range(40)
    ]
    assert np.mean([each.total_variation for each in differences]) == pytest.approx(
        np.mean([each.chance for each in differences]), rel=0.1
    )
    assert all(each.chance < each.chance_95 for each in differences)
    assert 0.3 < np.mean([each.p_value for each in differences]) < 0.7  # uniform under chance
    assert sum(each.within_chance for each in differences) >= 37


def test_class_imbalance_as_computed_by_hand() -> None:
    imbalance = class_balance.imbalance(np.array([8, 4, 4]), np.array([5, 0, 15]))
    assert (imbalance.most_common, imbalance.rarest, imbalance.ratio) == (0, 1, 2)
    assert imbalance.effective_classes == pytest.approx(np.sqrt(8))  # entropy: 1.5 bits
    assert imbalance.majority_accuracy == 0.25
    assert imbalance.top10_share == 1
    assert class_balance.imbalance(np.full(20, 7), np.full(20, 1)).effective_classes == pytest.approx(20)
    assert class_balance.imbalance(np.full(20, 7), np.full(20, 1)).top10_share == pytest.approx(0.5)


def test_an_epoch_with_each_sampling() -> None:
    choices = {choice.name: choice for choice in class_balance.samplings(np.array([100, 50, 10]))}
    assert {name: (c.images, c.most_common, c.rarest) for name, c in choices.items()} == {
        "none": (160, 100, 10),
        "weighted": (160, 100, 10),
        "undersample": (30, 10, 10),
        "oversample": (300, 100, 100),
        "augment": (300, 100, 100),
    }
    assert "81%" in choices["undersample"].effect
    assert "10 times" in choices["oversample"].effect
    assert "140 augmented images" in choices["augment"].effect
    assert "0.53 and 5.3" in choices["weighted"].effect  # 160 / 3 / (100, 10)


def test_groups() -> None:
    counted = class_balance.by_group(("7", "Q", "a", "b", "é", "$"), np.arange(6), np.full(6, 2))
    assert counted == {"digits": (1, 0, 2), "upper case": (1, 1, 2), "lower case": (2, 5, 4), "other": (2, 9, 4)}
