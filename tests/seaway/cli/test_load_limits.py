"""A load test that its stage would refuse is refused at the start of a run, which would get there hours later."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seaway.cli.submit import submit
from seaway.errors import InvalidInput, Unavailable

ROOT = Path(__file__).resolve().parents[3]
NOBODY = "http://127.0.0.1:1"  # whom submit would ask if there were nothing to refuse
UNREACHABLE = (
    "limit rate=101 cannot be reached: a rate of 100, shape constant, asks 100 requests a second on average; "
    "raise it or lower the limit"
)
OWN = """
from kfp import dsl

@dsl.component(base_image="python:3.11")
def say(text: str) -> str:
    return text

@dsl.pipeline
def mine(load_limits: str = "none"):
    say(text=load_limits)
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--limit", "rate=101", "--load-rate", "100"], UNREACHABLE),
        (["--param", 'load_limits={"p98_ms": "50"}'], "limits: no limit 'p98_ms'; there are failed, wrong, p50_ms, "),
    ],
)
def test_a_run_does_not_begin(tmp_path: Path, options: list[str], said: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", "run", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"seaway: {said}")


@pytest.mark.parametrize(
    ("limits", "rate", "said"),
    [
        ('{"rate": "101"}', 100, UNREACHABLE),
        ('{"p98_ms": 5}', 0, "limits: no limit 'p98_ms'; there are failed, wrong, p50_ms, "),
        ('{"p99_ms": "soon"}', 0, "limits: p99_ms is 'soon': give a number from 0 up, or a share like 1%"),
        ('{"slower": "20%"}', 0, "limit slower=0.2 needs a rate"),
        ("{}", -1, "--rate must be above 0"),
    ],
)
def test_nothing_is_submitted(limits: str, rate: float, said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)):
        submit(host=NOBODY, param=[f"load_limits={limits}", f"load_rate={rate}"])


@pytest.mark.parametrize("own", [True, False])
def test_what_nothing_is_wrong_with_is_submitted(tmp_path: Path, own: bool) -> None:
    """Of a pipeline with other parameters for its load test nothing can be said."""
    (tmp_path / "mine.py").write_text(OWN)
    given: dict[str, Any] = {"param": ['load_limits={"rate": 99}', "load_rate=100"]}
    if own:
        given = {"pipeline": str(tmp_path / "mine.py"), "param": ["load_limits=p98_ms"]}
    with pytest.raises(Unavailable, match=re.escape(NOBODY)):
        submit(host=NOBODY, preflight=False, **given)
