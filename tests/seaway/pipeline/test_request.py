"""Parameters as users type them, parsed by the pipelines' declarations."""

from pathlib import Path

import pytest
import yaml

from seaway.errors import InvalidInput
from seaway.pipeline.request import CompiledPipeline, arguments, stages

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CHARACTERS = CompiledPipeline(*yaml.safe_load_all((GOLDEN / "characters.yaml").read_text()))
SHIP = CompiledPipeline(*yaml.safe_load_all((GOLDEN / "ship.yaml").read_text()))
KINDS = {
    "flag": {"parameterType": "BOOLEAN", "isOptional": True},
    "shapes": {"parameterType": "LIST", "isOptional": True},
}


def test_values_get_the_declared_type() -> None:
    assignments = ["net=mlp", "epochs=2", "load_rate=20", 'load_limits={"p99_ms": "50"}', "fingerprint=a=b", "metrics="]
    assert arguments(CHARACTERS.inputs, assignments) == {
        "net": "mlp", "epochs": 2, "load_rate": 20, "load_limits": {"p99_ms": "50"}, "fingerprint": "a=b",
        "metrics": "",
    }  # fmt: skip
    assert arguments(KINDS, ["flag=true", 'shapes=["3x4"]']) == {"flag": True, "shapes": ["3x4"]}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "give NAME=VALUE"),
        ("epoch=2", "the pipeline has no such parameter; did you mean epochs?"),
        ("xyzzy=2", "has no such parameter; available: baseline, cache, code, converter,"),
        ("epochs=two", "--param epochs=two: expected an integer"),
        ("epochs=2.5", "expected an integer"),
        ("epochs=true", "expected an integer"),
        ("load_rate=NaN", "expected a number"),
        ("load_rate=1e", "expected a number"),
        ("load_limits=[1]", "expected a JSON object"),
        ("load_limits=p99_ms=50", "expected a JSON object"),
    ],
)
def test_invalid_assignments(assignment: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        arguments(CHARACTERS.inputs, [assignment])
    assert message in str(caught.value)


def test_parameters_without_default_are_required() -> None:
    with pytest.raises(InvalidInput, match="the pipeline needs model: give --param model=VALUE"):
        arguments(SHIP.inputs, ["name=resnet"])
    whole = ["name=resnet", "model=python:torchvision.models:resnet18", 'inputs=["3x224x224"]']
    assert arguments(SHIP.inputs, whole)["inputs"] == ["3x224x224"]


def test_the_stages_of_all_dags_of_an_ir() -> None:
    assert {"explore", "promote", "run-summary"} < {*stages(CHARACTERS.spec)}
    assert "exit-handler-1" not in stages(CHARACTERS.spec)
    assert {*stages(SHIP.spec)} == {"preflight", "export-model", "convert", "validate", "publish", "run-summary"}
    assert stages({}) == []
