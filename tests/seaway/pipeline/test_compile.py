"""The compiled IR against tests/golden. After an intended change: `make golden`."""

import dataclasses
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from kfp import local

from seaway.artifacts import model_repository
from seaway.pipeline import cluster, definitions

ROOT = Path(__file__).resolve().parents[3]


STAGES = ["preflight", "explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote"]


def parsed(path: Path) -> tuple[dict, dict]:
    """Returns the IR and its Kubernetes settings, with a placeholder for image tags, which depend on the code."""
    ir, platform = yaml.safe_load_all(re.sub(r":python3\.11-[0-9a-f]{12}", ":TAG", path.read_text()))
    return ir, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def compiled(target: Path, pipeline: str, *options: str) -> tuple[dict, dict]:
    command = [sys.executable, "-m", "seaway.cli.main", "compile", target, "--pipeline", pipeline, *options]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)
    return parsed(target)


@pytest.fixture(scope="module")
def golden() -> tuple[dict, dict]:
    return parsed(ROOT / "tests" / "golden" / "characters.yaml")


def tasks(ir: dict) -> dict:
    """Returns the stages, which are inside an exit handler."""
    return ir["components"]["comp-exit-handler-1"]["dag"]["tasks"]


@pytest.mark.parametrize("pipeline", ["characters", "ship"])
def test_the_ir_is_the_golden_one(pipeline: str, tmp_path: Path) -> None:
    assert compiled(tmp_path / "ir.yaml", pipeline) == parsed(ROOT / "tests" / "golden" / f"{pipeline}.yaml")


def test_the_order_of_the_stages(golden: tuple[dict, dict]) -> None:
    stages = tasks(golden[0])
    assert sorted(stages) == sorted(STAGES)
    upstream = {"preflight"}
    for previous, stage in pairwise(STAGES):
        assert previous in stages[stage]["dependentTasks"]
        assert set(stages[stage]["dependentTasks"]) <= upstream
        upstream.add(stage)


def test_tasks_that_use_the_model_repository_are_never_cached(golden: tuple[dict, dict]) -> None:
    cached = {name for name, task in tasks(golden[0]).items() if task["cachingOptions"].get("enableCache")}
    assert cached == {"explore", "train", "export", "convert", "validate"}


