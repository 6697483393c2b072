"""The compiled IR against tests/golden. After a wanted change: `make golden`."""

import dataclasses
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from kfp import local

from seaway.artifacts import store
from seaway.pipeline import cluster, definitions

ROOT = Path(__file__).resolve().parents[3]


STAGES = ["preflight", "explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote"]


def parsed(path: Path) -> tuple[dict, dict]:
    """The IR and what it asks of Kubernetes, with each image's tag (made from its code) replaced by a word."""
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
    """The stages, which an exit handler is around."""
    return ir["components"]["comp-exit-handler-1"]["dag"]["tasks"]


@pytest.mark.parametrize("pipeline", ["characters", "ship"])
def test_the_ir_is_the_golden_one(pipeline: str, tmp_path: Path) -> None:
    assert compiled(tmp_path / "ir.yaml", pipeline) == parsed(ROOT / "tests" / "golden" / f"{pipeline}.yaml")


def test_the_order_of_the_stages(golden: tuple[dict, dict]) -> None:
    found = tasks(golden[0])
    assert sorted(found) == sorted(STAGES)
    reached = {"preflight"}
    for before, stage in pairwise(STAGES):
        assert before in found[stage]["dependentTasks"]
        assert set(found[stage]["dependentTasks"]) <= reached
        reached.add(stage)


def test_tasks_that_touch_the_volume_are_never_cached(golden: tuple[dict, dict]) -> None:
    cached = {name for name, task in tasks(golden[0]).items() if task["cachingOptions"].get("enableCache")}
    assert cached == {"explore", "train", "export", "convert", "validate"}


