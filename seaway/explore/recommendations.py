"""Findings that matter before you train on a dataset, each with a recommendation."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from seaway.explore.analysis import Findings

MIN_TEST, MIN_TRAIN = 10, 20  # images of a class
MAX_CLASS_RATIO = 10  # most common to rarest
TEST_SHARE = (0.05, 0.4)  # a split outside this range is unusual
MIN_VARIATION = 0.02  # total variation below it does not visibly change a score
MAX_REPEATED = 0.01  # of the training set


@dataclass(frozen=True, slots=True)
class Recommendation:
    finding: str
    action: str


def recommend(findings: Findings) -> list[Recommendation]:
    """Recommendations, most important first; empty if there is nothing unusual."""
    return [*_test_set(findings), *_images(findings), *_class_balance(findings)]


def number(count: int, noun: str) -> str:
    """1 image, 2,000 images, 3 classes."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"


def names(labels: Iterable[str], limit: int = 20) -> str:
    """Class names separated by spaces, at most `limit` of them."""
    listed = list(labels)
    return " ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")


def _test_set(findings: Findings) -> Iterable[Recommendation]:
    """Reasons why a score on the test set means less than it seems to."""
    leaked, test = findings.duplicates.leaked, findings.test
    if leaked:
        exact = f", {findings.duplicates.exact:,} of them byte for byte" if findings.duplicates.exact else ""
        share = f"{len(leaked) / test.sum():.2%}"
        yield Recommendation(
            f"{number(len(leaked), 'test image')} ({share}) with a duplicate or near duplicate in training{exact}",
            "look at the pairs: lines and rings may match by chance; remove true duplicates from the training set, "
            "otherwise test scores reward memorisation",
        )
    absent = _named(findings, test == 0)
    if absent:
        yield Recommendation(
            f"{number(len(absent), 'class')} without test images: {names(absent)}",
            "add test images, or remove the classes from the mapping: their accuracy cannot be measured",
        )
    few = _named(findings, (test > 0) & (test < MIN_TEST))
    if few:
        yield Recommendation(
            f"{number(len(few), 'class')} with fewer than {MIN_TEST} test images: {names(few)}",
            "add test images, or do not rely on the recall of these classes: one image changes it by 10 points or more",
        )
    difference = findings.difference
    if not difference.within_chance and difference.total_variation >= MIN_VARIATION:
        yield Recommendation(
            f"class distributions of training and test set differ by {difference.total_variation:.1%}, "
            f"where chance explains {difference.chance:.1%}",
            "compare balanced accuracy as well as accuracy, and find out how the sets were split",
        )
    share = test.sum() / (findings.train.sum() + test.sum())
    if not TEST_SHARE[0] <= share <= TEST_SHARE[1]:
        yield Recommendation(
            f"the test set has {share:.1%} of all images",
            "split the data again: about one test image in seven, as in EMNIST, suits both training and evaluation",
        )


def _images(findings: Findings) -> Iterable[Recommendation]:
    duplicates = findings.duplicates
    if findings.brightness[0] > 127:
        yield Recommendation(
            f"the images are bright: their mean is {findings.brightness[0]:.0f} of 255",
            "invert them if they show dark ink on light paper: training expects white ink on black",
        )
    if findings.blank_count:
        kinds = ", ".join(f"{len(images):,} {kind}" for kind, images in findings.blanks.items() if images)
        yield Recommendation(
            f"{number(findings.blank_count, 'blank image')} ({kinds})",
            "check them and remove them from the source: they are noise in training, and not recognisable in the test",
        )
    if duplicates.conflicting_labels:
        yield Recommendation(
            f"{number(len(duplicates.conflicting_labels), 'training image')} with conflicting labels: an exact "
            "duplicate has another label",
            "look at the pairs and correct the labels at the source: no network can satisfy both",
        )
    if duplicates.repeated > MAX_REPEATED * findings.train.sum():
        yield Recommendation(
            f"{number(duplicates.repeated, 'exact duplicate')} within the training set "
            f"({duplicates.repeated / findings.train.sum():.1%})",
            "keep one image of each, unless the others are meant to add weight",
        )


def _class_balance(findings: Findings) -> Iterable[Recommendation]:
    imbalance = findings.imbalance
    few = _named(findings, findings.train < MIN_TRAIN)
    if few:
        yield Recommendation(
            f"{number(len(few), 'class')} with fewer than {MIN_TRAIN} training images: {names(few)}",
            "collect more, or try --sampling augment in training; other samplings only repeat the few images",
        )
    if imbalance.ratio >= MAX_CLASS_RATIO:
        yield Recommendation(
            f"“{findings.labels[imbalance.most_common]}” is {imbalance.ratio:,.0f} times as common as "
            f"“{findings.labels[imbalance.rarest]}”",
            "evaluate by balanced accuracy, and try --sampling weighted or oversample in training",
        )


def _named(findings: Findings, selected: np.ndarray) -> list[str]:
    return [label for label, chosen in zip(findings.labels, selected, strict=True) if chosen]
