"""A good canary becomes stable; a slow one and a wrong one do not; kubectl always shows what is served."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onkind import (
    CANARY,
    CONTEXT,
    EXAMPLE,
    HOST,
    MODEL,
    NAMESPACE,
    ROOT,
    answered_by,
    found,
    kubectl,
    publish,
    rolled_out,
    seaway,
    serving,
    serving_pods,
    until,
)

from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.kube import rollout

pytestmark = pytest.mark.timeout(900)
STARVED_CPU = "40m"


def measure(repository: Path, version: int, folder: Path, *more: object) -> str:
    """Runs the load stage against the canary, as the pipeline does."""
    options = ["--url", CANARY, "--model-repository", repository, "--name", MODEL, "--version", version]
    options += ["--evidence", folder]
    options += ["--duration-s", 3, "--protocol", "tfs", "--protocol", "graphpipe", "--baseline", HOST, *more]
    command = [sys.executable, "-m", "seaway.load", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def promote(repository: Path, version: int) -> subprocess.CompletedProcess[str]:
    options = ("--model-repository", repository, "--namespace", NAMESPACE, "--context", CONTEXT)
    return seaway("promote", "--name", MODEL, "--version", version, *options)


def deploy(repository: Path, version: int) -> None:
    """Deploys until the canary responds at its URL, a moment after its pod is ready, when kube-proxy knows it."""
    options = ("--url", CANARY, "--model-repository", repository)
    done = seaway("deploy", "--name", MODEL, "--version", version, "--context", CONTEXT, *options)
    assert done.returncode == 0, done.stderr


def test_a_good_canary_is_promoted_and_a_slow_and_a_wrong_one_are_not(
    stack: str, cluster: Path, tmp_path: Path
) -> None:
    good = publish(cluster)
    refused = promote(cluster, good)
    assert (refused.returncode, "no evidence for" in refused.stderr) == (1, True)
    deploy(cluster, good)
    measure(cluster, good, tmp_path / "good")
    done = promote(cluster, good)
    assert done.returncode == 0, done.stderr
    assert answered_by(stack, "tfs", "graphpipe") == {f"{MODEL}/{good}"}
    assert serving("seaway")[rollout.VERSION] == str(good)
    assert model_repository.labels(cluster, MODEL)["stable"] == good
    assert kubectl("get", "pods", "-l", "seaway.dev/track=canary", "-o", "name") == "", "the canary was scaled down"

    wrong = model_repository.publish(cluster, MODEL, other_outputs)
    refused = seaway("deploy", "--version", wrong, "--context", CONTEXT, "--timeout", 40)
    assert (refused.returncode, "golden examples: output" in refused.stderr) == (1, True), (
        "the canary never becomes ready"
    )
    assert promote(cluster, wrong).returncode == 1

    slow = publish(cluster)
    deploy(cluster, slow)
    starve("canary")
    (tmp_path / "limits.yaml").write_text("slower: 20%\np50_ms: 5000\n")
    limits = ("--rate", 30, "--limits", tmp_path / "limits.yaml")
    output = measure(cluster, slow, tmp_path / "slow", *limits)
    assert "against the baseline: fail" in output or "against the baseline: inconclusive" in output
    refused = promote(cluster, slow)
    assert (refused.returncode, "against the baseline is" in refused.stderr) == (1, True), output

    assert answered_by(stack, "tfs", "graphpipe") == {f"{MODEL}/{good}"}, "no label moved"
    assert serving("seaway")[rollout.VERSION] == str(good)
    assert model_repository.labels(cluster, MODEL)["stable"] == good


def test_stage_and_verb_have_the_same_effect_and_every_place_names_the_same_version(
    stack: str, cluster: Path, tmp_path: Path
) -> None:
    by_verb, by_stage = publish(cluster), publish(cluster)  # same content, so evidence for one is for both
    deploy(cluster, by_verb)
    check(cluster, "canary", by_verb)
    measure(cluster, by_verb, tmp_path / "good")
    done = promote(cluster, by_verb)
    assert done.returncode == 0, done.stderr
    check(cluster, "stable", by_verb)

    stage("deploy", cluster, "--version", by_stage, "--url", CANARY, "--timeout", 300)
    check(cluster, "canary", by_stage)
    stage("promote", cluster, "--version", by_stage)
    check(cluster, "stable", by_stage)
    assert found("deployment", "seaway-canary")["spec"]["replicas"] == 0

    for _ in range(2):  # the second time changes nothing
        done = seaway("rollback", "--context", CONTEXT, "--model-repository", cluster)
        assert done.returncode == 0, done.stderr
        check(cluster, "stable", by_verb)
    stage("promote", cluster, "--rollback", "--version", 1)
    check(cluster, "stable", 1)
    assert answered_by(stack, "tfs") == {f"{MODEL}/1"}

    kubectl("rollout", "undo", "deployment/seaway")
    rolled_out()
    shown = seaway("status", "--context", CONTEXT, "--model-repository", cluster)
    assert f"seaway serves {MODEL}/{by_verb}, but the label stable in {cluster} is on 1" in shown.stdout, shown.stdout
    done = seaway("rollback", "--context", CONTEXT, "--model-repository", cluster)
    assert done.returncode == 0, done.stderr
    check(cluster, "stable", by_verb)


def stage(name: str, repository: Path, *more: object) -> None:
    options = ["--model-repository", repository, "--name", MODEL, "--namespace", NAMESPACE, "--context", CONTEXT]
    command = [sys.executable, "-m", f"seaway.{name}", *map(str, (*options, *more))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr


def check(repository: Path, label: str, version: int) -> None:
    """Asserts that the Deployment, its digest and the model repository all name this version."""
    deployment = {"stable": "seaway", "canary": "seaway-canary"}[label]
    serves = f"{MODEL}/{version}@{model_repository.read_metadata(repository, MODEL, version).sha256}"
    resource = found("deployment", deployment)
    assert resource["spec"]["template"]["metadata"]["annotations"][rollout.SERVES] == serves
    assert resource["metadata"]["annotations"][rollout.CAUSE]
    assert serving(deployment)[rollout.VERSION] == str(version)
    assert json.loads((repository / MODEL / model_repository.LABELS).read_text())[label] == version
    assert f'version_labels {{ key: "{label}" value: {version} }}' in (repository / model_repository.CONFIG).read_text()


def starve(track: str) -> None:
    """Limits the track's running pod to less CPU than 30 requests/s take: 45m on a fast core, at 1.5 ms each."""
    [pod] = serving_pods(track)
    resources = {"requests": {"cpu": STARVED_CPU}, "limits": {"cpu": STARVED_CPU}}
    patch = json.dumps({"spec": {"containers": [{"name": "server", "resources": resources}]}})
    kubectl("patch", "pod", pod["metadata"]["name"], "--subresource=resize", "--patch", patch)

    def starved() -> bool:
        [pod] = serving_pods(track)
        [container] = pod["status"]["containerStatuses"]
        return container["resources"]["limits"]["cpu"] == STARVED_CPU

    until(starved, 60)


def other_outputs(folder: Path) -> None:
    """Fills the folder with the example, but with recorded outputs of another net: its classes are reversed."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    file = folder / model_repository.EXTRA / golden.GOLDEN
    recorded = golden.read(file)
    swapped = {name: np.ascontiguousarray(array[:, ::-1]) for name, array in recorded.outputs.items()}
    file.unlink()
    golden.write(file, golden.Golden(recorded.inputs, swapped))
    metadata = artifact_metadata.read(folder, model_repository.METADATA_FILE)
    artifact_metadata.write(folder, dataclasses.replace(metadata, sha256=""), at=model_repository.METADATA_FILE)
