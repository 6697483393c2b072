"""Calls every component's function through KFP's own executor with the input that a real driver passes.

A driver names no schema for an input artifact, so the executor instantiates the parameter's annotation. kfp.local
always names one, so a local run never meets an annotation that cannot be instantiated.
"""

import copy
import inspect
import json
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
from kfp import dsl
from kfp.dsl.executor import Executor, create_artifact_instance
from kfp.dsl.python_component import PythonComponent

sys.path.append(str(Path(__file__).resolve().parents[1] / "fixtures"))

import driver_inputs

from seaway.pipeline import definitions

ROOT = Path(__file__).resolve().parents[2]
RECORDED = driver_inputs.recorded()
FOLDERS = sorted(path.parent.name for path in ROOT.glob("components/*/component.py"))
MODULES = [definitions.component_module(folder) for folder in FOLDERS]
COMPONENTS = {
    value.name: value for module in MODULES for value in vars(module).values() if isinstance(value, PythonComponent)
}
[INPUT_TYPE] = {
    json.dumps(artifact["artifacts"][0]["type"])
    for recording in RECORDED
    for artifact in recording["executor_input"]["inputs"].get("artifacts", {}).values()
}
NOT_RECORDED = {"export-model", "preflight"}  # only in `ship`; newer than the recording


def call(component: PythonComponent, executor_input: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments with which KFP's executor calls the component's function, without running it."""
    received: dict[str, Any] = {}
    signature = inspect.signature(component.python_func)

    def stand_in(**arguments: Any) -> object:
        received.update(arguments)
        return None if signature.return_annotation is None else signature.return_annotation(7)

    stand_in.__signature__ = signature  # type: ignore[attr-defined]
    stand_in.__annotations__ = component.python_func.__annotations__
    Executor(executor_input, stand_in).execute()
    signature.bind(**received)
    return received


def moved(value: Any, folder: Path) -> Any:
    """Returns a recorded value with the object store's bucket, and its mount in pods, moved to a folder."""
    text = json.dumps(value).replace("/minio/mlpipeline", str(folder)).replace("minio://mlpipeline", str(folder))
    return json.loads(text.replace("/tmp/kfp", f"{folder}/kfp"))


@pytest.mark.parametrize("recording", RECORDED, ids=lambda recording: f"{recording['stage']}-{recording['run'][:4]}")
def test_every_stage_accepts_the_input_of_a_real_driver(recording: dict[str, Any], tmp_path: Path) -> None:
    executor_input = moved(recording["executor_input"], tmp_path)
    component = COMPONENTS[recording["stage"]]
    received = call(component, executor_input)
    for name, artifacts in executor_input["inputs"].get("artifacts", {}).items():
        [recorded] = artifacts["artifacts"]
        assert (received[name].uri, received[name].metadata) == (recorded["uri"], recorded["metadata"])
        assert isinstance(received[name], dsl.Artifact)
    parameters = {key: received[key] for key in executor_input["inputs"].get("parameterValues", {}) if key != "status"}
    assert parameters == {key: executor_input["inputs"]["parameterValues"][key] for key in parameters}
    assert Path(executor_input["outputs"]["outputFile"]).is_file()


def test_all_other_stages_are_recorded() -> None:
    assert COMPONENTS.keys() - {recording["stage"] for recording in RECORDED} == NOT_RECORDED


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_every_artifact_s_annotation_can_be_instantiated(name: str) -> None:
    component = COMPONENTS[name]
    inputs, outputs = component.component_spec.inputs or {}, component.component_spec.outputs or {}
    artifacts = [key for key, one in (inputs | outputs).items() if str(one.type).startswith("system.")]
    for key in artifacts:
        annotation = component.python_func.__annotations__[key]
        assert isinstance(create_artifact_instance({"type": json.loads(INPUT_TYPE)}, annotation), dsl.Artifact), key


def test_the_call_fails_for_an_annotation_that_cannot_be_instantiated(tmp_path: Path) -> None:
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
        call(broken, moved(recorded["executor_input"], tmp_path))


def test_a_driver_names_no_schema_for_input_artifacts() -> None:
    assert json.loads(INPUT_TYPE) == {"instanceSchema": ""}
