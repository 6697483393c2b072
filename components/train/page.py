"""The training report: how it went, what the network knows well, and what it takes for what."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.train.evaluate import Result
from components.train.loop import Epoch
from seaway import report
from seaway.card import Card
from seaway.report import COLOURS, Section

CONFUSIONS = 15


def render(card: Card, history: list[Epoch], result: Result) -> str:
    """The whole page as HTML."""
    settings = card.settings
    sections = [
        Section("Test set", (_facts(result),)),
        Section("Course", (_curves(history),)),
        Section("Recall of each class", (_recall(result, card.labels),)),
        Section("What is taken for what", (_confusions(result, card.labels),)),
        Section("Settings", (report.table(["setting", "value"], [[k, str(v)] for k, v in settings.items()]),)),
    ]
    source = card.parents["dataset"].settings.get("source", "a dataset of unknown source")
    lead = f"{settings['net']}, {len(history)} epochs on {source}."
    return report.page(f"Training of {card.name}", sections, lead=lead)


def _facts(result: Result) -> Markup:
    return report.facts(
        {
            "accuracy": result.accuracy,
            "balanced accuracy": result.balanced_accuracy,
            "loss": result.loss,
            "pictures": int(result.confusion.sum()),
        }
    )


def _curves(history: list[Epoch]) -> Markup:
    drawn = Figure(figsize=(8, 3), layout="constrained")
    losses, accuracies = drawn.subplots(1, 2)
    _line(losses, history, "loss", "training", COLOURS[0])
    _line(losses, history, "validation_loss", "validation", COLOURS[1])
    losses.set_ylabel("loss")
    _line(accuracies, history, "validation_accuracy", "validation", COLOURS[1])
    accuracies.set_ylabel("accuracy")
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_lines():
            axes.legend(frameon=False)
    caption = (
        "The training loss includes label smoothing and augmentation, so it may lie above the validation loss. "
        "The weights are those of the epoch with the best validation accuracy."
    )
    return report.figure(drawn, alt="Loss and accuracy after each epoch", caption=caption)


def _line(axes: Axes, history: list[Epoch], field: str, label: str, colour: str) -> None:
    rows = [row for row in history if field in row]
    if rows:
        epochs, values = [row["epoch"] for row in rows], [row[field] for row in rows]
        axes.plot(epochs, values, label=label, color=colour, marker="o" if len(rows) < 3 else None)


def _recall(result: Result, labels: tuple[str, ...]) -> Markup:
    drawn = Figure(figsize=(max(4.0, 0.16 * len(labels)), 2.6), layout="constrained")
    axes = drawn.subplots()
    places = np.arange(len(labels))
    axes.bar(places, np.nan_to_num(result.recall), color=COLOURS[0])
    axes.axhline(result.balanced_accuracy, color=COLOURS[1], linewidth=1)
    axes.set_xticks(places, [label.replace("$", r"\$") for label in labels], fontsize=8)
    axes.set_ylim(0, 1)
    axes.margins(x=0.01)
    axes.set_ylabel("recall")
    axes.spines[["top", "right"]].set_visible(False)
    return report.figure(drawn, alt="Recall of each class", caption="The line is their mean, the balanced accuracy.")


def _confusions(result: Result, labels: tuple[str, ...]) -> Markup:
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    worst = [divmod(int(flat), len(labels)) for flat in np.argsort(wrong, axis=None, kind="stable")[::-1][:CONFUSIONS]]
    rows = [
        [
            labels[true],
            labels[taken],
            int(wrong[true, taken]),
            f"{wrong[true, taken] / result.confusion[true].sum():.0%}",
        ]
        for true, taken in worst
        if wrong[true, taken]
    ]
    if not rows:
        return Markup("<p>Every test picture was recognised.</p>")
    return report.table(["is", "taken for", "times", "of its class"], rows)
