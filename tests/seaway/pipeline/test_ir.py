"""The Pods that tests/e2e creates from the compiled IR: faithful to the IR, and valid in a restricted namespace."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kubernetes_validate
import pytest
import yaml

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("e2e", "manifests", "fixtures")]

import driver_inputs
import ir
from restricted import violations

from seaway.kube import run_diagnostics
from seaway.pipeline.compile import compile_pipeline

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = ir.Settings(id="0f1e2d3c-aaaa-bbbb-cccc-0123456789ab", service_account="runner", store="store")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "characters": {"epochs": 3},
    "ship": {"name": "net", "model": "python:torchvision.models:resnet18", "inputs": ["3x224x224"]},
}
RECORDED = driver_inputs.recorded()
ON_EXIT = "workflows.argoproj.io/on-exit"
each = pytest.mark.parametrize("pipeline", ARGUMENTS)


@cache
def walked(pipeline: str) -> tuple[list[dict], dict, dict]:
    """Returns the pods of a successful run, the IR and its Kubernetes settings.

    Each stage sets its name as metadata of its artifacts, and 7 for its output parameters.
    """
    pods = []

    def start(pod: dict[str, Any], output: str) -> str:
        pods.append(pod)
        outputs = executor_input(pod)["outputs"]
        assert outputs["outputFile"] == f"/minio/mlpipeline/{output}"
        said = [{"metadata": {"by": run_diagnostics.stage_name(pod)}}]
        made = {key: {"artifacts": said} for key in outputs.get("artifacts", {})}
        return json.dumps({"artifacts": made, "parameterValues": dict.fromkeys(outputs.get("parameters", {}), 7)})

    with TemporaryDirectory() as folder:
        file = Path(folder) / "ir.yaml"
        compile_pipeline(pipeline, file)
        ir.Run(file, ARGUMENTS[pipeline], SETTINGS, start).run()
        spec, platform = yaml.safe_load_all(file.read_text())
    return pods, spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def executor_input(pod: dict) -> dict:
    """Returns the input of KFP's executor."""
    [container] = pod["spec"]["containers"]
    args = container["args"]
    return json.loads(args[args.index("--executor_input") + 1])


@each
def test_every_executor_becomes_a_pod_as_the_ir_has_it(pipeline: str) -> None:
    pods, spec, kubernetes = walked(pipeline)
    executors = spec["deploymentSpec"]["executors"]
    assert {f"exec-{run_diagnostics.stage_name(pod)}" for pod in pods} == {*executors}
    for pod in pods:
        label = f"exec-{run_diagnostics.stage_name(pod)}"
        wanted, asked = executors[label]["container"], kubernetes[label]
        [container] = pod["spec"]["containers"]
        assert container["image"] == wanted["image"]
        assert container["command"] == [*ir.ARGOEXEC, *wanted["command"]], "no placeholder is in it"
        assert pod["spec"]["activeDeadlineSeconds"] == int(asked["activeDeadlineSeconds"])
        for bound in ("request", "limit"):
            wants = {what: wanted["resources"][f"resource{what.title()}{bound.title()}"] for what in ("cpu", "memory")}
            assert container["resources"][f"{bound}s"] == wants
        assert container["imagePullPolicy"] == asked["imagePullPolicy"]
        for key, value in asked["securityContext"].items():
            assert str(container["securityContext"][key]) == str(value)
        mounts = {(one["name"], one["mountPath"]) for one in container["volumeMounts"]}
        claims = {(one["constant"], one["mountPath"]) for one in asked.get("pvcMount", [])}
        assert mounts == claims | {("store", "/minio/mlpipeline")}
        labels = asked.get("podMetadata", {}).get("labels", {})
        backend = {
            "pipelines.kubeflow.org/v2_component": "true",
            "workflows.argoproj.io/workflow": f"seaway-{pipeline}-0f1e2",
        }
        assert pod["metadata"]["labels"] == labels | backend | {"pipeline/runid": SETTINGS.id}


@each
def test_every_pod_is_admitted_to_a_restricted_namespace(pipeline: str) -> None:
    for pod in walked(pipeline)[0]:
        kubernetes_validate.validate(pod, "1.34", strict=True)
        assert violations(pod["spec"]) == []
        assert "{{$" not in json.dumps(pod)


