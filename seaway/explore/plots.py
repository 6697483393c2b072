"""The exploration report's plots: counts of groups and classes, and the shares of both sets."""

import warnings

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seaway.explore import balance
from seaway.explore.analysis import Findings
from seaway.reporting import report
from seaway.reporting.report import COLOURS

GROUP_COLOURS = dict(zip(balance.GROUPS, (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[4]), strict=True))
_NAMED = 64  # class names that fit below a plot


def counts(findings: Findings) -> Markup:
    drawn = Figure(figsize=(9, 3), layout="constrained")
    groups = balance.by_group(findings.labels, findings.train, findings.test)
    left, right = drawn.subplots(1, 2, width_ratios=[len(groups), 15])
    _bars(left, [train for _, train, _ in groups.values()], [test for _, _, test in groups.values()], list(groups))
    left.set_xticks(range(len(groups)), [name.replace(" ", "\n") for name in groups], fontsize=8)
    left.set_ylabel("pictures")
    _bars(right, findings.train, findings.test, [balance.group(label) for label in findings.labels])
    _name_classes(right, findings.labels)
    caption = "Groups left, classes right: training pictures, and test pictures as the narrow bars before them."
    return _figure(drawn, "Pictures of each group and class", caption)


def shares(findings: Findings) -> Markup:
    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
    places = np.arange(len(findings.labels))
    train, test = (100 * part / part.sum() for part in (findings.train, findings.test))
    axes.bar(places, train, color=COLOURS[4], alpha=0.5, label="training")
    axes.plot(places, test, "o", color=COLOURS[0], markersize=4, label="test")
    _name_classes(axes, findings.labels)
    axes.set_ylabel("share in percent")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    caption = "Each class's share of either set: where bar and dot part, the test set weighs that class differently."
    return _figure(drawn, "Shares of each class in training and test set", caption)


def _figure(drawn: Figure, alt: str, caption: str) -> Markup:
    with warnings.catch_warnings():  # of glyphs that matplotlib's font lacks: text stays text, and the browser has them
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        return report.figure(drawn, alt=alt, caption=caption)


def _bars(axes: Axes, train: np.ndarray | list[int], test: np.ndarray | list[int], groups: list[str]) -> None:
    places = np.arange(len(groups))
    axes.bar(places, train, color=[GROUP_COLOURS[group] for group in groups])
    axes.bar(places, test, width=0.3, color=COLOURS[3])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)


def _name_classes(axes: Axes, labels: tuple[str, ...]) -> None:
    places = np.arange(0, len(labels), -(-len(labels) // _NAMED))
    axes.set_xticks(places, [labels[place].replace("$", r"\$") for place in places], fontsize=8)
    axes.set_xlim(-0.8, len(labels) - 0.2)
