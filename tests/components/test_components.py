"""Every component's function, called by KFP's own executor with what a real driver hands over.

A driver names no schema for an input artifact, so the executor instantiates the parameter's annotation; kfp.local
always names one, so a local run never sees an annotation that cannot be instantiated.
"""

import copy
import inspect
import json
from pathlib import Path
from typing import Any, Optional

import pytest
from kfp import dsl
from kfp.dsl.executor import Executor, create_artifact_instance
from kfp.dsl.python_component import PythonComponent

from seaway.pipeline import definitions

ROOT = Path(__file__).resolve().parents[2]
RECORDED = json.loads((ROOT / "tests/conformance/kubeflow/executor_inputs.json").read_text())
FOLDERS = sorted(path.parent.name for path in ROOT.glob("components/*/component.py"))
MODULES = [definitions.component_module(folder) for folder in FOLDERS]
COMPONENTS = {
    value.name: value for module in MODULES for value in vars(module).values() if isinstance(value, PythonComponent)
}
[HANDED_OVER] = {
    json.dumps(artifact["artifacts"][0]["type"])
    for one in RECORDED
    for artifact in one["executor_input"]["inputs"].get("artifacts", {}).values()
}
NOT_RECORDED = {"export-model", "preflight"}  # of `ship`; newer than the recording


def called(component: PythonComponent, executor_input: dict[str, Any]) -> dict[str, Any]:
    """The arguments with which KFP's executor calls the component's function, whose work is left out."""
    given: dict[str, Any] = {}
    signature = inspect.signature(component.python_func)

    def stand_in(**arguments: Any) -> object:
        given.update(arguments)
        return None if signature.return_annotation is None else signature.return_annotation(7)

    stand_in.__signature__ = signature  # type: ignore[attr-defined]
    stand_in.__annotations__ = component.python_func.__annotations__
    Executor(executor_input, stand_in).execute()
    signature.bind(**given)
    return given


def moved(value: Any, folder: Path) -> Any:
    """A recorded value with the object store's bucket, and where pods have it, in a folder."""
    text = json.dumps(value).replace("/minio/mlpipeline", str(folder)).replace("minio://mlpipeline", str(folder))
    return json.loads(text.replace("/tmp/kfp", f"{folder}/kfp"))


@pytest.mark.parametrize("one", RECORDED, ids=lambda one: f"{one['stage']}-{one['run'][:4]}")
def test_every_stage_is_called_with_what_a_real_driver_handed_over(one: dict[str, Any], tmp_path: Path) -> None:
    told = moved(one["executor_input"], tmp_path)
    component = COMPONENTS[one["stage"]]
    given = called(component, told)
    for name, artifacts in told["inputs"].get("artifacts", {}).items():
        [recorded] = artifacts["artifacts"]
        assert (given[name].uri, given[name].metadata) == (recorded["uri"], recorded["metadata"])
        assert isinstance(given[name], dsl.Artifact)
    parameters = {key: given[key] for key in told["inputs"].get("parameterValues", {}) if key != "status"}
    assert parameters == {key: told["inputs"]["parameterValues"][key] for key in parameters}
    assert Path(told["outputs"]["outputFile"]).is_file()


def test_all_stages_are_recorded_but_those_that_are_named() -> None:
    assert COMPONENTS.keys() - {one["stage"] for one in RECORDED} == NOT_RECORDED


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_every_artifact_s_annotation_can_be_instantiated(name: str) -> None:
    component = COMPONENTS[name]
    inputs, outputs = component.component_spec.inputs or {}, component.component_spec.outputs or {}
    artifacts = [key for key, one in (inputs | outputs).items() if str(one.type).startswith("system.")]
    for key in artifacts:
        annotation = component.python_func.__annotations__[key]
        assert isinstance(create_artifact_instance({"type": json.loads(HANDED_OVER)}, annotation), dsl.Artifact), key


def test_the_call_sees_an_annotation_that_cannot_be_instantiated(tmp_path: Path) -> None:
    recorded = next(one for one in RECORDED if one["stage"] == "validate")

    def validate(
        onnx: dsl.Input[dsl.Model],
        saved_model: dsl.Input[dsl.Model],
        parity: dsl.Output[dsl.Artifact],
        metrics: dsl.Output[dsl.Metrics],
        report: dsl.Output[dsl.HTML],
        dataset: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
    ) -> None:
        pass

    broken = copy.copy(COMPONENTS["validate"])
    broken.python_func = validate
    with pytest.raises(TypeError, match="Cannot instantiate"):
        called(broken, moved(recorded["executor_input"], tmp_path))


def test_a_driver_names_no_schema_of_what_goes_in() -> None:
    assert json.loads(HANDED_OVER) == {"instanceSchema": ""}
