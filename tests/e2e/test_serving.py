"""Versions change under a steady load, and kubectl shows what is served."""

from pathlib import Path

import pytest
from onkind import (
    CANARY,
    CONTEXT,
    MODEL,
    NAMESPACE,
    Steady,
    answered_by,
    command,
    found,
    kubectl,
    publish,
    rolled_out,
    seaway,
    serving,
)

from seaway.errors import Unavailable
from seaway.kube import api_client, rollout, rollout_diagnostics

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def api(stack: str) -> object:
    return api_client.connect(CONTEXT)


def apply_overlay() -> None:
    command("kubectl", "--context", CONTEXT, "apply", "-k", "manifests/overlays/kind")


def test_applying_the_overlay_gives_a_working_server_over_every_protocol(stack: str) -> None:
    assert answered_by(stack, "tfs", "graphpipe", "oip", "oip-binary", "png") == {f"{MODEL}/1"}
    assert rollout.VERSION not in serving("seaway"), "nothing was promoted yet"


def test_canary_promotion_rollback_and_undo_under_load(stack: str, api: object, cluster: Path) -> None:
    version = publish(cluster)
    with Steady(stack, seconds=600) as load:
        options = ("--url", CANARY, "--model-repository", cluster)
        done = seaway("deploy", "--name", MODEL, "--version", version, "--context", CONTEXT, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("match PyTorch, max |Δ|") == 4
        assert serving("seaway-canary")[rollout.VERSION] == str(version)
        assert answered_by(stack, "tfs") == {f"{MODEL}/1"}, "stable does not serve the candidate"

        rollout.apply(api, NAMESPACE, rollout.STABLE, f"{MODEL}/{version}", "test: promoted")
        rollout.wait(api, NAMESPACE, rollout.STABLE)
        assert serving("seaway")[rollout.VERSION] == str(version)
        assert answered_by(stack, "tfs") == {f"{MODEL}/{version}"}
        apply_overlay()
        assert serving("seaway")[rollout.VERSION] == str(version), "apply -k reverts no promotion"

        rollout.apply(api, NAMESPACE, rollout.STABLE, f"{MODEL}/1", "test: the first version")
        rollout.wait(api, NAMESPACE, rollout.STABLE)
        done = seaway("rollback", "--context", CONTEXT)
        assert done.returncode == 0, done.stderr
        assert answered_by(stack, "tfs") == {f"{MODEL}/{version}"}

        kubectl("rollout", "undo", "deployment/seaway")
        rolled_out()
        assert answered_by(stack, "tfs") == {f"{MODEL}/1"}
        shown = seaway("status", "--context", CONTEXT)
        assert f"{MODEL}/1" in shown.stdout, shown.stdout + shown.stderr
    load.check_clean()


def test_scaling_and_a_deleted_pod_under_load(stack: str) -> None:
    with Steady(stack, seconds=600) as load:
        for replicas_wanted in (3, 1, 2):
            kubectl("scale", "deployment/seaway", f"--replicas={replicas_wanted}")
            rolled_out()
        [pod, *_] = kubectl("get", "pods", "-l", "seaway.dev/track=stable", "-o", "name").split()
        kubectl("delete", pod, "--wait")
        rolled_out()
    load.check_clean()


def test_a_failing_canary_is_diagnosed_and_stable_continues(stack: str, api: object, cluster: Path) -> None:
    broken = publish(cluster)
    for file in (cluster / MODEL / str(broken)).rglob("variables.data*"):
        file.write_bytes(file.read_bytes()[:1000])
    with Steady(stack, seconds=300) as load:
        rollout.apply(api, NAMESPACE, rollout.CANARY, f"{MODEL}/{broken}", "test: corrupt", replicas=1)
        with pytest.raises(Unavailable, match=rf"does not serve {MODEL}/{broken} after 40 s"):
            rollout.wait(api, NAMESPACE, rollout.CANARY, 40)
        reasons = " ".join(rollout_diagnostics.failure_reasons(api, NAMESPACE, rollout.CANARY))
        assert f"{MODEL}/{broken} cannot be served" in reasons, reasons
        kubectl("set", "image", "deployment/seaway-canary", "server=seaway/serve:is-not-there")
        with pytest.raises(Unavailable, match=r"(?s)cannot roll out .*:.*(ImagePull|ErrImage)"):
            rollout.wait(api, NAMESPACE, rollout.CANARY, 120)
    load.check_clean()
    status = found("deployment", "seaway")["status"]
    assert status["readyReplicas"] == 1
