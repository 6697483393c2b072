"""What the pods of a run tell, as the cluster's API has them."""

import sys
from pathlib import Path

import pytest
from kubernetes import client

sys.path.append(str(Path(__file__).resolve().parents[1] / "fixtures"))

import cluster_api
from cluster_api import ERROR, NAMESPACE, RUN, of, pod

from seaway import runs
from seaway.errors import Refused, Unavailable


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


def test_who_may_not_look_is_told():
    with pytest.raises(Refused, match=r"pods in team: the cluster does not allow it: it is forbidden"):
        troubles({f"/api/v1/namespaces/{NAMESPACE}/pods": None})
    with (
        client.ApiClient(client.Configuration(host="http://127.0.0.1:1")) as api,
        pytest.raises(Unavailable, match="the cluster does not answer"),
    ):
        runs.troubles(api, NAMESPACE, RUN)
