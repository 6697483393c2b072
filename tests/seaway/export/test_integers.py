"""Golden integers: which range forward() accepts, and that a crash rules out only that integer."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seaway.artifacts import golden
from seaway.errors import ModelError
from seaway.export import calls, graph, integers, symbolics, trials
from seaway.export.export import export_model
from seaway.export.inputs import bind, parse, random_examples
from seaway.export.wrap import Wrapped

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
import kinds_of_nets
import shipped_nets

LEAST, GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def widened(net: torch.nn.Module, *inputs: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Ordinary examples, widened ones, and the summary of the search."""
    wrapped = Wrapped(net, bind(net, [parse(text) for text in inputs]), "softmax").eval()
    ordinary = random_examples(wrapped.inputs)
    return (ordinary, *integers.widen(wrapped, ordinary))


def test_a_net_without_integers_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials.Trials, "_start", lambda self: pytest.fail("a child was started"))
    ordinary, wider, tried = widened(shipped_nets.Small(), "4")
    assert wider is ordinary
    assert tried == {}


def test_arithmetic_accepts_the_whole_type() -> None:
    ordinary, wider, tried = widened(shipped_nets.WrapHours(), "minute:scalar:int64")
    minutes = wider["minute"]
    assert tried["accepted"] == {"minute": f"{LEAST} to {GREATEST}"}
    assert np.array_equal(minutes[:32], ordinary["minute"][:32])
    assert {LEAST, GREATEST, -1, 0, 1} <= set(minutes.tolist())
    assert ((minutes < 0) & (minutes > -100)).any()
    assert (minutes[(minutes < 0)] % 60 != 0).any()
    again = widened(shipped_nets.WrapHours(), "minute:scalar:int64")
    assert np.array_equal(again[1]["minute"], minutes)
    assert again[2] == tried


def test_each_column_has_its_embeddings_range() -> None:
    _, wider, tried = widened(shipped_nets.churn(), "numeric:6", "category:3:int64")
    assert tried["accepted"]["category"].startswith("0 to 6, 0 to 1, 0 to 29 (below: IndexError")
    assert wider["category"].min(axis=0).tolist() == [0, 0, 0]
    assert wider["category"].max(axis=0).tolist() == [6, 1, 29]


def test_indices_repeat() -> None:
    _, wider, tried = widened(shipped_nets.Collects(), "x:6", "place:6:int64")
    assert tried["accepted"]["place"].startswith("0 to 5 (below: ")
    assert any(len(set(row)) == 1 and row[0] == 5 for row in wider["place"].tolist())
    assert any(2 < len(set(row)) < 6 for row in wider["place"].tolist())


def test_integers_that_float32_rounds_coarsely_are_left_out() -> None:
    """They would widen the tolerance until it lets anything pass."""
    _, wider, tried = widened(shipped_nets.Linear(), "age:2:int64")
    assert "float32 rounds its outputs too coarsely" in tried["accepted"]["age"]
    assert wider["age"].min() < -20
    assert 20 < wider["age"].max() < 1e6


def test_a_crash_and_an_allocation_rule_out_only_that_integer() -> None:
    _, wider, tried = widened(shipped_nets.Perilous(), "n:scalar:int64")
    assert "below: crashes the process by signal 11" in tried["accepted"]["n"]
    assert "can't allocate memory" in tried["accepted"]["n"]
    assert wider["n"].min() == 0
    # Of 64 examples each may allocate its share, and take again what this process had freed before.
    assert 1000 < wider["n"].max() <= trials.MAX_GROWTH_BYTES // 4096


def test_a_hang_ends_the_search_for_that_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "EXAMPLE_TIMEOUT_S", 2.0)
    _, wider, tried = widened(shipped_nets.Hangs(), "n:scalar:int64")
    assert "above: takes longer than 2 s" in tried["accepted"]["n"]
    assert 500 < wider["n"].max() <= 1000


def test_nothing_is_tried_after_the_total_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "TOTAL_TIMEOUT_S", 0.0)
    ordinary, wider, tried = widened(shipped_nets.WrapHours(), "minute:scalar:int64")
    assert tried == {"accepted": {"minute": "0 and 1 only: not tried after 0 s of trials"}, "trials": 0, "examples": 0}
    assert np.array_equal(ordinary["minute"], wider["minute"])


def test_a_net_that_does_not_run_is_reported_before_integers_are_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"weights": None, "inputs": ["x:9", "n:scalar:int64"]}  # it takes 8 numbers
    with pytest.raises(ModelError, match=r"forward\(\) fails on x float32 \[1, 9\]"):
        export_model("python:shipped_nets:FramesLeft", tmp_path / "onnx", **arguments)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


def test_the_metadata_lists_what_was_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"weights": None, "inputs": ["x:8", "n:scalar:int64"]}
    metadata = export_model("python:shipped_nets:FramesLeft", tmp_path / "onnx", **arguments)  # type: ignore[arg-type]
    assert metadata.settings["integers"]["accepted"] == {"n": f"{LEAST} to {GREATEST}"}
    assert f"n: {LEAST} to {GREATEST}" in capsys.readouterr().out
    examples = golden.read(tmp_path / "onnx" / golden.GOLDEN)
    assert examples.inputs["n"].min() == LEAST
    assert np.isfinite(examples.outputs["output_0"]).all()


@pytest.mark.parametrize(
    ("net", "inputs", "says"),
    [
        ("WrapHours", ["minute:scalar:int64"], "the first of them for minute -"),
        ("FramesLeft", ["x:8", "n:scalar:int64"], "the first of them for n "),
        ("Collects", ["x:6", "place:6:int64"], "the first of them for place "),
    ],
)
def test_a_faulty_export_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: str, inputs: list[str], says: str
) -> None:
    """Without the functions of symbolics.py: integers 0 and 1 alone would let these nets pass."""
    monkeypatch.setattr(symbolics, "_FUNCTIONS", {})
    monkeypatch.setattr(graph, "OPSET", 15)
    with pytest.raises(ModelError, match=f"ONNX Runtime gives other output_0 than PyTorch.*{says}"):
        export_model(
            f"python:shipped_nets:{net}", tmp_path / "onnx", weights=None, inputs=inputs, exporter="torchscript"
        )


def test_a_net_that_takes_no_zeros_gets_ones() -> None:
    net = kinds_of_nets.packed().eval()
    wrapped = Wrapped(net, bind(net, [parse("ids:5:int64"), parse("lengths:scalar:int64")])).eval()
    ordinary = random_examples(wrapped.inputs)
    assert ordinary["lengths"].min() == 0
    assert set(calls.that_run(wrapped, ordinary)[0]["lengths"]) == {1}
    net = kinds_of_nets.sentence().eval()
    wrapped = Wrapped(net, bind(net, [parse("ids:5:int64")])).eval()
    ordinary = random_examples(wrapped.inputs)
    assert calls.that_run(wrapped, ordinary)[0] is ordinary
