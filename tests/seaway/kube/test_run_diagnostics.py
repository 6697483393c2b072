"""Failures found in a run's pods, as the cluster's API returns them."""

import sys
from pathlib import Path

import pytest
from kubernetes import client

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))

import argo_workflow as argo
import cluster_api
from cluster_api import ERROR, NAMESPACE, RUN, pod, pod_responses

from seaway.errors import Refused, Unavailable
from seaway.kube import lost_pods, run_diagnostics


def failures(table):
    with cluster_api.serving(table) as url, client.ApiClient(client.Configuration(host=url)) as api:
        return run_diagnostics.stage_failures(api, NAMESPACE, RUN)


def test_a_failed_stage_is_reported_with_the_log_of_its_last_attempt():
    [failure] = failures(cluster_api.FAILED_TRAINING)
    assert (failure.stage, failure.pod, failure.failed) == ("train", "pod-3", True)
    assert failure.reasons == ("pod pod-3, main: ended with Error, status 1",)
    assert failure.log_tail == ("epoch 1", "train: no net 'mpl': there are cnn, mlp")


def test_a_successful_second_attempt_is_no_failure():
    attempts = pod("train.executor(0)", "Failed", 1, ERROR), pod("train.executor(1)", "Running", 2)
    assert failures(pod_responses(*attempts)) == []


@pytest.mark.parametrize(
    ("node", "stage"),
    [
        ("exit-handler-1.train.executor", "train"),
        ("train.executor(1)", "train"),
        ("exit-handler-1.train-driver", "train (its driver)"),
        ("exit-handler-1.onExit.run-summary.executor", "run-summary"),
        ("export-model.executor", "export-model"),
        ("(0).root(0).exit-handler-1(0).train(0).executor(0)", "train"),  # KFP's shipped retryStrategy
        ("(0).root(0).exit-handler-1(0).train-driver(0)", "train (its driver)"),
        ("(0).root(0).exit-handler-1.onExit(0).run-summary(0).executor(1)", "run-summary"),
    ],
)
def test_stage_names_from_argo_s_node_names(node, stage):
    assert run_diagnostics.stage_name(pod(node, "Failed")) == stage


def test_a_stage_that_cannot_start_is_reported_but_has_not_failed():
    pull = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "Insufficient memory."}
    table = pod_responses(
        pod("a.executor", "Pending", 1, pull),
        pod("b.executor", "Pending", 2, conditions=[unscheduled]),
        pod("c.executor", "Pending", 3, {"waiting": {"reason": "ContainerCreating"}}),
        pod("d.executor", "Running", 4, {"running": {}}),
    )
    found = failures(table)
    assert [(failure.stage, failure.failed, failure.log_tail) for failure in found] == [
        ("a", False, ()),
        ("b", False, ()),
    ]
    assert found[0].reasons == ("pod pod-1, main: ImagePullBackOff not found",)
    assert found[1].reasons == ("pod pod-2 cannot be scheduled: Insufficient memory.",)


def test_an_evicted_pod_and_one_without_a_log():
    evicted = pod("train.executor", "Failed", 1, reason="Evicted", message="The node was low on memory.")
    [failure] = failures(pod_responses(evicted))
    assert failure.reasons == ("pod pod-1: Evicted The node was low on memory.",)
    assert failure.log_tail == ()


SIGTERM = {"terminated": {"exitCode": 143, "reason": "Error"}}
SIGKILL = {"terminated": {"exitCode": 137, "reason": "Error"}}
MARKED = "Marking for deletion Pod team/pod-1"
DOWN = "Pod was terminated in response to imminent node shutdown."
OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


def event(reason, pod_name="pod-1", message="Stopping container main"):
    involved = {"kind": "Pod", "name": pod_name, "namespace": NAMESPACE}
    return {"reason": reason, "message": message, "involvedObject": involved, "metadata": {"name": f"{reason}.1"}}


def failed(main=ERROR, *events, deleted=False, **status):
    """Returns the one failure of a run whose train pod failed."""
    one = pod("train(0).executor(0)", "Failed", 1, main, **status)
    if deleted:
        one["metadata"]["deletionTimestamp"] = "2026-11-25T10:00:30Z"
    [failure] = failures(pod_responses(one) | {f"/api/v1/namespaces/{NAMESPACE}/events": {"items": [*events]}})
    return failure


