"""A load test that the load stage would refuse is refused before a run starts, not hours later."""

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
NO_SERVER = "http://127.0.0.1:1"  # where submit would connect if there were nothing to refuse
UNREACHABLE = (
    "limit rate=101 cannot be reached: a rate of 100, shape constant, sends 100 requests per second on average; "
    "raise the rate or lower the limit"
)
OWN_PIPELINE = """
from kfp import dsl

@dsl.component(base_image="python:3.11")
def say(text: str) -> str:
    return text

@dsl.pipeline
def mine(load_limits: str = "none"):
    say(text=load_limits)
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "rate=101", "--load-rate", "100"], UNREACHABLE),
        (
            ["--param", 'load_limits={"p98_ms": "50"}'],
            "limits: unknown limit 'p98_ms'; choose from failed, wrong, p50_ms, ",
        ),
    ],
)
def test_a_run_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", "run", *options]
    completed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr.startswith(f"seaway: {message}")


@pytest.mark.parametrize(
    ("limits", "rate", "message"),
    [
        ('{"rate": "101"}', 100, UNREACHABLE),
        ('{"p98_ms": 5}', 0, "limits: unknown limit 'p98_ms'; choose from failed, wrong, p50_ms, "),
        ('{"p99_ms": "soon"}', 0, "limits: p99_ms='soon' must be a number of milliseconds, e.g. 50"),
        ('{"slower": "20%"}', 0, "limit slower=0.2 needs an open-loop load"),
        ("{}", -1, "--rate -1: must not be negative"),
    ],
)
def test_a_submission_is_refused(limits: str, rate: float, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        submit(host=NO_SERVER, param=[f"load_limits={limits}", f"load_rate={rate}"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (["url=grpc://seaway-canary:8500"], "grpc://seaway-canary:8500: a canary is deployed and tested over HTTP"),
        (
            ["grpc_url=seaway-canary:8500"],
            "'seaway-canary:8500' is not the address of a gRPC server; give one like grpc",
        ),
        (["grpc_url=http://seaway-canary:8501"], "'http://seaway-canary:8501' is not the address of a gRPC server"),
        (
            ['load_limits={"slower": "20%"}', "load_rate=20", "baseline=grpc://seaway:8500"],
            "the limit slower compares http://seaway-canary:8501 with the baseline grpc://seaway:8500, which does not",
        ),
        (
            ["grpc_url=grpcs://seaway-canary:8500", "tls=/models/.tls"],
            "http://seaway-canary:8501: no TLS there, so tls=/models/.tls would have no effect: give an https://",
        ),
    ],
)
def test_addresses_that_do_not_fit_are_refused(params: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        submit(host=NO_SERVER, param=params)


@pytest.mark.parametrize(
    "params",
    [
        ["grpc_url=grpc://seaway-canary:8500"],
        ["url=https://seaway-canary:8501", "grpc_url=grpcs://seaway-canary:8500", "tls=/models/.tls"],
        [
            *('load_limits={"slower": "20%"}', "load_rate=20", "baseline=grpc://seaway:8500"),
            "grpc_url=grpc://seaway-canary:8500",
        ],
    ],
)
def test_a_load_test_over_grpc_is_submitted(params: list[str]) -> None:
    with pytest.raises(Unavailable, match=re.escape(NO_SERVER)):
        submit(host=NO_SERVER, preflight=False, param=params)


@pytest.mark.parametrize("own", [True, False])
def test_a_valid_load_test_is_submitted(tmp_path: Path, own: bool) -> None:
    """As is a pipeline with other parameters for its load test, which cannot be checked."""
    (tmp_path / "mine.py").write_text(OWN_PIPELINE)
    arguments: dict[str, Any] = {"param": ['load_limits={"rate": 99}', "load_rate=100"]}
    if own:
        arguments = {"pipeline": str(tmp_path / "mine.py"), "param": ["load_limits=p98_ms"]}
    with pytest.raises(Unavailable, match=re.escape(NO_SERVER)):
        submit(host=NO_SERVER, preflight=False, **arguments)
