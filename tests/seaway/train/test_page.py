"""The report, made of results whose every picture and mistake is known."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from seaway.artifacts.card import Card
from seaway.data.data import Dataset
from seaway.train import page
from seaway.train.evaluate import measure

LABELS = ("0", "1", "I", "O", "a", "l", "o")
# is → taken for, how sure of it, one a picture; row k of the test set is a picture of value 10 + k.
ANSWERS = [
    *[("O", "0", 0.6), ("O", "0", 0.9), ("O", "0", 0.7), ("0", "O", 0.5), ("o", "O", 0.8), ("o", "O", 0.55)],
    *[("l", "1", 0.66), ("0", "0", 0.99), ("1", "1", 0.99), ("I", "I", 0.99), ("O", "O", 0.99), ("l", "l", 0.99)],
]
HISTORY = [
    {"epoch": 1, "loss": 2.0, "validation_loss": 1.5, "validation_accuracy": 0.5, "validation_figure": 0.5},
    {"epoch": 2, "loss": 1.0, "validation_loss": 1.2, "validation_accuracy": 0.75, "validation_figure": 0.75},
    {"epoch": 3, "loss": 0.9, "validation_loss": 1.3, "validation_accuracy": 0.75, "validation_figure": 0.75},
    {"epoch": 4, "loss": 0.8, "validation_loss": 1.4, "validation_accuracy": 0.5, "validation_figure": 0.5},
]


def rendered(answers, labels=LABELS, history=(), **settings):
    """The report on these answers; a network that is `sure` of a class gives the others what is left."""
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[label] for label, _, _ in answers], np.uint8)
    shares = np.array([[(1 - sure) / (len(labels) - 1)] * len(labels) for _, _, sure in answers])
    for row, (_, taken, sure) in zip(shares, answers, strict=True):
        row[number[taken]] = sure
    images = np.zeros((len(answers), 4, 3), np.uint8) + (10 + np.arange(len(answers), dtype=np.uint8))[:, None, None]
    dataset = Dataset(np.zeros((600, 4, 3), np.uint8), np.zeros(600, np.uint8), images, truth, labels)
    parent = Card(kind="dataset", name="signs", settings={"source": "hand"})
    card = Card(
        kind="checkpoint", name="signs", labels=labels, settings={"net": "cnn", **settings}, parents={"dataset": parent}
    )
    result = measure(torch.from_numpy(shares).log().float(), truth)
    return page.render(card, list(history), result, dataset)


@pytest.fixture(scope="module")
def html():
    return rendered(ANSWERS, history=HISTORY, label_smoothing=0.05)


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)).split())


def cells(html, first):
    """The rows of the table whose first header is this."""
    [table] = [t for t in re.findall(r"<table>.*?</table>", html, re.DOTALL) if f'<th scope="col">{first}</th>' in t]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    return [[words(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_the_mistakes_of_two_classes_are_shown_the_surest_first(html):
    address = re.search(r'<img src="data:image/png;base64,([^"]+)" alt="3 pictures of O taken for 0"', html)[1]
    strip = (imread(io.BytesIO(base64.b64decode(address)))[..., 0] * 255).round().astype(int)
    wide = 3 * 14  # 56 pixels high
    assert strip.shape == (56, 3 * wide + 2 * 2)
    assert [strip[30, x * (wide + 2) + wide // 2] for x in range(3)] == [11, 12, 10]


def test_confusions_that_share_a_class_stand_together_with_their_numbers(html):
    told = words(html)
    assert "0 O o : 6 mistakes, 85.7% of all. O and o differ in case only, and are one class in ByMerge" in told
    assert "1 l : 1 mistake, 14.3% of all confusion" in told
    assert "O → 0 3 75%" in told
    assert told.index("O → 0 3 75%") < told.index("o → O 2 100%") < told.index("0 → O 1 50%") < told.index("1 l :")
    assert "O → o" not in told


def test_the_surest_mistakes_of_all_have_their_rows(html):
    told = words(html).split("The most confident mistakes")[1]
    found = re.findall(r"(\S) → (\S) (\d+\.\d)%, row (\d+)", told)
    assert found[:3] == [("O", "0", "90.0", "1"), ("o", "O", "80.0", "4"), ("O", "0", "70.0", "2")]
    assert len(found) == 7


def test_the_worst_classes_and_what_they_are_taken_for(html):
    rows = cells(html, "class")
    assert rows[0] == ["o", "0.0%", "n/a", "2", "O 100%"]
    assert rows[1] == ["O", "25.0%", "25.0%", "4", "0 75%"]
    assert rows[-1] == ["I", "100.0%", "100.0%", "1", "nothing else"]
    assert "Not in the test set, so never measured: a." in words(html)


def test_the_key_figures(html):
    told = words(html)
    assert "accuracy with case folded (ByMerge) 0.5833" in told  # o taken for O is right
    assert "accuracy 0.4167" in told
    assert "top-5 accuracy" in told
    assert "ECE 0." in told
    assert "Label smoothing of 0.05 taught it to be 95.7% sure" in told


def test_the_best_epoch_is_the_one_whose_weights_were_kept(html):
    assert "best epoch 3" in words(html)  # the later of two on equal terms


def test_what_decided_is_the_figure_and_not_the_accuracy():
    more = [row | {"validation_balanced_accuracy": 0.3, "validation_figure": 1 / row["epoch"]} for row in HISTORY]
    told = words(rendered(ANSWERS, history=more))
    assert "validation, balanced" in told
    assert "best epoch 1 " in told
    assert "Label smoothing" not in told


def test_no_mistakes_at_all_and_no_history():
    told = words(rendered([("a", "a", 0.9), ("b", "b", 0.8)], labels=("a", "b")))
    assert told.count("Every test picture was recognised.") == 2
    assert "ByMerge" not in told
    assert "top-5" not in told
    assert "best epoch" not in told


def test_as_many_classes_as_there_can_be():
    labels = tuple(chr(code) for code in [*range(33, 127), *range(0x100, 0x1A2)])  # with $, \ and &
    assert len(labels) == 256
    shifted = [(label, labels[(i * 7 + 1) % 256], 0.5) for i, label in enumerate(labels)]
    html = rendered(shifted, labels=labels, history=HISTORY)
    assert len(html) < 1_000_000
    assert "<code>&amp;</code>" in html
