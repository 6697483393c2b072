"""The training report's errors as images: the classes most often confused, and the most confident errors."""

import io

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imsave

from seaway.data.datasets import Dataset
from seaway.reporting import report
from seaway.train.evaluate import Result, bymerge

PAIRS = 12
IMAGES = 12  # in a strip
_STRIP_HEIGHT = 56  # pixels to which images in a strip are enlarged
_GAP, _GREY = 2, 128
ERRORS = 24
_COLUMNS = 8


def worst(result: Result, dataset: Dataset) -> list[Markup | str]:
    """The PAIRS pairs of classes confused most often; pairs that share a class, e.g. 0, O and o, stand together."""
    wrong = result.confusion + result.confusion.T
    flat = np.argsort(-np.triu(wrong, 1), axis=None, kind="stable")[:PAIRS]
    pairs = [(a, b) for a, b in (divmod(int(i), len(wrong)) for i in flat) if a < b and wrong[a, b]]
    if not pairs:
        return ["All test images were predicted correctly."]
    lead = (
        "The pairs of classes confused most often, in either direction: true class → predicted class, with the "
        "fraction of the true class's images. The images show the most confident errors first."
    )
    return [lead, *(_table(group, pairs, result, dataset) for group in _groups(pairs))]


def _groups(pairs: list[tuple[int, int]]) -> list[set[int]]:
    """Groups of classes connected by pairs; the group of the most frequent pair first."""
    groups: list[set[int]] = []
    for pair in pairs:
        touched = [group for group in groups if group & {*pair}]
        groups = [group for group in groups if group not in touched]
        groups.append({*pair}.union(*touched))
    return sorted(groups, key=lambda group: next(i for i, pair in enumerate(pairs) if pair[0] in group))


def _table(group: set[int], pairs: list[tuple[int, int]], result: Result, dataset: Dataset) -> Markup:
    labels, counts = dataset.labels, result.confusion
    group_pairs = [pair for pair in pairs if pair[0] in group]
    both = [direction for a, b in group_pairs for direction in ((a, b), (b, a))]
    directions = [direction for direction in both if counts[direction]]
    rows = [
        [
            Markup("{} → {}").format(report.code(labels[true]), report.code(labels[predicted])),
            counts[true, predicted],
            f"{counts[true, predicted] / counts[true].sum():.0%}",
            _strip(true, predicted, result, dataset),
        ]
        for true, predicted in sorted(directions, key=lambda direction: -counts[direction])
    ]
    total = sum(int(counts[direction]) for direction in directions)
    share = total / (counts.sum() - counts.trace())
    caption = Markup("{}: {:,} {}, {:.1%} of all errors").format(
        _names(sorted(group), labels), total, "error" if total == 1 else "errors", share
    )
    caption += Markup("").join(_note(pair, labels) for pair in group_pairs)
    return report.table(["confusion", "count", "share", "images"], rows, caption)


def _note(pair: tuple[int, int], labels: tuple[str, ...]) -> Markup:
    a, b = (labels[i] for i in pair)
    if a.lower() != b.lower():
        return Markup("")
    first, second = bymerge((a, b))
    merged = ", and are one class in ByMerge" if first == second else ""
    return Markup(". {} and {} differ in case only{}").format(report.code(a), report.code(b), merged)


def _names(group: list[int], labels: tuple[str, ...]) -> Markup:
    return Markup(" ").join(report.code(labels[i]) for i in group)


def _strip(true: int, predicted: int, result: Result, dataset: Dataset) -> Markup:
    """The most confident of these errors side by side."""
    rows = np.flatnonzero((dataset.test_labels == true) & (result.predicted == predicted))
    chosen = rows[np.argsort(-result.confidence[rows], kind="stable")[:IMAGES]]
    images = dataset.test_images[chosen]
    scale = max(1, _STRIP_HEIGHT // images.shape[1])
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    spaced = np.pad(enlarged, ((0, 0), (0, 0), (0, _GAP)), constant_values=_GREY)
    buffer = io.BytesIO()
    imsave(buffer, np.concatenate(list(spaced), axis=1)[:, :-_GAP], format="png", cmap="gray", vmin=0, vmax=255)
    count = "1 image" if len(chosen) == 1 else f"{len(chosen)} images"
    alt = f"{count} of {dataset.labels[true]} predicted as {dataset.labels[predicted]}"
    return report.image(buffer.getvalue(), alt, pixelated=True)


def confident(result: Result, dataset: Dataset) -> list[Markup | str]:
    """The ERRORS most confident errors, each with its row in the test set, its label, its prediction and confidence."""
    wrong = np.flatnonzero(result.predicted != dataset.test_labels)
    chosen = wrong[np.argsort(-result.confidence[wrong], kind="stable")[:ERRORS]]
    if not len(chosen):
        return ["All test images were predicted correctly."]
    height, width = dataset.test_images.shape[1:]
    row_height = 0.9 * height / width + 0.5  # an image and two lines of text; 1 is the width of a column
    rows = -(-len(chosen) // _COLUMNS)
    plot = Figure(figsize=(9, 9 / _COLUMNS * row_height * rows))
    axes = plot.add_axes((0, 0, 1, 1))
    for position, row in enumerate(chosen):
        y, x = divmod(position, _COLUMNS)
        extent = (x + 0.05, x + 0.95, y * row_height + 0.9 * height / width, y * row_height)
        axes.imshow(dataset.test_images[row], cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="none")
        label, predicted = (
            dataset.labels[i].replace("$", r"\$") for i in (dataset.test_labels[row], result.predicted[row])
        )
        bottom = extent[2]
        axes.text(x + 0.5, bottom + 0.17, f"{label} → {predicted}", ha="center", va="center", family="monospace")
        axes.text(x + 0.5, bottom + 0.34, f"{result.confidence[row]:.1%}, row {row}", ha="center", va="center", size=7)
    axes.set(xlim=(0, _COLUMNS), ylim=(rows * row_height, 0), aspect="auto")
    axes.set_axis_off()
    caption = (
        "Label → predicted class, the confidence of the prediction, and the image's row in the test set. "
        "If the prediction looks right, the label may be wrong."
    )
    return [report.figure(plot, alt="The most confident errors", caption=caption)]