def test_only_stages_that_use_the_model_repository_mount_it_at_the_server_s_path(
    golden: tuple[dict, dict],
) -> None:
    ir, kubernetes = golden
    mounted = {
        name.removeprefix("exec-"): settings["pvcMount"]
        for name, settings in kubernetes.items()
        if "pvcMount" in settings
    }
    paths = {"repository", "work", "cache"}
    parameters = {
        name: ir["components"][f"comp-{name}"]["inputDefinitions"].get("parameters", {}) for name in tasks(ir)
    }
    assert mounted.keys() == {name for name, inputs in parameters.items() if paths & inputs.keys()}
    assert {(mount["constant"], mount["mountPath"]) for [mount] in mounted.values()} == {("seaway-models", "/models")}
    deployment = yaml.safe_load((ROOT / "manifests/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    [models] = [one for one in deployment["containers"][0]["volumeMounts"] if one["name"] == "models"]
    assert models == {"name": "models", "mountPath": "/models", "readOnly": True}, "the claim's root, at the same path"
    defaults = ir["root"]["inputDefinitions"]["parameters"]
    assert defaults["repository"]["defaultValue"] == "/models"
    for name in ("work", "cache"):
        folder = Path(defaults[name]["defaultValue"])
        assert folder.parent == Path("/models")
        assert not model_repository.NAME.fullmatch(folder.name), "else it would be a model"


def test_all_stages_come_after_preflight_which_mounts_no_claim(tmp_path: Path) -> None:
    for pipeline, serving in (("characters", True), ("ship", False)):
        ir, kubernetes = compiled(tmp_path / "ir.yaml", pipeline, "--claim", "team-models")
        stages = tasks(ir)
        assert {name for name, task in stages.items() if "preflight" in task.get("dependentTasks", [])} == {
            *stages.keys() - {"preflight"}
        }
        assert "pvcMount" not in kubernetes["exec-preflight"], "it would wait for a missing claim"
        inputs = stages["preflight"]["inputs"]["parameters"]
        assert inputs["claim"] == {"runtimeValue": {"constant": "team-models"}}
        assert inputs["serving"] == {"runtimeValue": {"constant": serving}}


def test_the_stages_act_in_the_namespace_that_preflight_returns(golden: tuple[dict, dict]) -> None:
    ir = golden[0]
    assert ir["root"]["inputDefinitions"]["parameters"]["namespace"]["defaultValue"] == "", "the run's own"
    with_parameters = {name: task for name, task in tasks(ir).items() if "parameters" in task.get("inputs", {})}
    namespaces = {name: task["inputs"]["parameters"].get("namespace") for name, task in with_parameters.items()}
    from_preflight = {"taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "preflight"}}
    assert {name: one for name, one in namespaces.items() if one} == {
        "preflight": {"componentInputParameter": "pipelinechannel--namespace"},
        "deploy": from_preflight,
        "promote": from_preflight,
    }


def test_every_stage_has_a_timeout(golden: tuple[dict, dict]) -> None:
    timeouts_s = {name: int(settings["activeDeadlineSeconds"]) for name, settings in golden[1].items()}
    assert 0 < min(timeouts_s.values()) <= 900
    assert max(timeouts_s, key=lambda name: timeouts_s[name]) == "exec-train"
    assert timeouts_s["exec-load"] > 5 * 3600, "`seaway run` allows an hour on each protocol"


def test_the_run_summary_always_runs(golden: tuple[dict, dict]) -> None:
    outer = golden[0]["root"]["dag"]["tasks"]
    assert outer.keys() == {"exit-handler-1", "run-summary"}
    assert outer["run-summary"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert outer["run-summary"]["dependentTasks"] == ["exit-handler-1"]
    assert not outer["run-summary"]["cachingOptions"].get("enableCache")


@pytest.mark.filterwarnings("ignore:Task .* have no effect in the current local runner:UserWarning")
def test_the_run_summary_runs_after_a_failed_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = dataclasses.replace(cluster.STAGE_RESOURCES["explore"], retries=0)  # kfp.local would wait between retries
    monkeypatch.setitem(cluster.STAGE_RESOURCES, "explore", once)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    with pytest.raises(RuntimeError, match=r"explore.* inside .*exit-handler-1"):
        cluster.pipeline(definitions.pipeline("characters"))(source="nonsense", cache=str(tmp_path))
    [report] = tmp_path.glob("*/run-summary/report")
    assert ": failed\n" in report.read_text()


def test_every_stage_runs_as_the_image_s_user_within_limits(golden: tuple[dict, dict]) -> None:
    ir, kubernetes = golden
    executors = ir["deploymentSpec"]["executors"]
    assert kubernetes.keys() == executors.keys()
    user = {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
    for name, settings in kubernetes.items():
        assert (settings["securityContext"], settings["imagePullPolicy"]) == (user, "IfNotPresent"), name
        resources = executors[name]["container"]["resources"]
        for what in ("cpu", "memory"):
            assert 0 < resources[f"{what}Request"] <= resources[f"{what}Limit"], name
    called = {name for name, settings in kubernetes.items() if "podMetadata" in settings}
    assert called == {"exec-deploy", "exec-load"}
    policy = yaml.safe_load((ROOT / "manifests/base/networkpolicy.yaml").read_text())["spec"]["ingress"][0]["from"]
    for name in called:
        assert kubernetes[name]["podMetadata"]["labels"] == policy[0]["podSelector"]["matchLabels"]


def test_all_stages_but_load_are_retried(golden: tuple[dict, dict]) -> None:
    assert {name for name, task in tasks(golden[0]).items() if "retryPolicy" not in task} == {"load"}


def test_another_registry_and_another_claim(golden: tuple[dict, dict], tmp_path: Path) -> None:
    options = ["--registry", "ghcr.io/example/seaway/", "--claim", "team-models"]
    ir, kubernetes = compiled(tmp_path / "ir.yaml", "characters", *options)
    default = golden[0]["deploymentSpec"]["executors"]
    for name, executor in ir["deploymentSpec"]["executors"].items():
        image = default[name]["container"]["image"]
        assert executor["container"]["image"] == f"ghcr.io/example/{image}"
    assert {mount["constant"] for settings in kubernetes.values() for mount in settings.get("pvcMount", [])} == {
        "team-models"
    }


def test_importing_the_specs_loads_no_framework() -> None:
    program = (
        "import sys, pipelines.characters, pipelines.ship, seaway.pipeline.local, seaway.cli.main\n"
        "heavy = {'torch', 'tensorflow', 'onnx', 'onnxruntime', 'locust', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=120)


def test_a_tls_secret_is_mounted_in_the_stages_that_call_a_server(tmp_path: Path) -> None:
    ir, kubernetes = compiled(tmp_path / "ir.yaml", "characters", "--tls-secret", "client-tls")
    mounted = {
        name: settings["secretAsVolume"] for name, settings in kubernetes.items() if "secretAsVolume" in settings
    }
    assert mounted.keys() == {"exec-deploy", "exec-load"}
    for [volume] in mounted.values():
        assert (volume["secretName"], volume["mountPath"], volume["optional"]) == (
            "client-tls",
            cluster.TLS_PATH,
            False,
        )
    assert ir["root"]["inputDefinitions"]["parameters"]["tls"]["defaultValue"] == cluster.TLS_PATH
    for stage in ("deploy", "load"):
        assert tasks(ir)[stage]["inputs"]["parameters"]["tls"] == {"componentInputParameter": "pipelinechannel--tls"}
    assert compiled(tmp_path / "ship.yaml", "ship", "--tls-secret", "client-tls")[1].keys() == {
        f"exec-{name}" for name in ("preflight", "export-model", "convert", "validate", "publish", "run-summary")
    }, "it has no such stage"


def test_without_a_tls_secret_none_is_mounted(tmp_path: Path) -> None:
    ir, kubernetes = compiled(tmp_path / "ir.yaml", "characters")
    assert not any("secretAsVolume" in settings for settings in kubernetes.values())
    assert ir["root"]["inputDefinitions"]["parameters"]["tls"]["defaultValue"] == ""
