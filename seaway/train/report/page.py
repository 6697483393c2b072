"""The training report: test metrics, training curves, each class, confusions, calibration, settings."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data.datasets import Dataset
from seaway.reporting import report
from seaway.reporting.report import COLOURS, Section
from seaway.train.evaluate import BINS, Result
from seaway.train.loop import Epoch
from seaway.train.report import classes, confusions


def render(metadata: ArtifactMetadata, history: list[Epoch], result: Result, dataset: Dataset) -> str:
    """The whole page as HTML. `result` is that on the dataset's test set, of which a few hundred images are read."""
    settings, labels = metadata.settings, metadata.labels
    sections = [
        Section("Test set", (_facts(result, labels),)),
        Section("Training curves", _training_curves(history)),
        Section("Each class", (classes.bars(result, labels), *classes.worst(result, labels))),
        Section("Confusions", (classes.matrix(result, labels),)),
        Section("Most frequent confusions", confusions.worst(result, dataset)),
        Section("Most confident errors", confusions.confident(result, dataset)),
        Section("Calibration", (_calibration(result, settings.get("label_smoothing", 0), len(labels)),)),
        Section("Settings", (report.settings(settings),)),
    ]
    source = metadata.parents["dataset"].settings.get("source", "an unknown dataset")
    epochs = "1 epoch" if len(history) == 1 else f"{len(history)} epochs"
    lead = f"{settings['net']}, {epochs} on {source}."
    return report.page(f"Training of {metadata.name}", sections, lead=lead)


def _facts(result: Result, labels: tuple[str, ...]) -> Markup:
    bymerge = result.bymerge_accuracy(labels)
    return report.facts(
        {
            "accuracy": result.accuracy,
            **({"accuracy with case folded (ByMerge)": bymerge} if bymerge is not None else {}),
            "balanced accuracy": result.balanced_accuracy,
            **({"top-5 accuracy": result.top5} if len(labels) > 5 else {}),
            "loss": result.loss,
            "calibration error (ECE)": result.reliability.error,
            "images": len(result.predicted),
        }
    )


def _training_curves(history: list[Epoch]) -> list[Markup]:
    best = _best(history)
    facts: dict[str, object] = {"epochs": len(history)}
    if best:
        facts |= {"best epoch": int(best["epoch"]), "its validation accuracy": best["validation_accuracy"]}
    return [report.facts(facts), _curves(history, best)]


def _best(history: list[Epoch]) -> Epoch | None:
    """The epoch whose weights were kept, the later one if scores are equal; None without validation images."""
    rows = [row for row in history if "validation_figure" in row]
    return max(rows, key=lambda row: (row["validation_figure"], row["epoch"]), default=None)


def _curves(history: list[Epoch], best: Epoch | None) -> Markup:
    plot = Figure(figsize=(9, 2.8), layout="constrained")
    losses, accuracies = plot.subplots(1, 2)
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
    caption = (
        "The training loss includes label smoothing and augmentation, so it may be higher than the validation loss."
    )
    if best:
        caption += " The checkpoint has the weights of the epoch with the best validation result."
    return report.figure(plot, alt="Loss and accuracy after each epoch", caption=caption)


def _line(axes: Axes, history: list[Epoch], field: str, label: str, colour: str) -> None:
    rows = [row for row in history if field in row]
    if rows:
        epochs, values = [row["epoch"] for row in rows], [row[field] for row in rows]
        axes.plot(epochs, values, label=label, color=colour, marker="o" if len(rows) < 3 else None)


def _calibration(result: Result, smoothing: float, class_count: int) -> Markup:
    reliability = result.reliability
    plot = Figure(figsize=(9, 4.4), layout="constrained")
    above, below = plot.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = reliability.counts > 0
    centres = (np.arange(BINS) + 0.5) / BINS
    above.bar(centres[filled], reliability.accuracy[filled], 0.9 / BINS, color=COLOURS[0], alpha=0.75)
    above.plot([0, 1], [0, 1], color=COLOURS[4], linestyle="--", linewidth=1)
    above.plot(reliability.confidence[filled], reliability.confidence[filled], "o", color=COLOURS[1], markersize=4)
    above.set_ylim(0, 1.02)
    above.set_ylabel("accuracy")
    below.bar(centres, reliability.counts, 0.9 / BINS, color=COLOURS[4], alpha=0.75)
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.set_ylabel("images")
    below.set_xlabel("confidence")
    below.set_xlim(0, 1)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    confidence = float(result.confidence.mean(dtype=np.float64))
    caption = (
        "Bars: the accuracy of the predictions in each bin of confidence; dots: their mean confidence. If a bar is "
        "higher than its dot, the network is underconfident; if lower, overconfident. Its mean confidence is "
        f"{confidence:.1%}, its accuracy {result.accuracy:.1%}. ECE {reliability.error:.4f} is the mean distance "
        f"between bar and dot, weighted by the number of images; {BINS} bins of equal width."
    )
    if smoothing:
        target = 1 - smoothing + smoothing / class_count
        caption += (
            f" Label smoothing of {smoothing:g} trains it towards a confidence of {target:.1%}, even if it is always "
            "right, so bars higher than the dots are expected at the right end."
        )
    return report.figure(plot, alt="Accuracy and number of images in each bin of confidence", caption=caption)
