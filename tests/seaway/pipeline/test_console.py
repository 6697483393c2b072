"""Which output of a local run is shown, and which only goes to its log."""

import gc
import sys
from pathlib import Path

import pytest

from seaway.pipeline import console


def test_a_stage_s_own_output_is_shown_and_everything_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.tidy(tmp_path / "log"):
        shown = sys.stdout
        print("[KFP Executor 2026-11-29] Looking for component\n    3 images read")
    assert capsys.readouterr().out == "  3 images read\n"
    assert (tmp_path / "log").read_text() == "[KFP Executor 2026-11-29] Looking for component\n    3 images read\n"
    assert shown.closed
    del shown
    gc.collect()  # would fail the test with a warning if it still used its log