@each
def test_artifacts_and_parameters_between_the_stages(pipeline: str) -> None:
    pods, spec, _ = walked(pipeline)
    order = [run_diagnostics.stage_name(pod) for pod in pods]
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    for pod, name in zip(pods[:-1], order, strict=False):
        assert {*tasks[name].get("dependentTasks", [])} <= {*order[: order.index(name)]}
        for key, one in tasks[name]["inputs"].get("artifacts", {}).items():
            output = one["taskOutputArtifact"]
            [artifact] = executor_input(pod)["inputs"]["artifacts"][key]["artifacts"]
            assert artifact["metadata"]["by"] == output["producerTask"]
            made = executor_input(pods[order.index(output["producerTask"])])["outputs"]["artifacts"][
                output["outputArtifactKey"]
            ]
            assert artifact["uri"] == made["artifacts"][0]["uri"]
    last = executor_input(pods[-1])["inputs"]["parameterValues"]
    assert order[0] == "preflight"
    assert order[-1] == "run-summary"
    assert (last["run"], last["status"]["state"]) == (SETTINGS.id, "COMPLETE")


def form(value: Any, key: str = "") -> Any:
    """Returns the value without what differs between runs: identifiers, values of parameters, names of secrets."""
    if key == "parameterValues":
        return {name: sorted(one) if name == "status" else None for name, one in value.items()}
    if isinstance(value, dict):
        return {name: form(one, name) for name, one in value.items() if name != "by"}
    if isinstance(value, list):
        return [form(one, key) for one in value]
    if key == "store_session_info":
        return sorted(json.loads(value))
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", "NUMBER" if str(value).isdecimal() else value)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: f"{one['stage']}-{one['run'][:4]}")
def test_a_stage_gets_the_same_input_as_from_a_real_driver(recorded: dict[str, Any]) -> None:
    [pod] = [pod for pod in walked("characters")[0] if run_diagnostics.stage_name(pod) == recorded["stage"]]
    own = executor_input(pod)
    for parameter in driver_inputs.ADDED.get(recorded["stage"], ()):
        del own["inputs"]["parameterValues"][parameter]
    assert form(own) == form(recorded["executor_input"])
    [container] = pod["spec"]["containers"]
    assert {one["name"] for one in container["env"]} >= {*recorded["env"]}
    assert pod["metadata"]["labels"].keys() >= {
        label for label in recorded["labels"] if label not in ("workflows.argoproj.io/completed", ON_EXIT)
    }


def test_a_stage_has_argoexec_s_umask() -> None:
    said = subprocess.run([*ir.ARGOEXEC, "sh", "-c", 'umask; echo "$1"', "0", "a b"], capture_output=True, text=True)
    assert said.stdout == "0000\na b\n"


def test_parameters_are_arguments_defaults_and_what_a_stage_returned() -> None:
    values = {
        run_diagnostics.stage_name(pod): executor_input(pod)["inputs"].get("parameterValues")
        for pod in walked("characters")[0]
    }
    assert values["train"] == {
        "net": "cnn",
        "epochs": 3,
        "sampling": "none",
        "training": {},
        "seed": 0,
        "code": "",
        "work": "/models/.work",
    }
    assert values["deploy"]["url"] == "http://seaway-canary:8501"
    assert values["promote"]["version"] == 7
    whole = [values["train"]["epochs"], values["train"]["seed"], values["promote"]["version"]]
    assert {type(value) for value in whole} == {int}, "KFP's executor would pass on 7.0"


def test_kfp_s_executor_accepts_its_input(tmp_path: Path) -> None:
    """Without a cluster: after a failed stage only the run summary runs."""
    file = tmp_path / "ir.yaml"
    compile_pipeline("characters", file)
    started = []

    def start(pod: dict[str, Any], output: str) -> str:
        started.append(run_diagnostics.stage_name(pod))
        [container] = pod["spec"]["containers"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
        command = [*container["command"], *container["args"]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise ir.StageFailed(started[-1], done.stderr)
        return (tmp_path / output).read_text()

    settings = ir.Settings(SETTINGS.id, "runner", "store", bucket=str(tmp_path))
    run = ir.Run(file, {"source": "nonsense", "cache": str(tmp_path)}, settings, start)
    with pytest.raises(ir.StageFailed, match=r"(?s)explore: .*nonsense") as failed:
        run.run()
    assert (failed.value.stage, started) == ("explore", ["preflight", "explore", "run-summary"])
    [said] = tmp_path.glob(f"v2/artifacts/seaway-characters/{SETTINGS.id}/run-summary/*/report")
    assert said.read_text().startswith(f"# Run {SETTINGS.id}: failed\n")


def test_unsupported_settings_of_the_ir_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "ir.yaml"
    compile_pipeline("characters", file)
    spec, platform = yaml.safe_load_all(file.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors["exec-explore"]["nodeSelector"] = {"labels": {"disk": "fast"}}
    file.write_text(yaml.safe_dump_all([spec, platform]))
    run = ir.Run(file, {}, SETTINGS, lambda pod, output: "{}")
    with pytest.raises(NotImplementedError, match="KubernetesExecutorConfig's node_selector"):
        run.run()
