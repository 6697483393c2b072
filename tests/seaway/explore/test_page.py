"""The report and the summary show the findings, whatever the dataset."""

import io
import re
import warnings

import numpy as np
import pytest
from rich.console import Console

from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data.datasets import Dataset
from seaway.explore import summary
from seaway.explore.analysis import Findings, analyse
from seaway.explore.recommendations import recommend
from seaway.explore.report import page, thumbnails
from seaway.explore.statistics import BLANKS


def draw(count: int, size: tuple[int, int] = (28, 28), seed: int = 0) -> np.ndarray:
    """uint8 [count, H, W]: three bars each, no two images alike."""
    rng = np.random.default_rng([seed, count])
    images = np.zeros((count, *size), np.uint8)
    for image in images:
        for _ in range(3):
            y, x = rng.integers(size[0]), rng.integers(size[1])
            image[max(0, y - 3) : y + 3, max(0, x - 4) : x + 4] = rng.integers(140, 256)
    return images


def make(labels: str | list[str], train: list[int], test: list[int], size: tuple[int, int] = (28, 28)) -> Dataset:
    """As many images of each class as given."""
    parts = [np.repeat(np.arange(len(labels), dtype=np.uint8), counts) for counts in (train, test)]
    images = [draw(len(part), size, seed) for seed, part in enumerate(parts)]
    return Dataset(images[0], parts[0], images[1], parts[1], tuple(labels))


def render(dataset: Dataset, findings: Findings) -> str:
    metadata = ArtifactMetadata(
        "dataset", "characters", labels=dataset.labels, settings={"source": "here", "fingerprint": "0" * 64}
    )
    return page.render(dataset, metadata, findings)


def summary_of(findings: Findings) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    summary.print_summary(findings, console)
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def recommendations_for(dataset: Dataset) -> str:
    return "\n".join(each.finding for each in recommend(analyse(dataset)))


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
    assert ">&lt;</td>" in html or "<" not in dataset.labels
    lines = summary_of(findings)
    assert f"{len(dataset.labels)}" in lines
    assert dataset.labels[0] in lines
    for recommendation in recommend(findings):
        assert recommendation.finding in lines
        assert recommendation.action in lines


def test_the_same_dataset_has_the_same_report() -> None:
    dataset = make("ab", [40, 20], [10, 5])
    first, second = (render(dataset, analyse(dataset)).partition("<h2>Environment</h2>")[0] for _ in range(2))
    assert first == second


def test_a_good_dataset_has_no_recommendations() -> None:
    dataset = make("ab", [60, 60], [20, 20])
    findings = analyse(dataset)
    assert recommend(findings) == []
    assert "nothing unusual found" in render(dataset, findings)
    assert "!" not in summary_of(findings)


def test_findings_come_with_recommendations() -> None:
    dataset = make("ab", [60, 600], [20, 30])
    dataset.train_images[0], dataset.train_images[300] = 0, 255
    dataset.test_images[3] = 0
    dataset.test_images[5] = dataset.train_images[77]
    dataset.train_images[500] = dataset.train_images[20]
    findings = analyse(dataset)
    assert [each.finding for each in recommend(findings)] == [
        "1 test image (2.00%) with a duplicate or near duplicate in training, 1 of them byte for byte",
        "class distributions of training and test set differ by 30.9%, where chance explains 3.7%",
        "3 blank images (2 empty, 1 nearly full)",
        "1 training image with conflicting labels: an exact duplicate has another label",
        "“b” is 10 times as common as “a”",
    ]
    html = render(dataset, findings)
    assert "training 77<" in html
    assert "test 5<" in html
    assert "a | b, labels differ" in html
    assert "5 = 77" in html
    for kind in BLANKS:
        assert f">{kind}</td>" in html
    assert "a, training 0" in html  # the blank, as an image


def test_counts_of_the_test_set_are_checked() -> None:
    assert "1 class without test images: b" in recommendations_for(make("ab", [60, 60], [20, 0]))
    assert "1 class with fewer than 10 test images: b" in recommendations_for(make("ab", [60, 60], [20, 9]))
    assert "1 class with fewer than 20 training images: b" in recommendations_for(make("ab", [60, 19], [20, 10]))
    assert "the test set has 50.0% of all images" in recommendations_for(make("ab", [60, 60], [60, 60]))


def test_dark_on_light_and_repeats_are_noticed() -> None:
    dataset = make("ab", [60, 60], [20, 20])
    inverted = Dataset(
        255 - dataset.train_images, dataset.train_labels, 255 - dataset.test_images, dataset.test_labels, dataset.labels
    )
    assert "the images are bright" in recommendations_for(inverted)
    dataset.train_images[1:4] = dataset.train_images[0]
    assert "3 exact duplicates within the training set (2.5%)" in recommendations_for(dataset)


def test_images_are_written_as_they_are() -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 5), np.uint8)
    np.testing.assert_array_equal(Image.open(io.BytesIO(thumbnails.png(pixels))), pixels)
    laid = thumbnails.sheet(np.arange(1, 6, dtype=np.uint8)[:, np.newaxis, np.newaxis], 3)
    np.testing.assert_array_equal(laid, [[1, 2, 3], [4, 5, 0]])


def test_the_page_stays_small() -> None:
    labels = [chr(0x4E00 + i) for i in range(62)]
    large = make(labels, [30] * 62, [5] * 62, size=(64, 64))
    assert len(render(large, analyse(large))) < 3_000_000
