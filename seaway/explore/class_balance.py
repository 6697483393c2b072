"""Statistics of the class counts: training vs. test set, class imbalance, and the effect of `--sampling`."""

from dataclasses import dataclass

import numpy as np

GROUPS = ("digits", "upper case", "lower case", "other")
SIMULATIONS = 1000  # of pairs of sets: p-values down to 0.001


@dataclass(frozen=True, slots=True)
class Difference:
    """The distance between the class shares of training and test set, and the distance to expect by chance.

    total_variation   half the sum of |share in training - share in test|: the share of the test set that would need
                      another class for the shares to be equal
    chance, chance_95 total variation of two sets of these sizes drawn from one distribution: mean, 95th percentile
    chi_square        Pearson's, for 2 sets x K classes, K - 1 degrees of freedom
    p_value           how often chance gives at least this chi-square; by simulation, because rare classes are too small
                      for the chi-square distribution
    cramers_v         sqrt(chi-square / images), 0..1: effect size, independent of the number of images
    residuals         float64 [K]: test count minus its expectation, in standard deviations
    """

    total_variation: float
    chance: float
    chance_95: float
    chi_square: float
    p_value: float
    cramers_v: float
    residuals: np.ndarray

    @property
    def within_chance(self) -> bool:
        return self.p_value >= 0.01


@dataclass(frozen=True, slots=True)
class Imbalance:
    """Class imbalance.

    most_common, rarest   classes of the training set
    ratio                 of their numbers of training images
    effective_classes     exp(entropy) of the training shares: so many equally common classes have the same entropy
    majority_accuracy     accuracy on the test set of always predicting the most common class
    top10_share           share of the training set in its ten most common classes
    """

    most_common: int
    rarest: int
    ratio: float
    effective_classes: float
    majority_accuracy: float
    top10_share: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """An epoch with one of the train stage's `--sampling`s: images in all, of the most common and the rarest class."""

    name: str
    images: int
    most_common: int
    rarest: int
    effect: str


def group(label: str) -> str:
    """The one of GROUPS that a class belongs to."""
    ascii_letter = label.isascii() and label.isalpha()
    if label.isdigit():
        return "digits"
    if ascii_letter and label.isupper():
        return "upper case"
    return "lower case" if ascii_letter and label.islower() else "other"


def by_group(labels: tuple[str, ...], train: np.ndarray, test: np.ndarray) -> dict[str, tuple[int, int, int]]:
    """The non-empty groups, in the order of GROUPS: the numbers of classes, training images and test images."""
    groups = np.array([group(label) for label in labels])
    members = {name: groups == name for name in GROUPS if (groups == name).any()}
    return {name: (int(of.sum()), int(train[of].sum()), int(test[of].sum())) for name, of in members.items()}


def compare(train: np.ndarray, test: np.ndarray) -> Difference:
    """Compares counts int64 [K], each with a sum above 0; the same on every run."""
    both = train + test
    shares = both / both.sum()
    rng = np.random.default_rng(0)
    simulated = [rng.multinomial(part.sum(), shares, size=SIMULATIONS) for part in (train, test)]
    chances = _total_variation(*simulated)
    chi_square = _chi_square(train, test)
    at_least = np.count_nonzero(_chi_square(*simulated) >= chi_square)
    expected = test.sum() * shares
    deviation = np.sqrt(expected * (1 - shares) * train.sum() / both.sum())
    return Difference(
        total_variation=float(_total_variation(train, test)),
        chance=float(chances.mean()),
        chance_95=float(np.quantile(chances, 0.95)),
        chi_square=float(chi_square),
        p_value=float((1 + at_least) / (1 + SIMULATIONS)),
        cramers_v=float(np.sqrt(chi_square / both.sum())),
        residuals=(test - expected) / np.where(deviation > 0, deviation, 1),
    )


def imbalance(train: np.ndarray, test: np.ndarray) -> Imbalance:
    """From counts int64 [K]; every class has a training image."""
    shares = train / train.sum()
    most_common, rarest = int(train.argmax()), int(train.argmin())
    return Imbalance(
        most_common=most_common,
        rarest=rarest,
        ratio=float(train[most_common] / train[rarest]),
        effective_classes=float(np.exp(-(shares * np.log(shares)).sum())),
        majority_accuracy=float(test[most_common] / test.sum()),
        top10_share=float(np.sort(shares)[-10:].sum()),
    )


def samplings(train: np.ndarray) -> tuple[Sampling, ...]:
    """The effect of each choice on counts int64 [K]; every class has a training image."""
    classes, images, most, least = len(train), int(train.sum()), int(train.max()), int(train.min())
    weight = images / classes / np.array([most, least])
    return (
        Sampling("none", images, most, least, "every image once"),
        Sampling("weighted", images, most, least, f"loss weights of {weight[0]:.2g} and {weight[1]:.2g}"),
        Sampling(
            "undersample",
            classes * least,
            least,
            least,
            f"leaves out {1 - classes * least / images:.0%} of the images, others in each epoch",
        ),
        Sampling(
            "oversample",
            classes * most,
            most,
            most,
            f"each image of the rarest class about {most / least:,.0f} times",
        ),
        Sampling("augment", classes * most, most, most, f"adds {classes * most - images:,} augmented images"),
    )


def _total_variation(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Over the last axis, [..., K]."""
    differences = train / train.sum(axis=-1, keepdims=True) - test / test.sum(axis=-1, keepdims=True)
    return np.asarray(np.abs(differences).sum(axis=-1) / 2)


def _chi_square(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Over the last axis, [..., K]; a class in neither set adds nothing."""
    both = train + test
    total = both.sum(axis=-1, keepdims=True)
    statistic = np.zeros(both.shape[:-1])
    for part in (train, test):
        expected = both * (part.sum(axis=-1, keepdims=True) / total)
        statistic = statistic + ((part - expected) ** 2 / np.where(expected > 0, expected, 1)).sum(axis=-1)
    return np.asarray(statistic)
