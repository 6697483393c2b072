"""Parameters as a person types them, against what the pipelines declare."""

from pathlib import Path

import pytest
import yaml

from seaway.errors import InvalidInput
from seaway.pipeline.request import Compiled, arguments, stages

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CHARACTERS = Compiled(*yaml.safe_load_all((GOLDEN / "characters.yaml").read_text()))
SHIP = Compiled(*yaml.safe_load_all((GOLDEN / "ship.yaml").read_text()))
KINDS = {
    "flag": {"parameterType": "BOOLEAN", "isOptional": True},
    "shapes": {"parameterType": "LIST", "isOptional": True},
}


def test_values_get_the_type_that_is_declared() -> None:
    given = ["net=mlp", "epochs=2", "load_rate=20", 'load_limits={"p99_ms": "50"}', "fingerprint=a=b", "metrics="]
    assert arguments(CHARACTERS.inputs, given) == {
        "net": "mlp", "epochs": 2, "load_rate": 20, "load_limits": {"p99_ms": "50"}, "fingerprint": "a=b",
        "metrics": "",
    }  # fmt: skip
    assert arguments(KINDS, ["flag=true", 'shapes=["3x4"]']) == {"flag": True, "shapes": ["3x4"]}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("epochs", "give NAME=VALUE"),
        ("epoch=2", "the pipeline has no such parameter; did you mean epochs?"),
        ("xyzzy=2", "has no such parameter; there are baseline, cache, code, converter,"),
        ("epochs=two", "--param epochs=two: a whole number is wanted"),
        ("epochs=2.5", "a whole number is wanted"),
        ("epochs=true", "a whole number is wanted"),
        ("load_rate=NaN", "a number is wanted"),
        ("load_rate=1e", "a number is wanted"),
        ("load_limits=[1]", "an object is wanted as JSON"),
        ("load_limits=p99_ms=50", "an object is wanted as JSON"),
    ],
)
def test_what_cannot_be_a_value_is_told(given: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        arguments(CHARACTERS.inputs, [given])
    assert told in str(caught.value)


def test_what_has_no_default_is_asked_for() -> None:
    with pytest.raises(InvalidInput, match="the pipeline needs inputs, model: give --param inputs=VALUE"):
        arguments(SHIP.inputs, ["name=resnet"])
    whole = ["name=resnet", "model=python:torchvision.models:resnet18", 'inputs=["3x224x224"]']
    assert arguments(SHIP.inputs, whole)["inputs"] == ["3x224x224"]


def test_the_stages_of_an_ir_wherever_they_are() -> None:
    assert {"explore", "promote", "outcome"} < {*stages(CHARACTERS.spec)}
    assert "exit-handler-1" not in stages(CHARACTERS.spec)
    assert {*stages(SHIP.spec)} == {"preflight", "export-model", "convert", "validate", "publish", "outcome"}
    assert stages({}) == []
