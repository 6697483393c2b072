"""A good canary becomes stable; a slow one and a wrong one do not; what answers is always what kubectl shows."""

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

from seaway.artifacts import card as cards
from seaway.artifacts import golden, store
from seaway.kube import rollout

pytestmark = pytest.mark.timeout(900)


def measured(volume: Path, version: int, folder: Path, *more: object) -> str:
    """The load stage against the canary, as the pipeline runs it."""
    own = ["--url", CANARY, "--volume", volume, "--name", MODEL, "--version", version, "--evidence", folder]
    own += ["--seconds", 3, "--protocol", "tfs", "--protocol", "graphpipe", "--baseline", HOST, *more]
    command = [sys.executable, "-m", "seaway.load", *map(str, own)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def promote(volume: Path, version: int) -> subprocess.CompletedProcess[str]:
    return seaway("promote", "--version", version, "--volume", volume, "--namespace", NAMESPACE, "--context", CONTEXT)


def deploy(volume: Path, version: int) -> None:
    """Until it answers at its address, which kube-proxy makes known a moment after the pod is ready."""
    where = ("--url", CANARY, "--volume", volume)
    done = seaway("deploy", "--version", version, "--context", CONTEXT, *where)
    assert done.returncode == 0, done.stderr


def test_a_good_canary_is_promoted_and_a_slow_and_a_wrong_one_are_not(
    stack: str, cluster: Path, tmp_path: Path
) -> None:
    good = publish(cluster)
    refused = promote(cluster, good)
    assert (refused.returncode, "there is no evidence of" in refused.stderr) == (1, True)
    deploy(cluster, good)
    measured(cluster, good, tmp_path / "good")
    done = promote(cluster, good)
    assert done.returncode == 0, done.stderr
    assert answered_by(stack, "tfs", "graphpipe") == {f"{MODEL}/{good}"}
    assert serving("seaway")[rollout.VERSION] == str(good)
    assert store.labels(cluster, MODEL)["stable"] == good
    assert kubectl("get", "pods", "-l", "seaway.dev/track=canary", "-o", "name") == "", "the canary has ended"

    wrong = store.publish(cluster, MODEL, other_answers)
    refused = seaway("deploy", "--version", wrong, "--context", CONTEXT, "--timeout", 40)
    assert (refused.returncode, "golden examples wrongly" in refused.stderr) == (1, True), "it does not even come up"
    assert promote(cluster, wrong).returncode == 1

    slow = publish(cluster)
    deploy(cluster, slow)
    starve("canary")
    (tmp_path / "limits.yaml").write_text("slower: 20%\np50_ms: 5000\n")
    limits = ("--rate", 30, "--limits", tmp_path / "limits.yaml")
    said = measured(cluster, slow, tmp_path / "slow", *limits)
    assert "against the baseline: fail" in said or "against the baseline: inconclusive" in said
    refused = promote(cluster, slow)
    assert (refused.returncode, "against the baseline is" in refused.stderr) == (1, True), said

    assert answered_by(stack, "tfs", "graphpipe") == {f"{MODEL}/{good}"}, "nothing moved"
    assert serving("seaway")[rollout.VERSION] == str(good)
    assert store.labels(cluster, MODEL)["stable"] == good


def test_stage_and_verb_end_alike_and_every_place_names_the_same_version(
    stack: str, cluster: Path, tmp_path: Path
) -> None:
    by_verb, by_stage = publish(cluster), publish(cluster)  # of the same content: evidence of one is of both
    deploy(cluster, by_verb)
    check(cluster, "canary", by_verb)
    measured(cluster, by_verb, tmp_path / "good")
    done = promote(cluster, by_verb)
    assert done.returncode == 0, done.stderr
    check(cluster, "stable", by_verb)

    stage("deploy", cluster, "--version", by_stage, "--url", CANARY, "--timeout", 300)
    check(cluster, "canary", by_stage)
    stage("promote", cluster, "--version", by_stage)
    check(cluster, "stable", by_stage)
    assert found("deployment", "seaway-canary")["spec"]["replicas"] == 0

    for _ in range(2):  # the second time there is nothing left to do
        done = seaway("rollback", "--context", CONTEXT, "--volume", cluster)
        assert done.returncode == 0, done.stderr
        check(cluster, "stable", by_verb)
    stage("promote", cluster, "--rollback", "--version", 1)
    check(cluster, "stable", 1)
    assert answered_by(stack, "tfs") == {f"{MODEL}/1"}

    kubectl("rollout", "undo", "deployment/seaway")
    rolled_out()
    shown = seaway("status", "--context", CONTEXT, "--volume", cluster)
    assert f"seaway serves {MODEL}/{by_verb}, but the label stable in {cluster} is on 1" in shown.stdout, shown.stdout
    done = seaway("rollback", "--context", CONTEXT, "--volume", cluster)
    assert done.returncode == 0, done.stderr
    check(cluster, "stable", by_verb)


def stage(name: str, volume: Path, *more: object) -> None:
    own = ["--volume", volume, "--name", MODEL, "--namespace", NAMESPACE, "--context", CONTEXT]
    command = [sys.executable, "-m", f"seaway.{name}", *map(str, (*own, *more))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr


def check(volume: Path, label: str, version: int) -> None:
    """Everything that says which version this is says this one: the Deployment, its digest, the volume."""
    deployment = {"stable": "seaway", "canary": "seaway-canary"}[label]
    serves = f"{MODEL}/{version}@{store.read_card(volume, MODEL, version).sha256}"
    raw = found("deployment", deployment)
    assert raw["spec"]["template"]["metadata"]["annotations"][rollout.SERVES] == serves
    assert raw["metadata"]["annotations"][rollout.CAUSE]
    assert serving(deployment)[rollout.VERSION] == str(version)
    assert json.loads((volume / MODEL / store.LABELS).read_text())[label] == version
    assert f'version_labels {{ key: "{label}" value: {version} }}' in (volume / store.CONFIG).read_text()


def starve(track: str) -> None:
    """A tenth of a core from now on for the track's pod, which has started with its whole ones."""
    [pod] = serving_pods(track)
    resources = {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}}
    wanted = json.dumps({"spec": {"containers": [{"name": "server", "resources": resources}]}})
    kubectl("patch", "pod", pod["metadata"]["name"], "--subresource=resize", "--patch", wanted)

    def starved() -> bool:
        [pod] = serving_pods(track)
        [container] = pod["status"]["containerStatuses"]
        return container["resources"]["limits"]["cpu"] == "100m"

    until(starved, 60)


def other_answers(folder: Path) -> None:
    """The example, whose recorded answers are another net's: its own with two classes swapped."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    file = folder / store.EXTRA / golden.GOLDEN
    recorded = golden.read(file)
    swapped = {name: np.ascontiguousarray(array[:, ::-1]) for name, array in recorded.outputs.items()}
    file.unlink()
    golden.write(file, golden.Golden(recorded.inputs, swapped))
    card = cards.read(folder, store.CARD)
    cards.write(folder, dataclasses.replace(card, sha256=""), at=store.CARD)
