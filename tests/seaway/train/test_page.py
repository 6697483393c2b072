"""The report on results of which every image and error is known."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data.datasets import Dataset
from seaway.train.evaluate import measure
from seaway.train.report import page

LABELS = ("0", "1", "I", "O", "a", "l", "o")
# true class, predicted class, confidence, one per image; row k of the test set is an image of value 10 + k.
PREDICTIONS = [
    *[("O", "0", 0.6), ("O", "0", 0.9), ("O", "0", 0.7), ("0", "O", 0.5), ("o", "O", 0.8), ("o", "O", 0.55)],
    *[("l", "1", 0.66), ("0", "0", 0.99), ("1", "1", 0.99), ("I", "I", 0.99), ("O", "O", 0.99), ("l", "l", 0.99)],
]
HISTORY = [
    {"epoch": 1, "loss": 2.0, "validation_loss": 1.5, "validation_accuracy": 0.5, "validation_figure": 0.5},
    {"epoch": 2, "loss": 1.0, "validation_loss": 1.2, "validation_accuracy": 0.75, "validation_figure": 0.75},
    {"epoch": 3, "loss": 0.9, "validation_loss": 1.3, "validation_accuracy": 0.75, "validation_figure": 0.75},
    {"epoch": 4, "loss": 0.8, "validation_loss": 1.4, "validation_accuracy": 0.5, "validation_figure": 0.5},
]


def rendered(predictions, labels=LABELS, history=(), **settings):
    """The report on these predictions; the other classes share the rest of the confidence."""
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[label] for label, _, _ in predictions], np.uint8)
    shares = np.array([[(1 - confidence) / (len(labels) - 1)] * len(labels) for _, _, confidence in predictions])
    for row, (_, predicted, confidence) in zip(shares, predictions, strict=True):
        row[number[predicted]] = confidence
    images = (
        np.zeros((len(predictions), 4, 3), np.uint8) + (10 + np.arange(len(predictions), dtype=np.uint8))[:, None, None]
    )
    dataset = Dataset(np.zeros((600, 4, 3), np.uint8), np.zeros(600, np.uint8), images, truth, labels)
    parent = ArtifactMetadata(kind="dataset", name="signs", settings={"source": "hand"})
    metadata = ArtifactMetadata(
        kind="checkpoint", name="signs", labels=labels, settings={"net": "cnn", **settings}, parents={"dataset": parent}
    )
    result = measure(torch.from_numpy(shares).log().float(), truth)
    return page.render(metadata, list(history), result, dataset)


@pytest.fixture(scope="module")
def html():
    return rendered(PREDICTIONS, history=HISTORY, label_smoothing=0.05)


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)).split())


def cells(html, first):
    """The rows of the table whose first header is this."""
    [table] = [t for t in re.findall(r"<table>.*?</table>", html, re.DOTALL) if f'<th scope="col">{first}</th>' in t]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    return [[words(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_the_most_confident_errors_of_two_classes_come_first(html):
    address = re.search(r'<img src="data:image/png;base64,([^"]+)" alt="3 images of O predicted as 0"', html)[1]
    strip = (imread(io.BytesIO(base64.b64decode(address)))[..., 0] * 255).round().astype(int)
    wide = 3 * 14  # 56 pixels high
    assert strip.shape == (56, 3 * wide + 2 * 2)
    assert [strip[30, x * (wide + 2) + wide // 2] for x in range(3)] == [11, 12, 10]


def test_confusions_that_share_a_class_are_grouped_with_their_counts(html):
    text = words(html)
    assert "0 O o : 6 errors, 85.7% of all errors. O and o differ in case only, and are one class in ByMerge" in text
    assert "1 l : 1 error, 14.3% of all errors confusion" in text
    assert "O → 0 3 75%" in text
    assert text.index("O → 0 3 75%") < text.index("o → O 2 100%") < text.index("0 → O 1 50%") < text.index("1 l :")
    assert "O → o" not in text


def test_the_most_confident_errors_have_their_rows(html):
    text = words(html).split("Most confident errors")[1]
    errors = re.findall(r"(\S) → (\S) (\d+\.\d)%, row (\d+)", text)
    assert errors[:3] == [("O", "0", "90.0", "1"), ("o", "O", "80.0", "4"), ("O", "0", "70.0", "2")]
    assert len(errors) == 7


def test_the_worst_classes_and_their_confusions(html):
    rows = cells(html, "class")
    assert rows[0] == ["o", "0.0%", "n/a", "2", "O 100%"]
    assert rows[1] == ["O", "25.0%", "25.0%", "4", "0 75%"]
    assert rows[-1] == ["I", "100.0%", "100.0%", "1", "none"]
    assert "Not in the test set, so not evaluated: a." in words(html)


def test_the_key_figures(html):
    text = words(html)
    assert "accuracy with case folded (ByMerge) 0.5833" in text  # o predicted as O is correct
    assert "accuracy 0.4167" in text
    assert "top-5 accuracy" in text
    assert "ECE 0." in text
    assert "Label smoothing of 0.05 trains it towards a confidence of 95.7%" in text


def test_the_best_epoch_is_the_one_whose_weights_were_kept(html):
    assert "best epoch 3" in words(html)  # the later of two on equal terms


def test_the_validation_figure_decides_the_best_epoch_not_the_accuracy():
    more = [row | {"validation_balanced_accuracy": 0.3, "validation_figure": 1 / row["epoch"]} for row in HISTORY]
    text = words(rendered(PREDICTIONS, history=more))
    assert "validation, balanced" in text
    assert "best epoch 1 " in text
    assert "Label smoothing" not in text


def test_no_errors_and_no_history():
    text = words(rendered([("a", "a", 0.9), ("b", "b", 0.8)], labels=("a", "b")))
    assert text.count("All test images were predicted correctly.") == 2
    assert "ByMerge" not in text
    assert "top-5" not in text
    assert "best epoch" not in text


def test_the_maximum_number_of_classes():
    labels = tuple(chr(code) for code in [*range(33, 127), *range(0x100, 0x1A2)])  # with $, \ and &
    assert len(labels) == 256
    shifted = [(label, labels[(i * 7 + 1) % 256], 0.5) for i, label in enumerate(labels)]
    html = rendered(shifted, labels=labels, history=HISTORY)
    assert len(html) < 1_000_000
    assert "<code>&amp;</code>" in html
