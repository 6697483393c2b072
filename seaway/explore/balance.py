"""What counts alone tell: how training and test set differ, how uneven the classes are, what `--sampling` would do."""

from dataclasses import dataclass

import numpy as np

GROUPS = ("digits", "upper case", "lower case", "other")
DRAWS = 1000  # simulated pairs of sets: p-values down to 0.001


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the class shares of the training and the test set are apart, and how far chance alone would set them.

    total_variation   half the sum of |share in training - share in test|: the share of the test set that would have
                      to be of another class for the shares to be equal
    chance, chance_95 total variation of two sets of these sizes drawn from the same classes: mean, 95th percentile
    chi_square        Pearson's, for 2 sets x K classes, K - 1 degrees of freedom
    p_value           how often chance gives at least this chi-square, by simulation, so that rare classes do no harm
    cramers_v         sqrt(chi-square / pictures), 0..1: strength, whatever the number of pictures
    residuals         float64 [K]: test count less its expectation, in standard deviations of chance
    """

    total_variation: float
    chance: float
    chance_95: float
    chi_square: float
    p_value: float
    cramers_v: float
    residuals: np.ndarray

    @property
    def by_chance(self) -> bool:
        return self.p_value >= 0.01


@dataclass(frozen=True, slots=True)
class Imbalance:
    """How unevenly the classes are filled.

    effective     classes that would be as uncertain if all were equally common: exp(entropy) of the training shares
    guess         accuracy on the test set of always answering with the commonest training class
    ten           share of the training set that its ten most common classes hold
    """

    commonest: int
    rarest: int
    ratio: float
    effective: float
    guess: float
    ten: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a `--sampling` of the train stage makes of an epoch: pictures in all, of the commonest and rarest class."""

    name: str
    pictures: int
    commonest: int
    rarest: int
    what: str


def group(label: str) -> str:
    """Which of GROUPS a class belongs to."""
    ascii_letter = label.isascii() and label.isalpha()
    if label.isdigit():
        return "digits"
    if ascii_letter and label.isupper():
        return "upper case"
    return "lower case" if ascii_letter and label.islower() else "other"


def by_group(labels: tuple[str, ...], train: np.ndarray, test: np.ndarray) -> dict[str, tuple[int, int, int]]:
    """Groups that have classes, in the order of GROUPS: how many classes, training and test pictures."""
    whose = np.array([group(label) for label in labels])
    inside = {name: whose == name for name in GROUPS if (whose == name).any()}
    return {name: (int(of.sum()), int(train[of].sum()), int(test[of].sum())) for name, of in inside.items()}


def compare(train: np.ndarray, test: np.ndarray) -> Difference:
    """From counts int64 [K], each with a sum above 0; the same on every run."""
    both = train + test
    shares = both / both.sum()
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(part.sum(), shares, size=DRAWS) for part in (train, test)]
    chances = _total_variation(*drawn)
    chi_square = _chi_square(train, test)
    as_far = np.count_nonzero(_chi_square(*drawn) >= chi_square)
    expected = test.sum() * shares
    spread = np.sqrt(expected * (1 - shares) * train.sum() / both.sum())
    return Difference(
        total_variation=float(_total_variation(train, test)),
        chance=float(chances.mean()),
        chance_95=float(np.quantile(chances, 0.95)),
        chi_square=float(chi_square),
        p_value=float((1 + as_far) / (1 + DRAWS)),
        cramers_v=float(np.sqrt(chi_square / both.sum())),
        residuals=(test - expected) / np.where(spread > 0, spread, 1),
    )


def imbalance(train: np.ndarray, test: np.ndarray) -> Imbalance:
    """From counts int64 [K]; every class has a training picture."""
    shares = train / train.sum()
    commonest, rarest = int(train.argmax()), int(train.argmin())
    return Imbalance(
        commonest=commonest,
        rarest=rarest,
        ratio=float(train[commonest] / train[rarest]),
        effective=float(np.exp(-(shares * np.log(shares)).sum())),
        guess=float(test[commonest] / test.sum()),
        ten=float(np.sort(shares)[-10:].sum()),
    )


def samplings(train: np.ndarray) -> tuple[Sampling, ...]:
    """What each choice would do to counts int64 [K]; every class has a training picture."""
    classes, pictures, most, least = len(train), int(train.sum()), int(train.max()), int(train.min())
    weight = pictures / classes / np.array([most, least])
    return (
        Sampling("none", pictures, most, least, "every picture once"),
        Sampling(
            "down",
            classes * least,
            least,
            least,
            f"an epoch leaves out {1 - classes * least / pictures:.0%}, others each time",
        ),
        Sampling("up", classes * most, most, most, f"each picture of the rarest class about {most / least:,.0f} times"),
        Sampling("synthetic", classes * most, most, most, f"{classes * most - pictures:,} distorted copies are drawn"),
        Sampling("weighted", pictures, most, least, f"the loss counts them {weight[0]:.2g} and {weight[1]:.2g} times"),
    )


def _total_variation(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Over the last axis, [..., K]."""
    apart = train / train.sum(axis=-1, keepdims=True) - test / test.sum(axis=-1, keepdims=True)
    return np.asarray(np.abs(apart).sum(axis=-1) / 2)


def _chi_square(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Over the last axis, [..., K]; a class in neither set counts nothing."""
    both = train + test
    total = both.sum(axis=-1, keepdims=True)
    found = np.zeros(both.shape[:-1])
    for part in (train, test):
        expected = both * (part.sum(axis=-1, keepdims=True) / total)
        found = found + ((part - expected) ** 2 / np.where(expected > 0, expected, 1)).sum(axis=-1)
    return np.asarray(found)
