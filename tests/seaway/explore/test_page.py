"""The report and the summary say what was found, whatever the dataset is like."""

import io
import re
import warnings

import numpy as np
import pytest
from rich.console import Console

from seaway.artifacts.card import Card
from seaway.data.data import Dataset
from seaway.explore import page, summary, tiles
from seaway.explore.advice import advise
from seaway.explore.analysis import Findings, analyse
from seaway.explore.pictures import BLANKS


def draw(count: int, size: tuple[int, int] = (28, 28), seed: int = 0) -> np.ndarray:
    """uint8 [count, H, W]: three bars each, no two pictures alike."""
    rng = np.random.default_rng([seed, count])
    images = np.zeros((count, *size), np.uint8)
    for image in images:
        for _ in range(3):
            y, x = rng.integers(size[0]), rng.integers(size[1])
            image[max(0, y - 3) : y + 3, max(0, x - 4) : x + 4] = rng.integers(140, 256)
    return images


def make(labels: str | list[str], train: list[int], test: list[int], size: tuple[int, int] = (28, 28)) -> Dataset:
    """As many pictures of each class as given."""
    parts = [np.repeat(np.arange(len(labels), dtype=np.uint8), counts) for counts in (train, test)]
    images = [draw(len(part), size, seed) for seed, part in enumerate(parts)]
    return Dataset(images[0], parts[0], images[1], parts[1], tuple(labels))


def render(dataset: Dataset, findings: Findings) -> str:
    card = Card("dataset", "characters", labels=dataset.labels, settings={"source": "here", "fingerprint": "0" * 64})
    return page.render(dataset, card, findings)


def told(findings: Findings) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    summary.tell(findings, console)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def found(dataset: Dataset) -> str:
    return "\n".join(advice.found for advice in advise(analyse(dataset)))


@pytest.mark.parametrize(
    "dataset",
    [
        make("ab$", [40, 30, 30], [10, 0, 10]),
        make("<&", [20, 20], [4, 4]),
        make("AB1", [30, 30, 30], [5, 5, 5], size=(20, 50)),
        make("AB", [30, 30], [5, 5], size=(3, 2)),
        make(["[bold]", "x"], [60, 1], [9, 1]),
        make("a", [20], [4]),
        make([chr(0x100 + i) for i in range(256)], [2] * 256, [1] * 256, size=(6, 6)),
    ],
    ids=["absent", "two", "wide", "tiny", "single", "one", "many"],
)
def test_any_dataset_has_a_report_and_a_summary(dataset: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = analyse(dataset)
        html = render(dataset, findings)
    words = re.sub(r"base64,[^\"]+", "", html)
    assert re.search(r"\b(nan|inf)\b", words) is None
    assert "<td>&lt;</td>" in html or "<" not in dataset.labels
    lines = told(findings)
    assert f"{len(dataset.labels)}" in lines
    assert dataset.labels[0] in lines
    for advice in advise(findings):
        assert advice.found in lines
        assert advice.do in lines


def test_the_same_dataset_has_the_same_report() -> None:
    dataset = make("ab", [40, 20], [10, 5])
    assert render(dataset, analyse(dataset)) == render(dataset, analyse(dataset))


def test_nothing_stands_out_where_nothing_does() -> None:
    dataset = make("ab", [60, 60], [20, 20])
    findings = analyse(dataset)
    assert advise(findings) == []
    assert "nothing stands out" in render(dataset, findings)
    assert "!" not in told(findings)


def test_what_stands_out_is_told_with_what_to_do() -> None:
    dataset = make("ab", [60, 600], [20, 30])
    dataset.train_images[0], dataset.train_images[300] = 0, 255
    dataset.test_images[3] = 0
    dataset.test_images[5] = dataset.train_images[77]
    dataset.train_images[500] = dataset.train_images[20]
    findings = analyse(dataset)
    assert [advice.found for advice in advise(findings)] == [
        "1 test picture (2.00%) with a copy or near copy in training, 1 of them byte by byte",
        "training and test set differ in 30.9% of their classes' shares, where chance makes 3.7%",
        "3 blank pictures (2 empty, 1 nearly full)",
        "1 training picture whose very copy has another label",
        "“b” is 10 times as common as “a”",
    ]
    html = render(dataset, findings)
    assert "training 77<" in html
    assert "test 5<" in html
    assert "a | b, labels differ" in html
    assert "5 = 77" in html
    for kind in BLANKS:
        assert f"<td>{kind}</td>" in html
    assert "a, training 0" in html  # the blank, as a picture


def test_counts_of_the_test_set_are_judged() -> None:
    assert "1 class without a test picture: b" in found(make("ab", [60, 60], [20, 0]))
    assert "1 class with fewer than 10 test pictures: b" in found(make("ab", [60, 60], [20, 9]))
    assert "1 class with fewer than 20 training pictures: b" in found(make("ab", [60, 19], [20, 10]))
    assert "the test set holds 50.0% of all pictures" in found(make("ab", [60, 60], [60, 60]))


def test_dark_on_light_and_repeats_are_noticed() -> None:
    dataset = make("ab", [60, 60], [20, 20])
    inverted = Dataset(
        255 - dataset.train_images, dataset.train_labels, 255 - dataset.test_images, dataset.test_labels, dataset.labels
    )
    assert "the pictures are bright" in found(inverted)
    dataset.train_images[1:4] = dataset.train_images[0]
    assert "3 training pictures that repeat an earlier one (2.5%)" in found(dataset)


def test_pictures_are_written_as_they_are() -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 5), np.uint8)
    np.testing.assert_array_equal(Image.open(io.BytesIO(tiles.png(pixels))), pixels)
    laid = tiles.sheet(np.arange(1, 6, dtype=np.uint8)[:, np.newaxis, np.newaxis], 3)
    np.testing.assert_array_equal(laid, [[1, 2, 3], [4, 5, 0]])


def test_the_page_stays_small() -> None:
    labels = [chr(0x4E00 + i) for i in range(62)]
    large = make(labels, [30] * 62, [5] * 62, size=(64, 64))
    assert len(render(large, analyse(large))) < 3_000_000
