"""The report on a dataset: how many of each class, training against test, and what they look like."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seaway import report
from seaway.card import Card
from seaway.data import Dataset
from seaway.report import COLOURS, Section

SAMPLES = 8  # of each class
ACROSS = 31  # classes in one row of samples: two rows for EMNIST's 62

# In this order, with their colours; what is none of the first three is "other".
GROUPS = {"digits": COLOURS[0], "upper case": COLOURS[1], "lower case": COLOURS[2], "other": COLOURS[4]}


def render(dataset: Dataset, card: Card) -> str:
    """The whole page as HTML; reads the labels and a few pictures."""
    classes = len(dataset.labels)
    train = np.bincount(dataset.train_labels, minlength=classes)
    test = np.bincount(dataset.test_labels, minlength=classes)
    groups = np.array([_group(label) for label in dataset.labels])
    sections = [
        Section("At a glance", (_facts(train, test, dataset), _by_group(train, test, groups))),
        Section("Samples", _samples(dataset)),
        Section("Pictures of each class", (_counts(train, dataset.labels, groups),)),
        Section("Training against test", (_shares(train, test, dataset.labels),)),
        Section("Counts", (_table(train, test, dataset.labels),)),
    ]
    lead = f"From {card.settings['source']}, fingerprint {card.settings['fingerprint'][:12]}."
    return report.page(f"Dataset of {card.name}", sections, lead=lead)


def _group(label: str) -> str:
    ascii_letter = label.isascii() and label.isalpha()
    if label.isdigit():
        return "digits"
    if ascii_letter and label.isupper():
        return "upper case"
    return "lower case" if ascii_letter and label.islower() else "other"


def _facts(train: np.ndarray, test: np.ndarray, dataset: Dataset) -> Markup:
    height, width = dataset.train_images.shape[1:]
    return report.facts(
        {
            "training pictures": train.sum(),
            "test pictures": test.sum(),
            "classes": len(train),
            "pixels": f"{height} x {width}",
            "most to least common": f"{train.max() / train.min():.1f} : 1",
        }
    )


def _by_group(train: np.ndarray, test: np.ndarray, groups: np.ndarray) -> Markup:
    rows = []
    for group in GROUPS:
        inside = groups == group
        if inside.any():
            shares = (f"{part[inside].sum() / part.sum():.1%}" for part in (train, test))
            rows.append([group, inside.sum(), train[inside].sum(), test[inside].sum(), *shares])
    headers = ["group", "classes", "training", "test", "share of training", "share of test"]
    return report.table(headers, rows)


def _samples(dataset: Dataset) -> list[Markup]:
    rng = np.random.default_rng(0)
    rows = -(-len(dataset.labels) // ACROSS)
    strips = np.array_split(np.arange(len(dataset.labels)), rows)
    return [_strip(dataset, strip, rng, last=strip is strips[-1]) for strip in strips]


def _strip(dataset: Dataset, classes: np.ndarray, rng: np.random.Generator, last: bool) -> Markup:
    """One column a class, its name above it."""
    height, width = dataset.train_images.shape[1:]
    sheet = np.zeros((SAMPLES * height, len(classes) * width), np.uint8)
    for column, label in enumerate(classes):
        where = np.flatnonzero(dataset.train_labels == label)
        chosen = np.sort(rng.choice(where, min(SAMPLES, len(where)), replace=False))
        picked = np.concatenate(list(dataset.train_images[chosen]), axis=0)
        sheet[: len(picked), column * width : (column + 1) * width] = picked
    drawn = Figure(figsize=(9, 9 * sheet.shape[0] / sheet.shape[1] + 0.3), layout="constrained")
    axes = drawn.subplots()
    axes.imshow(sheet, cmap="gray", interpolation="none", aspect="equal")
    _name_classes(axes, (np.arange(len(classes)) + 0.5) * width - 0.5, [dataset.labels[label] for label in classes])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    caption = "Training pictures chosen at random, one column a class." if last else ""
    return report.figure(drawn, alt=f"Samples of {len(classes)} classes", caption=caption)


def _counts(train: np.ndarray, labels: tuple[str, ...], groups: np.ndarray) -> Markup:
    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
    places = np.arange(len(labels))
    for group, colour in GROUPS.items():
        inside = groups == group
        if inside.any():
            axes.bar(places[inside], train[inside], color=colour, label=group)
    _frame(axes, places, labels, "training pictures")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return report.figure(drawn, alt="Training pictures of each class")


def _shares(train: np.ndarray, test: np.ndarray, labels: tuple[str, ...]) -> Markup:
    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
    places = np.arange(len(labels))
    axes.bar(places, 100 * train / train.sum(), color=COLOURS[4], alpha=0.5, label="training")
    axes.plot(places, 100 * test / test.sum(), "o", color=COLOURS[0], markersize=4, label="test")
    _frame(axes, places, labels, "share in percent")
    absent = [label for label, n in zip(labels, test, strict=True) if not n]
    caption = "Each class's share of either set: where bar and dot part, the test set weighs that class differently."
    if absent:
        caption += f" Not in the test set, so never measured: {' '.join(absent)}."
    return report.figure(drawn, alt="Shares of each class in training and test set", caption=caption)


def _table(train: np.ndarray, test: np.ndarray, labels: tuple[str, ...]) -> Markup:
    rows = [
        [label, n, m, f"{n / train.sum():.2%}", f"{m / test.sum():.2%}"]
        for label, n, m in zip(labels, train, test, strict=True)
    ]
    return report.table(["class", "training", "test", "share of training", "share of test"], rows)


def _frame(axes: Axes, places: np.ndarray, labels: tuple[str, ...], height: str) -> None:
    _name_classes(axes, places, list(labels))
    axes.set_ylabel(height)
    axes.set_xlim(-0.8, len(labels) - 0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _name_classes(axes: Axes, places: np.ndarray, labels: list[str]) -> None:
    axes.set_xticks(places, [label.replace("$", r"\$") for label in labels], fontsize=8)
