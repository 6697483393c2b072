"""What the pods of a run tell, as the cluster's API has them."""

import sys
from pathlib import Path

import pytest
from kubernetes import client

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))

import argo_workflow as argo
import cluster_api
from cluster_api import ERROR, NAMESPACE, RUN, of, pod

from seaway.errors import Refused, Unavailable
from seaway.kube import lost, runs


def troubles(table):
    with cluster_api.serving(table) as url, client.ApiClient(client.Configuration(host=url)) as api:
        return runs.troubles(api, NAMESPACE, RUN)


def test_a_failed_stage_is_named_with_its_own_last_words_of_the_last_attempt():
    [found] = troubles(cluster_api.FAILED_TRAINING)
    assert (found.stage, found.pod, found.failed) == ("train", "pod-3", True)
    assert found.reasons == ("pod pod-3, main: ended with Error, status 1",)
    assert found.said == ("epoch 1", "train: no net 'mpl': there are cnn, mlp")


def test_a_second_attempt_that_went_well_is_no_trouble():
    assert troubles(of(pod("train.executor(0)", "Failed", 1, ERROR), pod("train.executor(1)", "Running", 2))) == []


@pytest.mark.parametrize(
    ("node", "stage"),
    [
        ("exit-handler-1.train.executor", "train"),
        ("train.executor(1)", "train"),
        ("exit-handler-1.train-driver", "train (its driver)"),
        ("exit-handler-1.onExit.outcome.executor", "outcome"),
        ("export-model.executor", "export-model"),
        ("(0).root(0).exit-handler-1(0).train(0).executor(0)", "train"),  # KFP's shipped retryStrategy
        ("(0).root(0).exit-handler-1(0).train-driver(0)", "train (its driver)"),
        ("(0).root(0).exit-handler-1.onExit(0).outcome(0).executor(1)", "outcome"),
    ],
)
def test_stages_by_argo_s_names(node, stage):
    assert runs.stage_of(pod(node, "Failed")) == stage


def test_what_keeps_a_stage_from_beginning_is_trouble_without_being_a_failure():
    pull = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "Insufficient memory."}
    table = of(
        pod("a.executor", "Pending", 1, pull),
        pod("b.executor", "Pending", 2, conditions=[unscheduled]),
        pod("c.executor", "Pending", 3, {"waiting": {"reason": "ContainerCreating"}}),
        pod("d.executor", "Running", 4, {"running": {}}),
    )
    found = troubles(table)
    assert [(one.stage, one.failed, one.said) for one in found] == [("a", False, ()), ("b", False, ())]
    assert found[0].reasons == ("pod pod-1, main: ImagePullBackOff not found",)
    assert found[1].reasons == ("pod pod-2 finds no node: Insufficient memory.",)


def test_an_evicted_pod_and_one_without_a_log():
    [found] = troubles(of(pod("train.executor", "Failed", 1, reason="Evicted", message="The node was low on memory.")))
    assert found.reasons == ("pod pod-1: Evicted The node was low on memory.",)
    assert found.said == ()


SIGTERM = {"terminated": {"exitCode": 143, "reason": "Error"}}
SIGKILL = {"terminated": {"exitCode": 137, "reason": "Error"}}
MARKED = "Marking for deletion Pod team/pod-1"
DOWN = "Pod was terminated in response to imminent node shutdown."
OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


def event(reason, about="pod-1", message="Stopping container main"):
    involved = {"kind": "Pod", "name": about, "namespace": NAMESPACE}
    return {"reason": reason, "message": message, "involvedObject": involved, "metadata": {"name": f"{reason}.1"}}


def failed(main=ERROR, *events, deleted=False, **status):
    """The one trouble of a run whose training's pod failed."""
    one = pod("train(0).executor(0)", "Failed", 1, main, **status)
    if deleted:
        one["metadata"]["deletionTimestamp"] = "2026-11-25T10:00:30Z"
    [found] = troubles(of(one) | {f"/api/v1/namespaces/{NAMESPACE}/events": {"items": [*events]}})
    return found


