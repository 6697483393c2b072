"""The exploration report's plots: images by group and class, and class shares of both sets."""

import warnings

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seaway.explore import class_balance
from seaway.explore.analysis import Findings
from seaway.reporting import report
from seaway.reporting.report import COLOURS

GROUP_COLOURS = dict(zip(class_balance.GROUPS, (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[4]), strict=True))
_MAX_NAMES = 64  # class names that fit below a plot


def counts(findings: Findings) -> Markup:
    plot = Figure(figsize=(9, 3), layout="constrained")
    groups = class_balance.by_group(findings.labels, findings.train, findings.test)
    left, right = plot.subplots(1, 2, width_ratios=[len(groups), 15])
    _bars(left, [train for _, train, _ in groups.values()], [test for _, _, test in groups.values()], list(groups))
    left.set_xticks(range(len(groups)), [name.replace(" ", "\n") for name in groups], fontsize=8)
    left.set_ylabel("images")
    _bars(right, findings.train, findings.test, [class_balance.group(label) for label in findings.labels])
    _name_classes(right, findings.labels)
    caption = (
        "Groups on the left, classes on the right: training images, and in front of them test images as narrow bars."
    )
    return _figure(plot, "Images by group and class", caption)


def shares(findings: Findings) -> Markup:
    plot = Figure(figsize=(9, 2.8), layout="constrained")
    axes = plot.subplots()
    places = np.arange(len(findings.labels))
    train, test = (100 * part / part.sum() for part in (findings.train, findings.test))
    axes.bar(places, train, color=COLOURS[4], alpha=0.5, label="training")
    axes.plot(places, test, "o", color=COLOURS[0], markersize=4, label="test")
    _name_classes(axes, findings.labels)
    axes.set_ylabel("% of the set")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    caption = (
        "Each class's percentage of the two sets: if bar and dot differ, the test set weights that class differently."
    )
    return _figure(plot, "Percentage of each class in training and test set", caption)


def _figure(plot: Figure, alt: str, caption: str) -> Markup:
    with (
        warnings.catch_warnings()
    ):  # about glyphs that matplotlib's font lacks: text stays text, and the browser has them
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        return report.figure(plot, alt=alt, caption=caption)


def _bars(axes: Axes, train: np.ndarray | list[int], test: np.ndarray | list[int], groups: list[str]) -> None:
    places = np.arange(len(groups))
    axes.bar(places, train, color=[GROUP_COLOURS[group] for group in groups])
    axes.bar(places, test, width=0.3, color=COLOURS[3])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)


def _name_classes(axes: Axes, labels: tuple[str, ...]) -> None:
    places = np.arange(0, len(labels), -(-len(labels) // _MAX_NAMES))
    axes.set_xticks(places, [labels[place].replace("$", r"\$") for place in places], fontsize=7)
    axes.set_xlim(-0.8, len(labels) - 0.2)
