"""The training report's pictures of what went wrong: the classes most often confused, and the surest mistakes."""

import io

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imsave

from seaway.data.data import Dataset
from seaway.reporting import report
from seaway.train.classes import name
from seaway.train.evaluate import Result, bymerge

PAIRS = 12
PICTURES = 12  # in a strip
_ENLARGED = 56  # pixels: as high as a picture in a strip becomes
_GAP, _GREY = 2, 128
SUREST = 24
_ACROSS = 8


def worst(result: Result, dataset: Dataset) -> list[Markup | str]:
    """The PAIRS pairs of classes confused most often; pairs that share a class, as of 0, O and o, stand together."""
    wrong = result.confusion + result.confusion.T
    flat = np.argsort(-np.triu(wrong, 1), axis=None, kind="stable")[:PAIRS]
    pairs = [(a, b) for a, b in (divmod(int(i), len(wrong)) for i in flat) if a < b and wrong[a, b]]
    if not pairs:
        return ["Every test picture was recognised."]
    lead = (
        "The pairs of classes confused most often, either way. An arrow leads from what a picture is to what it was "
        "taken for; the share is of its class's pictures; the most confident mistakes stand first."
    )
    return [lead, *(_table(group, pairs, result, dataset) for group in _groups(pairs))]


def _groups(pairs: list[tuple[int, int]]) -> list[set[int]]:
    """Classes that a chain of pairs connects; the group of the worst pair first."""
    groups: list[set[int]] = []
    for pair in pairs:
        touched = [group for group in groups if group & {*pair}]
        groups = [group for group in groups if group not in touched]
        groups.append({*pair}.union(*touched))
    return sorted(groups, key=lambda group: next(i for i, pair in enumerate(pairs) if pair[0] in group))


def _table(group: set[int], pairs: list[tuple[int, int]], result: Result, dataset: Dataset) -> Markup:
    labels, counts = dataset.labels, result.confusion
    inside = [pair for pair in pairs if pair[0] in group]
    ways = [way for a, b in inside for way in ((a, b), (b, a)) if counts[way]]
    rows = [
        [
            Markup("{} → {}").format(name(labels[true]), name(labels[taken])),
            counts[true, taken],
            f"{counts[true, taken] / counts[true].sum():.0%}",
            _strip(true, taken, result, dataset),
        ]
        for true, taken in sorted(ways, key=lambda way: -counts[way])
    ]
    total = sum(int(counts[way]) for way in ways)
    share = total / (counts.sum() - counts.trace())
    caption = Markup("{}: {:,} {}, {:.1%} of all").format(
        _names(sorted(group), labels), total, "mistake" if total == 1 else "mistakes", share
    )
    caption += Markup("").join(_note(pair, labels) for pair in inside)
    return report.table(["confusion", "times", "share", "pictures"], rows, caption)


def _note(pair: tuple[int, int], labels: tuple[str, ...]) -> Markup:
    a, b = (labels[i] for i in pair)
    if a.lower() != b.lower():
        return Markup("")
    first, second = bymerge((a, b))
    merged = ", and are one class in ByMerge" if first == second else ""
    return Markup(". {} and {} differ in case only{}").format(name(a), name(b), merged)


def _names(group: list[int], labels: tuple[str, ...]) -> Markup:
    return Markup(" ").join(name(labels[i]) for i in group)


def _strip(true: int, taken: int, result: Result, dataset: Dataset) -> Markup:
    """The surest of these mistakes side by side."""
    rows = np.flatnonzero((dataset.test_labels == true) & (result.taken == taken))
    chosen = rows[np.argsort(-result.confidence[rows], kind="stable")[:PICTURES]]
    images = dataset.test_images[chosen]
    by = max(1, _ENLARGED // images.shape[1])
    large = images.repeat(by, axis=1).repeat(by, axis=2)
    apart = np.pad(large, ((0, 0), (0, 0), (0, _GAP)), constant_values=_GREY)
    written = io.BytesIO()
    imsave(written, np.concatenate(list(apart), axis=1)[:, :-_GAP], format="png", cmap="gray", vmin=0, vmax=255)
    alt = f"{len(chosen)} pictures of {dataset.labels[true]} taken for {dataset.labels[taken]}"
    return report.picture(written.getvalue(), alt, pixelated=True)


def confident(result: Result, dataset: Dataset) -> list[Markup | str]:
    """The SUREST mistakes, each with its row in the test set, its label, what it was taken for, and how surely."""
    wrong = np.flatnonzero(result.taken != dataset.test_labels)
    chosen = wrong[np.argsort(-result.confidence[wrong], kind="stable")[:SUREST]]
    if not len(chosen):
        return ["Every test picture was recognised."]
    height, width = dataset.test_images.shape[1:]
    tall = 0.9 * height / width + 0.5  # a picture and two lines of text, where 1 is the distance of columns
    down = -(-len(chosen) // _ACROSS)
    drawn = Figure(figsize=(9, 9 / _ACROSS * tall * down))
    axes = drawn.add_axes((0, 0, 1, 1))
    for place, row in enumerate(chosen):
        y, x = divmod(place, _ACROSS)
        extent = (x + 0.05, x + 0.95, y * tall + 0.9 * height / width, y * tall)
        axes.imshow(dataset.test_images[row], cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="none")
        label, taken = (dataset.labels[i].replace("$", r"\$") for i in (dataset.test_labels[row], result.taken[row]))
        below = extent[2]
        axes.text(x + 0.5, below + 0.17, f"{label} → {taken}", ha="center", va="center", family="monospace")
        axes.text(x + 0.5, below + 0.34, f"{result.confidence[row]:.1%}, row {row}", ha="center", va="center", size=7)
    axes.set(xlim=(0, _ACROSS), ylim=(down * tall, 0), aspect="auto")
    axes.set_axis_off()
    caption = (
        "Label → what the picture was taken for, how surely, and its row in the test set. "
        "Where the network looks right, the label may be wrong."
    )
    return [report.figure(drawn, alt="The most confident mistakes", caption=caption)]
