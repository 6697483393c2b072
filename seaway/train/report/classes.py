"""The training report's classes: recall and precision of each, and the confusion matrix."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seaway.reporting import report
from seaway.reporting.report import COLOURS
from seaway.train.evaluate import Result

WORST = 10
MAX_NAMES = 80  # along an axis: with more classes only every second or third is named


def bars(result: Result, labels: tuple[str, ...]) -> Markup:
    """Recall as bars, precision as dots."""
    plot = Figure(figsize=(9, 2.8), layout="constrained")
    axes = plot.subplots()
    places = np.arange(len(labels))
    axes.bar(places, np.nan_to_num(result.recall), color=COLOURS[0], alpha=0.75, label="recall")
    axes.plot(places, result.precision, "o", color=COLOURS[1], markersize=3.5, label="precision")
    axes.axhline(result.balanced_accuracy, color=COLOURS[4], linewidth=1, linestyle="--", label="mean recall")
    _name_classes(axes, labels, "x", 8)
    axes.set_xlim(-0.8, len(labels) - 0.2)
    axes.set_ylim(0, 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    caption = (
        "Recall: the fraction of a class's images that are predicted as the class. Precision: the fraction of the "
        "images predicted as the class that belong to it. The mean recall is the balanced accuracy."
    )
    return report.figure(plot, alt="Recall and precision of each class", caption=caption)


def worst(result: Result, labels: tuple[str, ...]) -> list[Markup | str]:
    """A table of the classes with the lowest recall, and a sentence on the classes without test images."""
    counts = result.confusion.sum(axis=1)
    order = [int(i) for i in np.argsort(result.recall, kind="stable") if counts[i]][:WORST]
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for i in order:
        mistaken_for = [int(j) for j in np.argsort(-wrong[i], kind="stable")[:3] if wrong[i, j]]
        confused = Markup(", ").join(
            Markup("{} {:.0%}").format(report.code(labels[j]), wrong[i, j] / counts[i]) for j in mistaken_for
        )
        precision = f"{result.precision[i]:.1%}" if result.confusion[:, i].any() else "n/a"
        rows.append([report.code(labels[i]), f"{result.recall[i]:.1%}", precision, counts[i], confused or "none"])
    headers = ["class", "recall", "precision", "images", "most often confused with"]
    caption = (
        "All classes, worst first" if len(rows) == len(labels) else f"The {len(rows)} classes with the lowest recall"
    )
    parts: list[Markup | str] = [report.table(headers, rows, caption)]
    absent = [label for label, n in zip(labels, counts, strict=True) if not n]
    if absent:
        parts.append(f"Not in the test set, so not evaluated: {' '.join(absent)}.")
    return parts


def matrix(result: Result, labels: tuple[str, ...]) -> Markup:
    """The confusion matrix; each row has shares of its class. Colours fade into the page, light or dark."""
    count = len(labels)
    shares = result.confusion / np.maximum(result.confusion.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(count, dtype=bool)
    side, margin, width = min(7.3, 1.6 + 0.35 * count), 0.5, 9.0  # inches; layout="constrained" would take seconds
    height = side + 2 * margin
    plot = Figure(figsize=(width, height))
    axes = plot.add_axes((margin / width, margin / height, side / width, side / height))
    most = max(float(shares[~diagonal].max()), 0.01)
    for colour, hidden, top, title, bottom in (
        (COLOURS[0], ~diagonal, 1.0, "correct", 0.55),
        (COLOURS[1], diagonal, most, "confused", 0.0),
    ):
        fade = LinearSegmentedColormap.from_list(title, [(*to_rgb(colour), 0), (*to_rgb(colour), 1)])
        image = axes.imshow(np.ma.array(shares, mask=hidden), fade, PowerNorm(0.5, 0, top), interpolation="none")
        place = (side + margin + 0.35) / width, (margin + bottom * side) / height, 0.12 / width, 0.4 * side / height
        bar = plot.colorbar(image, cax=plot.add_axes(place), ticks=[0, top / 16, top / 4, top])
        bar.ax.set_title(title, fontsize=8, loc="left")
        bar.ax.tick_params(labelsize=8)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None if top < 0.1 else 0))
        bar.outline.set_visible(False)
    size = min(8.0, 400 / min(count, MAX_NAMES))
    _name_classes(axes, labels, "x", size)
    _name_classes(axes, labels, "y", size)
    axes.tick_params(length=0, labeltop=True, labelright=True)
    axes.spines[:].set(linewidth=0.5, color=COLOURS[4])
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    caption = (
        "Each row is a true class; its squares are fractions of its images. The colour scale is the square root of "
        "the fraction, so that one in a hundred is still visible."
    )
    return report.figure(plot, alt="Confusion matrix", caption=caption)


def _name_classes(axes: Axes, labels: tuple[str, ...], axis: str, size: float) -> None:
    step = -(-len(labels) // MAX_NAMES)
    texts = [label.replace("$", r"\$") for label in labels[::step]]
    set_ticks = axes.set_xticks if axis == "x" else axes.set_yticks
    set_ticks(np.arange(0, len(labels), step), texts, fontsize=size, family="monospace")