def test_the_volume_is_where_the_server_has_it_and_with_those_stages_alone_that_use_it(
    golden: tuple[dict, dict],
) -> None:
    ir, kubernetes = golden
    mounted = {
        name.removeprefix("exec-"): asked["pvcMount"] for name, asked in kubernetes.items() if "pvcMount" in asked
    }
    paths = {"volume", "work", "cache"}
    given = {name: ir["components"][f"comp-{name}"]["inputDefinitions"].get("parameters", {}) for name in tasks(ir)}
    assert mounted.keys() == {name for name, inputs in given.items() if paths & inputs.keys()}
    assert {(mount["constant"], mount["mountPath"]) for [mount] in mounted.values()} == {("seaway-models", "/models")}
    deployment = yaml.safe_load((ROOT / "manifests/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    [models] = [one for one in deployment["containers"][0]["volumeMounts"] if one["name"] == "models"]
    assert models == {"name": "models", "mountPath": "/models", "readOnly": True}, "its root, at the same path"
    defaults = ir["root"]["inputDefinitions"]["parameters"]
    assert defaults["volume"]["defaultValue"] == "/models"
    for name in ("work", "cache"):
        folder = Path(defaults[name]["defaultValue"])
        assert folder.parent == Path("/models")
        assert not store.NAME.fullmatch(folder.name), "else it would be a model's"


def test_all_stages_come_after_a_check_that_needs_no_volume_and_is_never_left_out(tmp_path: Path) -> None:
    for pipeline, serving in (("characters", True), ("ship", False)):
        ir, kubernetes = compiled(tmp_path / "ir.yaml", pipeline, "--claim", "team-models")
        found = tasks(ir)
        assert {name for name, task in found.items() if "preflight" in task.get("dependentTasks", [])} == {
            *found.keys() - {"preflight"}
        }
        assert "pvcMount" not in kubernetes["exec-preflight"], "it would wait for a claim that is not there"
        told = found["preflight"]["inputs"]["parameters"]
        assert told["claim"] == {"runtimeValue": {"constant": "team-models"}}
        assert told["serving"] == {"runtimeValue": {"constant": serving}}


def test_the_stages_act_in_the_namespace_that_the_check_has_found(golden: tuple[dict, dict]) -> None:
    ir = golden[0]
    assert ir["root"]["inputDefinitions"]["parameters"]["namespace"]["defaultValue"] == "", "a run's own"
    found = {name: task["inputs"]["parameters"].get("namespace") for name, task in tasks(ir).items() if name != "export"
             and "parameters" in task.get("inputs", {})}  # fmt: skip
    from_preflight = {"taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "preflight"}}
    assert {name: one for name, one in found.items() if one} == {
        "preflight": {"componentInputParameter": "pipelinechannel--namespace"},
        "deploy": from_preflight,
        "promote": from_preflight,
    }


def test_no_stage_of_an_unattended_run_lasts_for_ever(golden: tuple[dict, dict]) -> None:
    seconds = {name: int(asked["activeDeadlineSeconds"]) for name, asked in golden[1].items()}
    assert 0 < min(seconds.values()) <= 900
    assert max(seconds, key=lambda name: seconds[name]) == "exec-train"
    assert seconds["exec-load"] > 5 * 3600, "an hour on each protocol, which `seaway run` allows"


def test_the_last_word_comes_whatever_became_of_the_stages(golden: tuple[dict, dict]) -> None:
    found = golden[0]["root"]["dag"]["tasks"]
    assert found.keys() == {"exit-handler-1", "outcome"}
    assert found["outcome"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert found["outcome"]["dependentTasks"] == ["exit-handler-1"]
    assert not found["outcome"]["cachingOptions"].get("enableCache")


@pytest.mark.filterwarnings("ignore:Task .* have no effect in the current local runner:UserWarning")
def test_the_cluster_s_pipeline_ends_with_it_where_a_stage_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = dataclasses.replace(cluster.NEEDS["explore"], retries=0)  # kfp.local waits as long as a cluster would
    monkeypatch.setitem(cluster.NEEDS, "explore", once)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    with pytest.raises(RuntimeError, match=r"explore.* inside .*exit-handler-1"):
        cluster.pipeline(definitions.pipeline("characters"))(source="nonsense", cache=str(tmp_path))
    [said] = tmp_path.glob("*/outcome/report")
    assert ": failed\n" in said.read_text()


def test_every_stage_runs_as_the_image_s_user_within_limits(golden: tuple[dict, dict]) -> None:
    ir, kubernetes = golden
    executors = ir["deploymentSpec"]["executors"]
    assert kubernetes.keys() == executors.keys()
    user = {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
    for name, asked in kubernetes.items():
        assert (asked["securityContext"], asked["imagePullPolicy"]) == (user, "IfNotPresent"), name
        resources = executors[name]["container"]["resources"]
        for what in ("cpu", "memory"):
            assert 0 < resources[f"{what}Request"] <= resources[f"{what}Limit"], name
    called = {name for name, asked in kubernetes.items() if "podMetadata" in asked}
    assert called == {"exec-deploy", "exec-load"}
    policy = yaml.safe_load((ROOT / "manifests/base/networkpolicy.yaml").read_text())["spec"]["ingress"][0]["from"]
    for name in called:
        assert kubernetes[name]["podMetadata"]["labels"] == policy[0]["podSelector"]["matchLabels"]


def test_all_but_the_measurement_may_be_tried_again(golden: tuple[dict, dict]) -> None:
    assert {name for name, task in tasks(golden[0]).items() if "retryPolicy" not in task} == {"load"}


def test_another_registry_and_another_claim(golden: tuple[dict, dict], tmp_path: Path) -> None:
    options = ["--registry", "ghcr.io/example/seaway/", "--claim", "team-models"]
    ir, kubernetes = compiled(tmp_path / "ir.yaml", "characters", *options)
    before = golden[0]["deploymentSpec"]["executors"]
    for name, executor in ir["deploymentSpec"]["executors"].items():
        usual = before[name]["container"]["image"]
        assert executor["container"]["image"] == f"ghcr.io/example/{usual}"
    assert {mount["constant"] for asked in kubernetes.values() for mount in asked.get("pvcMount", [])} == {
        "team-models"
    }


def test_importing_the_specs_loads_no_framework() -> None:
    program = (
        "import sys, pipelines.characters, pipelines.ship, seaway.pipeline.local, seaway.cli.main\n"
        "heavy = {'torch', 'tensorflow', 'onnx', 'onnxruntime', 'locust', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=120)
