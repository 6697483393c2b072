"""Tiny folders of IDX files, laid out and stored as EMNIST's are; and the faults of an HTML report in a browser."""

import gzip
import re
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def images(labels: Sequence[int], side: int = 28) -> np.ndarray:
    """Upright images that tell their label and their place, and are not their own transposition."""
    images = np.zeros((len(labels), side, side), np.uint8)
    for place, label in enumerate(labels):
        images[place, 3, 5:20] = label + 1
        images[place, 20, 3] = place + 1
    return images


@pytest.fixture
def write_idx(tmp_path: Path) -> Callable[..., Path]:
    """Writes one split: `write_idx("digits", train=[0, 1], test=[1], mapping={0: "0", 1: "1"})`."""

    def write(
        split: str,
        train: Sequence[int],
        test: Sequence[int],
        mapping: dict[int, str] | None = None,
        packed: bool = True,
        folder: Path = tmp_path / "idx",
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for part, labels in (("train", train), ("test", test)):
            stored = images(labels).transpose(0, 2, 1)
            for kind, array in (("images-idx3", stored), ("labels-idx1", np.array(labels, np.uint8))):
                content = idx_bytes(np.ascontiguousarray(array))
                name = f"emnist-{split}-{part}-{kind}-ubyte"
                (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
        if mapping:
            lines = [f"{label} {ord(character)}\n" for label, character in mapping.items()]
            (folder / f"emnist-{split}-mapping.txt").write_text("".join(lines))
        return folder

    return write


SIGNATURES = {"serving_default", "from_png"}  # names that may be shown as they are
CODE_IS_LITERAL = "document.querySelectorAll('code').forEach(code => code.remove())"
OPEN_ALL = "document.querySelectorAll('details').forEach(details => details.open = true)"


@pytest.fixture
def report_faults() -> Callable[..., list[str]]:
    """Faults of a report that its reader would see, as a list; skips the test without Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on PATH: install Debian's package chromium")

    def faults(report: Path, max_screens: float = float("inf")) -> list[str]:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(report.as_uri())
            screens = page.evaluate("document.documentElement.scrollHeight") / 800
            page.set_viewport_size({"width": 390, "height": 844})
            page.evaluate(OPEN_ALL)
            width = page.evaluate("document.documentElement.scrollWidth")
            environment = page.locator("section", has=page.get_by_role("heading", name="Environment")).inner_text()
            page.evaluate(CODE_IS_LITERAL)
            raw_keys = set(re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b", page.inner_text("body"))) - SIGNATURES
            browser.close()
        rows = ("date", "Seaway", "Python", "libraries", "CPUs", "command line")
        return [
            *([f"{screens:.1f} screens"] if screens > max_screens else []),
            *([f"{width} px wide on a screen of 390 px"] if width > 390 else []),
            *(
                f"no {row} in {environment}"
                for row in rows
                if not re.search(rf"^{row}\s+\S", environment, re.MULTILINE)
            ),
            *sorted(raw_keys),
        ]

    return faults