def disrupted(reason, message=""):
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        (lambda: failed(SIGTERM, deleted=True), "pod pod-1 was deleted"),
        (lambda: failed(SIGKILL, event("Killing")), "Killing: Stopping container main"),
        (lambda: failed(ERROR, **disrupted("EvictionByEvictionAPI", "evicting")), "EvictionByEvictionAPI: evicting"),
        (lambda: failed(SIGTERM, **disrupted("DeletionByTaintManager")), "DeletionByTaintManager"),
        (lambda: failed(SIGTERM, **disrupted("PreemptionByScheduler")), "PreemptionByScheduler"),
        (lambda: failed(SIGTERM, event("TaintManagerEviction", message=MARKED)), f"TaintManagerEviction: {MARKED}"),
        (lambda: failed(SIGKILL, reason="Evicted", message=argo.EVICTED), "Evicted The node was low on resource"),
        (lambda: failed(SIGTERM, reason="Terminated", message=DOWN), DOWN),
    ],
)  # fmt: skip
def test_a_pod_that_was_taken_away_is_lost_and_the_cause_told(asked, cause):
    found = asked()
    assert found.lost
    assert cause in "\n".join(found.reasons)


@pytest.mark.parametrize(
    "asked",
    [
        lambda: failed(),
        lambda: failed(OOM, event("Killing")),
        lambda: failed(OOM, deleted=True),
        lambda: failed(SIGTERM),  # it is there, and nothing says that it had to go
        lambda: failed(SIGKILL, event("Killing", "another")),
        lambda: failed(SIGTERM, event("TaintManagerEviction", message="Cancelling deletion of Pod team/pod-1")),
        lambda: failed(SIGTERM, event("Killing"), reason="DeadlineExceeded", message=argo.DEADLINE),
        lambda: failed(SIGKILL, reason="Evicted", message=argo.STORAGE),
        lambda: failed(ERROR, deleted=True),  # deleted after it had failed
    ],
)
def test_a_pod_that_failed_by_its_own_fault_is_not_lost(asked):
    found = asked()
    assert found.failed
    assert not found.lost


def test_a_pod_that_is_gone_is_told_by_argo_s_node():
    succeeded = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    others = pod("explore(0).executor(0)", "Succeeded", 1, succeeded)
    workflows = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows"

    def told(message):
        return troubles(of(others) | {workflows: {"items": [
            argo.workflow(argo.node("train(0).executor(0)", "Error", message), run="another"),
            argo.workflow(argo.node("train(0).executor(0)", "Error", message)),
        ]}})  # fmt: skip

    for message, taken in ((argo.DELETED, True), (argo.SIGTERM, True), (argo.SIGKILL, True), (argo.OOM, False)):
        [found] = told(message)
        assert (found.stage, found.pod, found.lost) == ("train", "", taken)
        assert found.reasons == (f"its pod is gone: {message}",)


def test_of_several_attempts_the_newest_decides():
    first = argo.node("train(0).executor(0)", "Error", argo.DELETED, 1)
    assert runs.of_nodes(argo.workflow(first, argo.node("train(0).executor(1)", "Running", "", 2))) == []
    [found] = runs.of_nodes(argo.workflow(first, argo.node("train(0).executor(1)", "Failed", argo.OWN, 2)))
    assert (found.reasons, found.lost) == ((argo.OWN,), False)
    for nothing in ({}, {"status": {}}, {"status": {"nodes": None}}):
        assert runs.of_nodes(nothing) == []


def test_a_stage_is_not_lost_by_what_only_its_exit_status_says():
    assert not lost.by_node("main: Error (exit code 1)", [], others=True)
    assert not lost.by_node("", [], others=True)
    assert not lost.by_node("main: Error (exit code 1): Preempted, pod deleted", [], others=True), "words of a stage"
    assert lost.by_node("Pod was rejected as the node is shutting down.", [], others=False)


def test_what_argo_s_executor_says_last_is_not_the_stage_s():
    log = "train: no net 'mpl'\nError: exit status 1\n"
    for last in ("Error: exit status 1", "Error: signal: terminated", "time=2026-11-29T07:56:14Z level=INFO msg=done"):
        [found] = troubles(of(pod("train(0).executor(0)", "Failed", 1, ERROR), logs={"pod-1": f"{log}{last}\n"}))
        assert found.said == ("train: no net 'mpl'",)
    own = "Error: exit status of my tool\n"
    [found] = troubles(of(pod("train(0).executor(0)", "Failed", 1, ERROR), logs={"pod-1": own}))
    assert found.said == (own.strip(),)


def test_who_may_not_look_is_told():
    with pytest.raises(Refused, match=r"pods in team: the cluster does not allow it: it is forbidden"):
        troubles({f"/api/v1/namespaces/{NAMESPACE}/pods": None})
    with (
        client.ApiClient(client.Configuration(host="http://127.0.0.1:1")) as api,
        pytest.raises(Unavailable, match="the cluster does not answer"),
    ):
        runs.troubles(api, NAMESPACE, RUN)
