"""Versions come and go under a steady load, and kubectl shows what answers."""

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
from seaway.kube import kube, rollout, stuck

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def api(stack: str) -> object:
    return kube.connect(CONTEXT)


def apply_by_hand() -> None:
    command("kubectl", "--context", CONTEXT, "apply", "-k", "manifests/overlays/kind")


def test_apply_by_hand_gives_a_working_server_over_every_protocol(stack: str) -> None:
    assert answered_by(stack, "tfs", "graphpipe", "oip", "oip-binary", "png") == {f"{MODEL}/1"}
    assert rollout.VERSION not in serving("seaway"), "nobody has promoted anything yet"


def test_canary_promotion_rollback_and_undo_under_load(stack: str, api: object, cluster: Path) -> None:
    version = publish(cluster)
    with Steady(stack, seconds=600) as load:
        where = ("--url", CANARY, "--volume", cluster)
        done = seaway("deploy", "--version", version, "--context", CONTEXT, *where)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("as PyTorch, max |Δ|") == 4
        assert serving("seaway-canary")[rollout.VERSION] == str(version)
        assert answered_by(stack, "tfs") == {f"{MODEL}/1"}, "stable does not serve the candidate"

        rollout.apply(api, NAMESPACE, rollout.STABLE, f"{MODEL}/{version}", "test: promoted")
        rollout.wait(api, NAMESPACE, rollout.STABLE)
        assert serving("seaway")[rollout.VERSION] == str(version)
        assert answered_by(stack, "tfs") == {f"{MODEL}/{version}"}
        apply_by_hand()
        assert serving("seaway")[rollout.VERSION] == str(version), "apply -k takes no promotion back"

        rollout.apply(api, NAMESPACE, rollout.STABLE, f"{MODEL}/1", "test: the first, by name")
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


def test_what_does_not_come_up_is_named_and_stable_goes_on(stack: str, api: object, cluster: Path) -> None:
    broken = publish(cluster)
    for file in (cluster / MODEL / str(broken)).rglob("variables.data*"):
        file.write_bytes(file.read_bytes()[:1000])
    with Steady(stack, seconds=300) as load:
        rollout.apply(api, NAMESPACE, rollout.CANARY, f"{MODEL}/{broken}", "test: corrupt", replicas=1)
        with pytest.raises(Unavailable, match=rf"does not serve {MODEL}/{broken} after 40 s"):
            rollout.wait(api, NAMESPACE, rollout.CANARY, 40)
        reasons = " ".join(stuck.why(api, NAMESPACE, rollout.CANARY))
        assert f"{MODEL}/{broken} cannot be served" in reasons, reasons
        kubectl("set", "image", "deployment/seaway-canary", "server=seaway/serve:is-not-there")
        with pytest.raises(Unavailable, match=r"(?s)and will not by itself:.*(ImagePull|ErrImage)"):
            rollout.wait(api, NAMESPACE, rollout.CANARY, 120)
    load.check_clean()
    status = found("deployment", "seaway")["status"]
    assert status["readyReplicas"] == 1