def disrupted(reason, message=""):
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("case", "cause"),
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
def test_a_disrupted_pod_is_lost_and_the_cause_reported(case, cause):
    failure = case()
    assert failure.lost
    assert cause in "\n".join(failure.reasons)


@pytest.mark.parametrize(
    "case",
    [
        lambda: failed(),
        lambda: failed(OOM, event("Killing")),
        lambda: failed(OOM, deleted=True),
        lambda: failed(SIGTERM),  # it still exists, and nothing reports a disruption
        lambda: failed(SIGKILL, event("Killing", "another")),
        lambda: failed(SIGTERM, event("TaintManagerEviction", message="Cancelling deletion of Pod team/pod-1")),
        lambda: failed(SIGTERM, event("Killing"), reason="DeadlineExceeded", message=argo.DEADLINE),
        lambda: failed(SIGKILL, reason="Evicted", message=argo.STORAGE),
        lambda: failed(ERROR, deleted=True),  # deleted after it had failed
    ],
)
def test_a_stage_that_failed_by_itself_is_not_lost(case):
    failure = case()
    assert failure.failed
    assert not failure.lost


def test_a_pod_that_is_gone_is_diagnosed_by_argo_s_node():
    succeeded = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    others = pod("explore(0).executor(0)", "Succeeded", 1, succeeded)
    workflows = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows"

    def diagnose(message):
        return failures(pod_responses(others) | {workflows: {"items": [
            argo.workflow(argo.node("train(0).executor(0)", "Error", message), run="another"),
            argo.workflow(argo.node("train(0).executor(0)", "Error", message)),
        ]}})  # fmt: skip

    for message, lost in ((argo.DELETED, True), (argo.SIGTERM, True), (argo.SIGKILL, True), (argo.OOM, False)):
        [failure] = diagnose(message)
        assert (failure.stage, failure.pod, failure.lost) == ("train", "", lost)
        assert failure.reasons == (f"its pod is gone: {message}",)


def test_the_newest_attempt_decides():
    first = argo.node("train(0).executor(0)", "Error", argo.DELETED, 1)
    running = argo.node("train(0).executor(1)", "Running", "", 2)
    assert run_diagnostics.workflow_failures(argo.workflow(first, running)) == []
    failed = argo.node("train(0).executor(1)", "Failed", argo.OWN, 2)
    [failure] = run_diagnostics.workflow_failures(argo.workflow(first, failed))
    assert (failure.reasons, failure.lost) == ((argo.OWN,), False)
    for empty in ({}, {"status": {}}, {"status": {"nodes": None}}):
        assert run_diagnostics.workflow_failures(empty) == []


def test_an_exit_status_of_its_own_does_not_mean_a_lost_pod():
    assert not lost_pods.node_was_lost("main: Error (exit code 1)", [], has_other_pods=True)
    assert not lost_pods.node_was_lost("", [], has_other_pods=True)
    own_text = "main: Error (exit code 1): Preempted, pod deleted"
    assert not lost_pods.node_was_lost(own_text, [], has_other_pods=True)
    assert lost_pods.node_was_lost("Pod was rejected as the node is shutting down.", [], has_other_pods=False)


def test_the_last_line_of_argo_s_executor_is_not_the_stage_s():
    log = "train: no net 'mpl'\nError: exit status 1\n"
    for last in ("Error: exit status 1", "Error: signal: terminated", "time=2026-11-29T07:56:14Z level=INFO msg=done"):
        failed = pod("train(0).executor(0)", "Failed", 1, ERROR)
        [failure] = failures(pod_responses(failed, logs={"pod-1": f"{log}{last}\n"}))
        assert failure.log_tail == ("train: no net 'mpl'",)
    own = "Error: exit status of my tool\n"
    [failure] = failures(pod_responses(failed, logs={"pod-1": own}))
    assert failure.log_tail == (own.strip(),)


def test_missing_access_and_a_silent_cluster_are_reported():
    with pytest.raises(Refused, match=r"pods in team: access denied: it is forbidden"):
        failures({f"/api/v1/namespaces/{NAMESPACE}/pods": None})
    with (
        client.ApiClient(client.Configuration(host="http://127.0.0.1:1")) as api,
        pytest.raises(Unavailable, match="the cluster does not respond"),
    ):
        run_diagnostics.stage_failures(api, NAMESPACE, RUN)
