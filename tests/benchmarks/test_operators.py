"""The differential test of operators sees a wrong rule, and blames the one whose fault it is."""

import numpy as np
import pytest
import torch

from benchmarks.operators import harness, render, values
from benchmarks.operators.cases import cases
from benchmarks.operators.harness import CANNOT, DIFFERS, SAME, Calls, Measured, Outcome
from seaway.export import symbolics


def outcome(names: tuple[str, ...], function, dtype: str) -> Outcome:
    module = Calls(function).eval()
    model = harness.trace(module, values.inputs(names, dtype, values.ORDINARY, harness.EXAMPLE_BATCH))
    runs = list(harness.expected(module, names, dtype))
    assert {kind for kind, *_ in runs} == set(values.kinds(dtype))
    return harness.compare_all(harness.run_onnx(model), runs, harness.reference(model))


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_rule_is_seen_and_the_right_one_is_not(monkeypatch):
    def floor_divide(x, d):
        return x // d

    assert outcome(("x", "d"), floor_divide, "int64").status == SAME
    monkeypatch.setattr(symbolics, "_FUNCTIONS", {})
    wrong = outcome(("x", "d"), floor_divide, "int64")
    assert wrong.status == DIFFERS and values.ORDINARY in wrong.kinds and wrong.blame == []
    assert ", not " in wrong.kinds[values.ORDINARY]


@pytest.mark.filterwarnings("ignore")
def test_what_the_file_does_not_cause_is_onnx_runtimes():
    wrong = outcome(("x",), lambda x: x.amax(1), "float32")
    assert list(wrong.kinds) == ["NaN"] and wrong.blame == ["NaN"]


@pytest.mark.parametrize(
    ("actual", "right", "difference"),
    [
        ([1.0, np.nan, np.inf, 0.0], [1.0, np.nan, np.inf, -0.0], ""),
        ([1.00001], [1.0], ""),
        ([1.01], [1.0], "x 7: 1, not 1.01"),
        ([0.0], [np.nan], "x 7: nan, not 0"),
        ([3.4e38], [np.inf], "x 7: inf, not 3.4e+38"),
        ([1], [1.0], "int64 instead of float32"),
        ([1.0, 2.0], [1.0], "shape [2] instead of [1]"),
        ([2], [3], "x 7: 3, not 2"),
        ([True], [False], "x 7: False, not True"),
    ],
)
def test_differences_in_words(actual, right, difference):
    arrays = [np.array(a) if np.array(a).dtype != np.float64 else np.array(a, np.float32) for a in (actual, right)]
    assert harness.differs(*arrays, {"x": np.full(1, 7)}) == difference


def test_seaway_ships_the_first_file_that_is_right_on_ordinary_numbers():
    right, wrong, subtly = Outcome(), Outcome(DIFFERS, kinds={values.ORDINARY: ""}), Outcome(DIFFERS, kinds={"NaN": ""})
    for program, tracing, ships in (
        (right, right, "dynamo"),
        (wrong, right, "torchscript"),
        (subtly, right, "dynamo"),
        (Outcome(CANNOT), subtly, "torchscript"),
        (Outcome(CANNOT), wrong, ""),
    ):
        assert harness.ships({"torchscript": tracing, "dynamo": program}) == ships


@pytest.mark.filterwarnings("ignore")  # about unusual arguments
def test_every_operator_is_declared_once_and_runs_in_pytorch():
    declared = cases()
    assert len({case.name for case in declared}) == len(declared)
    for case in declared:
        dtype = case.dtypes[0] or "int64"
        module = Calls(case.make()).eval()
        inputs = values.inputs(case.names, dtype, values.ORDINARY, 2)
        with torch.no_grad():
            assert isinstance(module(*map(torch.from_numpy, inputs.values())), torch.Tensor), case.name


def test_the_document_names_what_differs():
    same, differs = Outcome(), Outcome(DIFFERS, kinds={"NaN": "x nan: 0, not 1"}, blame=["NaN"])
    results = [
        Measured("x + y", "float32", {"torchscript": same, "dynamo": same}, same),
        Measured("x | y", "bool", {"torchscript": differs, "dynamo": Outcome(CANNOT, "x. y")}),
    ]
    document = render.document(results)
    assert "The same everywhere: `x + y`" in document
    assert "| `x \\| y` | bool | differs on NaN (ONNX Runtime): x nan: 0, not 1 | no: x |" in document
