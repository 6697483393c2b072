import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from seaway.reporting import report
from seaway.reporting.report import Section


class Seen(HTMLParser):
    """What a browser would find: every tag closed, every address, every id."""

    VOID = ("meta", "img", "br", "path", "use", "image", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def drawing(height: float) -> Figure:
    drawn = Figure(figsize=(4, 2), layout="constrained")
    axes = drawn.subplots()
    axes.plot([0, 1], [0, height], "o-", label="a <b> & c")
    axes.legend()
    axes.imshow(np.eye(3))
    return drawn


def test_a_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    sections = [
        Section("Figures", [report.figure(drawing(1), "up"), report.figure(drawing(2), "higher", "With a caption")]),
        Section("Numbers", [report.table(["a"], [[1]], "Caption"), report.facts({"n": 814255})]),
        Section("Image", [report.image(b"\x89PNG", "nothing", "c", pixelated=True), report.verdict("equal", True)]),
    ]
    seen = Seen(report.page("Everything", sections, "In short."))
    assert seen.open == []
    assert seen.addresses
    assert all(address.startswith(("data:", "#")) for address in seen.addresses)
    assert len(seen.ids) == len(set(seen.ids))
    for text in ("Everything", "In short.", "With a caption", "814,255", "✓ equal", "a <b> & c"):
        assert text in seen.text


def test_what_is_given_as_text_is_text() -> None:
    evil = "<script>alert(1)</script>"
    sections = [
        Section(
            evil,
            [
                evil,
                report.table([evil], [[evil]], evil),
                report.facts({evil: evil}),
                report.verdict(evil, False),
                report.figure(drawing(1), evil, evil),
                report.image(b"", evil, evil),
            ],
        )
    ]
    page = report.page(evil, sections, evil)
    assert "<script" not in page
    assert Seen(page).text.count(evil) == 13


def test_numbers_are_aligned_and_readable() -> None:
    html = report.table(["hop", "n", "share"], [["ONNX", np.int64(12345), np.float32(0.792412345)], ["x", 7, "n/a"]])
    assert '<td class="number">12,345</td>' in html
    assert '<td class="number">0.7924</td>' in html
    assert '<td class="number">n/a</td>' in html
    assert '<td class="number">4.2%</td>' in report.table(["share"], [["4.2%"]])
    assert '<th scope="col" class="number">share</th>' in html
    assert '<td class="short">ONNX</td>' in html


def test_a_figure_takes_the_pages_colours_and_is_the_same_each_time() -> None:
    html = report.figure(drawing(1), "up")
    assert "#000000" not in html
    assert "currentColor" in html
    assert "<?xml" not in html
    assert report.figure(drawing(1), "up") == html


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([3], ["2", "5"]),
        ([1, 1], ["1", "2"]),
        ([5.01, 9.9], ["5", "10", "20"]),
        ([0.0006, 0.007], ["0.0005", "0.001", "0.002", "0.005", "0.01"]),
        ([0.8, 2345], ["1", "10", "100", "1,000"]),
    ],
)
def test_a_logarithmic_axis_has_few_plain_numbers(values: list[float], ticks: list[str]) -> None:
    axes = Figure().subplots()
    report.log_scale(axes, "y", values)
    assert [label.get_text() for label in axes.get_yticklabels()] == ticks
    low, high = axes.get_ylim()
    assert low <= min(values) <= max(values) <= high


def test_settings_are_named_in_words() -> None:
    html = report.settings({"batch_size": 256, "amp": False, "image_size": [28, 28]}, ["dataset", "strokes"])
    assert re.findall(r"<td.*?>(.*?)</td>", html) == [
        *("dataset", "strokes", "batch size", "256", "amp", "off", "image size", "28 x 28"),
    ]
