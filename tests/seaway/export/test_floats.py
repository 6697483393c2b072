"""Golden zeros, denormals, large numbers, infinities and NaN: which become examples, and what they find."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seaway.artifacts import golden
from seaway.errors import ModelError
from seaway.export import floats, symbolics
from seaway.export.export import export_model
from seaway.export.inputs import bind, parse, random_examples
from seaway.export.wrap import Wrapped

FIXTURES = str(Path(__file__).resolve().parents[2] / "fixtures")


class Calls(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)  # type: ignore[operator, no-any-return]


def finds_nan() -> nn.Module:
    return Calls(lambda x: F.hardshrink(x).isnan().float() + x.nan_to_num(0, 0, 0).tanh())


def widened(function: object, shape: str = "6", batch: bool = True) -> floats.Further:
    net = Calls(function)
    wrapped = Wrapped(net, bind(net, [parse(shape)], [], batch)).eval()
    return floats.widen(wrapped, random_examples(wrapped.inputs))


def test_what_the_net_lets_through_becomes_an_example() -> None:
    further = widened(lambda x: x.nan_to_num(0, 0, 0).clamp(-2, 2))
    assert further.said == "ordinary, zeros, denormals, large numbers, huge numbers, infinities, NaN"
    values = [example["x"][0] for example in further.accepted]
    tests = (
        lambda x: (x == 0).any(),
        lambda x: ((x != 0) & (np.abs(x) < np.finfo(np.float32).tiny)).any(),
        lambda x: (np.abs(x) == 1e4).any(),
        lambda x: (np.abs(x) > 1e20).any() and np.isfinite(x).all(),
        lambda x: np.isinf(x).any(),
        lambda x: np.isnan(x).any(),
    )
    assert [test(value) for test, value in zip(tests, values, strict=True)] == [True] * 6


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: x * 3, "without infinities, NaN: the outputs are not finite"),
        (lambda x: x.square().sum(1) * 1.7, "large numbers.*: their outputs are rounded too coarsely to compare"),
        (torch.sign, "without denormals: the outputs are not those of zeros"),
        (lambda x: x.argmax(1), "no float output that would show that they get through"),
    ],
)
def test_the_others_are_named_with_their_reason(function: object, says: str) -> None:
    further = widened(function)
    assert re.search(says, further.said)
    assert len(further.accepted) < len(floats.KINDS)
    assert further.unusual.keys() == {"infinities", "NaN"} - _accepted(further.said)


def _accepted(said: str) -> set[str]:
    return set(said.partition(" (")[0].split(", "))


def test_a_net_without_a_batch_gets_whole_calls() -> None:
    further = widened(lambda x: x.tanh(), batch=False)
    assert {example["x"].shape for example in (*further.accepted, *further.unusual.values())} == {(6,)}


def test_they_are_in_the_golden_file_and_the_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FIXTURES)
    metadata = export_model("python:kinds_of_nets:guarded", tmp_path / "onnx", weights=None, inputs=["6"])
    assert metadata.settings["floats"].endswith("infinities, NaN")
    examples = golden.read(tmp_path / "onnx" / golden.GOLDEN)
    (x,), (y,) = examples.inputs.values(), examples.outputs.values()
    assert np.isnan(x).any()
    np.testing.assert_array_equal(y[np.isnan(x)], np.float32(0.25))
    np.testing.assert_array_equal(y[x == np.inf], np.float32(1))
    assert np.isfinite(x[:2]).all(), "the first examples, by which the net is traced, are ordinary"


def test_an_export_that_is_wrong_only_for_nan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's tracing exporter makes 0 of hardshrink(NaN); here without symbolics.py, which corrects it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    options: dict = {"weights": None, "inputs": ["6"], "exporter": "torchscript"}
    export_model("python:test_floats:finds_nan", tmp_path / "right", **options)
    monkeypatch.setattr(symbolics, "_FUNCTIONS", {})
    with pytest.raises(ModelError, match=r"gives other output_0 than PyTorch.*, the first of them for x with NaN"):
        export_model("python:test_floats:finds_nan", tmp_path / "wrong", **options)
