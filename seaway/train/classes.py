"""What the training report says of the classes: recall and precision of each, and the confusion matrix."""

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
MOST_NAMES = 80  # along an axis: of more classes not each is named


def name(label: str) -> Markup:
    """In a font that tells 1 from l and I, 0 from O."""
    return Markup("<code>{}</code>").format(label)


def bars(result: Result, labels: tuple[str, ...]) -> Markup:
    """Recall as bars, precision as dots."""
    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
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
        "Recall: how many of a class's pictures are recognised. Precision: how many of those taken for it are of it. "
        "Mean recall is the balanced accuracy."
    )
    return report.figure(drawn, alt="Recall and precision of each class", caption=caption)


def worst(result: Result, labels: tuple[str, ...]) -> list[Markup | str]:
    """A table of the classes with the lowest recall, and a sentence on those that no test picture is of."""
    seen = result.confusion.sum(axis=1)
    order = [int(i) for i in np.argsort(result.recall, kind="stable") if seen[i]][:WORST]
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for i in order:
        takers = [int(j) for j in np.argsort(-wrong[i], kind="stable")[:3] if wrong[i, j]]
        taken = Markup(", ").join(Markup("{} {:.0%}").format(name(labels[j]), wrong[i, j] / seen[i]) for j in takers)
        precision = f"{result.precision[i]:.1%}" if result.confusion[:, i].any() else "n/a"
        rows.append([name(labels[i]), f"{result.recall[i]:.1%}", precision, seen[i], taken or "nothing else"])
    headers = ["class", "recall", "precision", "pictures", "most often taken for"]
    caption = "Every class, worst first" if len(rows) == len(labels) else f"The {len(rows)} classes of lowest recall"
    parts: list[Markup | str] = [report.table(headers, rows, caption)]
    absent = [label for label, n in zip(labels, seen, strict=True) if not n]
    if absent:
        parts.append(f"Not in the test set, so never measured: {' '.join(absent)}.")
    return parts


def matrix(result: Result, labels: tuple[str, ...]) -> Markup:
    """The confusion matrix, each row as shares of its class; colours fade into the page, light or dark."""
    count = len(labels)
    shares = result.confusion / np.maximum(result.confusion.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(count, dtype=bool)
    side, edge, wide = min(7.3, 1.6 + 0.35 * count), 0.5, 9.0  # inches; not layout="constrained", which takes seconds
    high = side + 2 * edge
    drawn = Figure(figsize=(wide, high))
    axes = drawn.add_axes((edge / wide, edge / high, side / wide, side / high))
    most = max(float(shares[~diagonal].max()), 0.01)
    for colour, hidden, top, title, bottom in (
        (COLOURS[0], ~diagonal, 1.0, "recognised", 0.55),
        (COLOURS[1], diagonal, most, "mistaken", 0.0),
    ):
        fade = LinearSegmentedColormap.from_list(title, [(*to_rgb(colour), 0), (*to_rgb(colour), 1)])
        image = axes.imshow(np.ma.array(shares, mask=hidden), fade, PowerNorm(0.5, 0, top), interpolation="none")
        place = (side + edge + 0.35) / wide, (edge + bottom * side) / high, 0.12 / wide, 0.4 * side / high
        bar = drawn.colorbar(image, cax=drawn.add_axes(place), ticks=[0, top / 16, top / 4, top])
        bar.ax.set_title(title, fontsize=8, loc="left")
        bar.ax.tick_params(labelsize=8)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None if top < 0.1 else 0))
        bar.outline.set_visible(False)
    size = min(8.0, 400 / min(count, MOST_NAMES))
    _name_classes(axes, labels, "x", size)
    _name_classes(axes, labels, "y", size)
    axes.tick_params(length=0, labeltop=True, labelright=True)
    axes.spines[:].set(linewidth=0.5, color=COLOURS[4])
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    caption = (
        "A row is a class, its squares the shares of its pictures. Colours go by the square root of a share, so that "
        "one in a hundred is still seen."
    )
    return report.figure(drawn, alt="Confusion matrix", caption=caption)


def _name_classes(axes: Axes, labels: tuple[str, ...], axis: str, size: float) -> None:
    step = -(-len(labels) // MOST_NAMES)
    texts = [label.replace("$", r"\$") for label in labels[::step]]
    set_ticks = axes.set_xticks if axis == "x" else axes.set_yticks
    set_ticks(np.arange(0, len(labels), step), texts, fontsize=size, family="monospace")
