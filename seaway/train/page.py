"""The training report: how it went, what the network knows well, and what it takes for what."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seaway.artifacts.card import Card
from seaway.data.data import Dataset
from seaway.reporting import report
from seaway.reporting.report import COLOURS, Section
from seaway.train import classes, mistakes
from seaway.train.evaluate import BINS, Result
from seaway.train.loop import Epoch


def render(card: Card, history: list[Epoch], result: Result, dataset: Dataset) -> str:
    """The whole page as HTML; `result` is of the dataset's test set, of which a few hundred pictures are read."""
    settings, labels = card.settings, card.labels
    sections = [
        Section("Test set", (_facts(result, labels),)),
        Section("Course", _course(history)),
        Section("Each class", (classes.bars(result, labels), *classes.worst(result, labels))),
        Section("What is taken for what", (classes.matrix(result, labels),)),
        Section("The worst confusions", mistakes.worst(result, dataset)),
        Section("The most confident mistakes", mistakes.confident(result, dataset)),
        Section("Calibration", (_calibration(result, settings.get("label_smoothing", 0), len(labels)),)),
        Section("Settings", (report.table(["setting", "value"], [[k, str(v)] for k, v in settings.items()]),)),
    ]
    source = card.parents["dataset"].settings.get("source", "a dataset of unknown source")
    lead = f"{settings['net']}, {len(history)} epochs on {source}."
    return report.page(f"Training of {card.name}", sections, lead=lead)


def _facts(result: Result, labels: tuple[str, ...]) -> Markup:
    folded = result.bymerge_accuracy(labels)
    return report.facts(
        {
            "accuracy": result.accuracy,
            **({"accuracy with case folded (ByMerge)": folded} if folded is not None else {}),
            "balanced accuracy": result.balanced_accuracy,
            **({"top-5 accuracy": result.top5} if len(labels) > 5 else {}),
            "loss": result.loss,
            "calibration error (ECE)": result.reliability.error,
            "pictures": len(result.taken),
        }
    )


def _course(history: list[Epoch]) -> list[Markup]:
    best = _best(history)
    facts: dict[str, object] = {"epochs": len(history)}
    if best:
        facts |= {"best epoch": int(best["epoch"]), "its validation accuracy": best["validation_accuracy"]}
    return [report.facts(facts), _curves(history, best)]


def _best(history: list[Epoch]) -> Epoch | None:
    """The row of the epoch whose weights were kept, the later one on equal terms; None without validation pictures."""
    rows = [row for row in history if "validation_figure" in row]
    return max(rows, key=lambda row: (row["validation_figure"], row["epoch"]), default=None)


def _curves(history: list[Epoch], best: Epoch | None) -> Markup:
    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    losses, accuracies = drawn.subplots(1, 2)
    _line(losses, history, "loss", "training", COLOURS[0])
    _line(losses, history, "validation_loss", "validation", COLOURS[1])
    losses.set_ylabel("loss")
    _line(accuracies, history, "validation_accuracy", "validation", COLOURS[1])
    _line(accuracies, history, "validation_balanced_accuracy", "validation, balanced", COLOURS[3])
    accuracies.set_ylabel("accuracy")
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        if best:
            axes.axvline(best["epoch"], color=COLOURS[4], linewidth=1, linestyle=":", label="best epoch")
        if axes.get_lines():
            axes.legend(frameon=False, fontsize=8)
    caption = "The training loss includes label smoothing and augmentation, so it may lie above the validation loss."
    if best:
        caption += " The weights are those of the best epoch by validation."
    return report.figure(drawn, alt="Loss and accuracy after each epoch", caption=caption)


def _line(axes: Axes, history: list[Epoch], field: str, label: str, colour: str) -> None:
    rows = [row for row in history if field in row]
    if rows:
        epochs, values = [row["epoch"] for row in rows], [row[field] for row in rows]
        axes.plot(epochs, values, label=label, color=colour, marker="o" if len(rows) < 3 else None)


def _calibration(result: Result, smoothing: float, number: int) -> Markup:
    found = result.reliability
    drawn = Figure(figsize=(9, 4.4), layout="constrained")
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    there = found.counts > 0
    middles = (np.arange(BINS) + 0.5) / BINS
    above.bar(middles[there], found.accuracy[there], 0.9 / BINS, color=COLOURS[0], alpha=0.75)
    above.plot([0, 1], [0, 1], color=COLOURS[4], linestyle="--", linewidth=1)
    above.plot(found.confidence[there], found.confidence[there], "o", color=COLOURS[1], markersize=4)
    above.set_ylim(0, 1.02)
    above.set_ylabel("accuracy")
    below.bar(middles, found.counts, 0.9 / BINS, color=COLOURS[4], alpha=0.75)
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.set_ylabel("pictures")
    below.set_xlabel("confidence")
    below.set_xlim(0, 1)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    sure = float(result.confidence.mean(dtype=np.float64))
    caption = (
        f"Bars: how often the network is right where it is as sure as the dot says. A bar above its dot: it knows more "
        f"than it says (underconfident); below: it says more than it knows. On average it is {sure:.1%} sure and right "
        f"{result.accuracy:.1%} of the time. ECE {found.error:.4f}: the mean distance of bar and dot, each bin weighed "
        f"by its pictures; {BINS} bins of equal width."
    )
    if smoothing:
        aim = 1 - smoothing + smoothing / number
        caption += (
            f" Label smoothing of {smoothing:g} taught it to be {aim:.1%} sure and no more, even where it is always "
            "right: bars above the dots at the right end are to be expected."
        )
    return report.figure(drawn, alt="Accuracy at each confidence, and how many pictures have it", caption=caption)
