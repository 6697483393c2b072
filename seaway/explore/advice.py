"""What a reader should know before anything is trained on a dataset: what was found, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from seaway.explore.analysis import Findings

FEW_TEST, FEW_TRAIN = 10, 20  # pictures of a class
UNEVEN = 10  # most to least common
TEST_SHARE = (0.05, 0.4)  # outside of it a split is unusual
APART = 0.02  # total variation: below it no score moves visibly
REPEATS = 0.01  # of the training set


@dataclass(frozen=True, slots=True)
class Advice:
    found: str
    do: str


def advise(findings: Findings) -> list[Advice]:
    """The gravest first; empty where nothing stands out."""
    return [*_measuring(findings), *_pictures(findings), *_counts(findings)]


def number(count: int, noun: str) -> str:
    """1 picture, 2,000 pictures, 3 classes."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"


def names(labels: Iterable[str], most: int = 20) -> str:
    """Class names one after the other, not all of a long list."""
    listed = list(labels)
    return " ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _measuring(findings: Findings) -> Iterable[Advice]:
    """What makes a score on the test set mean less than it seems to."""
    copied, test = findings.copies.across, findings.test
    if copied:
        same = f", {findings.copies.exact:,} of them byte by byte" if findings.copies.exact else ""
        share = f"{len(copied) / test.sum():.2%}"
        yield Advice(
            f"{number(len(copied), 'test picture')} ({share}) with a copy or near copy in training{same}",
            "look at the pairs: lines and rings are alike by chance; where they are copies, take those pictures "
            "out of the training set, or scores tell of memory",
        )
    absent = _named(findings, test == 0)
    if absent:
        yield Advice(
            f"{number(len(absent), 'class')} without a test picture: {names(absent)}",
            "add test pictures, or take the classes out of the mapping: nothing will be known about them",
        )
    few = _named(findings, (test > 0) & (test < FEW_TEST))
    if few:
        yield Advice(
            f"{number(len(few), 'class')} with fewer than {FEW_TEST} test pictures: {names(few)}",
            "add test pictures, or read no single recall of theirs: one picture moves it by 10 points and more",
        )
    difference = findings.difference
    if not difference.by_chance and difference.total_variation >= APART:
        yield Advice(
            f"training and test set differ in {difference.total_variation:.1%} of their classes' shares, "
            f"where chance makes {difference.chance:.1%}",
            "read balanced accuracy beside accuracy, and ask how the sets were split",
        )
    share = test.sum() / (findings.train.sum() + test.sum())
    if not TEST_SHARE[0] <= share <= TEST_SHARE[1]:
        yield Advice(
            f"the test set holds {share:.1%} of all pictures",
            "split anew: about one in seven, as EMNIST does, serves both training and measuring",
        )


def _pictures(findings: Findings) -> Iterable[Advice]:
    copies = findings.copies
    if findings.brightness[0] > 127:
        yield Advice(
            f"the pictures are bright: {findings.brightness[0]:.0f} of 255 on average",
            "invert them if they are dark ink on light paper: white ink on black is expected",
        )
    if findings.blank:
        kinds = ", ".join(f"{len(found):,} {kind}" for kind, found in findings.blanks.items() if found)
        yield Advice(
            f"{number(findings.blank, 'blank picture')} ({kinds})",
            "look at them and take them out at the source: they teach chance, and in the test set cannot be known",
        )
    if copies.disputed:
        yield Advice(
            f"{number(len(copies.disputed), 'training picture')} whose very copy has another label",
            "look at the pairs and correct the labels at the source: no network can satisfy both",
        )
    if copies.repeated > REPEATS * findings.train.sum():
        yield Advice(
            f"{number(copies.repeated, 'training picture')} that repeat an earlier one "
            f"({copies.repeated / findings.train.sum():.1%})",
            "keep one of each, unless they are meant to count more",
        )


def _counts(findings: Findings) -> Iterable[Advice]:
    uneven = findings.imbalance
    scarce = _named(findings, findings.train < FEW_TRAIN)
    if scarce:
        yield Advice(
            f"{number(len(scarce), 'class')} with fewer than {FEW_TRAIN} training pictures: {names(scarce)}",
            "collect more, or try --sampling synthetic in training; other choices only repeat the few",
        )
    if uneven.ratio >= UNEVEN:
        yield Advice(
            f"“{findings.labels[uneven.commonest]}” is {uneven.ratio:,.0f} times as common as "
            f"“{findings.labels[uneven.rarest]}”",
            "judge by balanced accuracy, and try --sampling weighted or up in training",
        )


def _named(findings: Findings, which: np.ndarray) -> list[str]:
    return [label for label, chosen in zip(findings.labels, which, strict=True) if chosen]
