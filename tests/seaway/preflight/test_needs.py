"""What a run lacks, asked of a stand-in whose answers are RBAC's over the Role of manifests/rbac."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from kubernetes import client

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))

import cluster_api
from cluster_api import NAMESPACE, RUN, USER

from seaway.errors import Refused, Unavailable
from seaway.kube import rollout, runs
from seaway.preflight import needs as preflight
from seaway.preflight.needs import Access

ROLE = yaml.safe_load((Path(__file__).resolve().parents[3] / "manifests/rbac/role.yaml").read_text())["rules"]
APPS, CORE = f"/apis/apps/v1/namespaces/{NAMESPACE}", f"/api/v1/namespaces/{NAMESPACE}"
CLAIM = f"{CORE}/persistentvolumeclaims/seaway-models"
SERVERS = ("seaway", "seaway-canary")
RUNNER = USER.removeprefix("system:serviceaccount:")
REVIEWS, OTHERS_REVIEWS = [path for path in cluster_api.REVIEWS if "authorization" in path]


def claim(phase="Bound"):
    return {
        "metadata": {"name": "seaway-models"},
        "spec": {"accessModes": ["ReadWriteMany"]},
        "status": {"phase": phase},
    }


def deployment(name):
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "server"}]}}
    return {
        "metadata": {"name": name, "uid": name, "generation": 1},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        "status": {"observedGeneration": 1, "replicas": 1},
    }


def stack():
    """The table of a namespace with all that is needed."""
    servers = {f"{APPS}/deployments/{name}": deployment(name) for name in SERVERS}
    services = {f"{CORE}/services/{name}": {"metadata": {"name": name}, "spec": {}} for name in SERVERS}
    return {CLAIM: claim(), **servers, **services}


@contextmanager
def connected(table, rules=ROLE, asked=None):
    with cluster_api.serving(table, rules, asked) as url, client.ApiClient(client.Configuration(host=url)) as api:
        yield api


def lacking(table, rules=ROLE, serving=NAMESPACE, account="", name="seaway-models"):
    """What is said to be missing; "" for nothing."""
    with connected(table, rules) as api:
        try:
            preflight.check(api, name, NAMESPACE, serving, account)
        except Refused as error:
            return str(error)
    return ""


def test_nothing_is_missing_where_the_role_is_bound_and_the_stack_applied():
    assert lacking(stack()) == ""
    assert lacking({CLAIM: claim("Pending")}, serving="") == "", "a claim may wait for its first pod"


def test_all_that_is_missing_is_told_at_once_each_with_the_commands_that_fix_it():
    assert lacking({}, rules=()) == (
        f"a run in {NAMESPACE} cannot succeed, and this fixes it:\n"
        f"- ServiceAccount {RUNNER} may not list pods, get pods/log, get persistentvolumeclaims, "
        "get deployments seaway, patch deployments seaway, get deployments seaway-canary, "
        "patch deployments seaway-canary, get services seaway, get services seaway-canary, "
        f"list replicasets, list events in {NAMESPACE}\n"
        f"    kubectl apply -n {NAMESPACE} -k manifests/rbac\n"
        f"    kubectl -n {NAMESPACE} create rolebinding seaway-runs --role seaway-pipeline --serviceaccount {RUNNER}\n"
        f"- no PersistentVolumeClaim seaway-models in {NAMESPACE} (one of another name: --claim)\n"
        f"    kubectl apply -n {NAMESPACE} -k manifests/overlays/kubeflow\n"
        "- no Deployment seaway, no Service seaway, no Deployment seaway-canary, no Service seaway-canary "
        f"in {NAMESPACE}\n"
        f"    kubectl apply -n {NAMESPACE} -k manifests/overlays/kubeflow"
    )


def test_the_commands_name_what_there_is():
    root = Path(__file__).resolve().parents[3]
    assert (root / preflight.OVERLAY / "kustomization.yaml").is_file()
    role = yaml.safe_load((root / "manifests/rbac/role.yaml").read_text())
    assert role["metadata"]["name"] == preflight.ROLE


@pytest.mark.parametrize("number", range(len(ROLE)), ids=lambda number: ROLE[number]["resources"][0])
def test_each_rule_of_the_role_that_is_not_granted_is_missed(number):
    said = lacking(stack(), rules=[rule for rule in ROLE if rule is not ROLE[number]])
    missed = {word for rule in [ROLE[number]] for word in rule["resources"] if f" {word}" in said}
    unused = ROLE[number]["apiGroups"] == ["events.k8s.io"]
    assert bool(missed) != unused, said


def test_a_run_that_serves_nothing_needs_no_servers():
    assert lacking({CLAIM: claim()}, serving="") == ""
    said = lacking({CLAIM: claim()}, rules=(), serving="")
    assert "get pods/log" in said
    assert "deployments" not in said


def test_servers_in_another_namespace_are_looked_for_there():
    said = lacking(stack(), serving="elsewhere")
    assert "no Deployment seaway, no Service seaway" in said
    assert "kubectl apply -n elsewhere -k manifests/overlays/kubeflow" in said


def test_a_lost_claim():
    said = lacking(stack() | {CLAIM: claim("Lost")})
    assert f"- PersistentVolumeClaim seaway-models in {NAMESPACE} is Lost: its volume is gone\n" in said
    assert f"kubectl -n {NAMESPACE} delete persistentvolumeclaim seaway-models" in said


def test_what_may_not_be_read_is_among_the_rights_alone():
    said = lacking(dict.fromkeys(stack()), rules=())
    assert said.count("\n- ") == 1
    assert "may not list pods" in said


def test_another_s_rights_are_asked_for_by_name():
    table = stack()
    assert lacking(table, account=RUNNER) == ""
    other = f"{NAMESPACE}:default-editor"
    assert f"ServiceAccount {other} may not list pods" in lacking(table, account=other)
    assert lacking(table | {OTHERS_REVIEWS: None}, account=other) == "", "who may not ask is told nothing"


def test_without_a_name_to_give_the_command_says_where_it_goes():
    said = lacking(stack() | {"/apis/authentication.k8s.io/v1/selfsubjectreviews": None}, rules=())
    assert "--serviceaccount NAMESPACE:NAME" in said


def test_a_cluster_that_does_not_answer():
    configuration = client.Configuration(host="http://127.0.0.1:1")
    configuration.retries = False
    with client.ApiClient(configuration) as api, pytest.raises(Unavailable, match="the cluster does not answer"):
        preflight.check(api, "seaway-models", NAMESPACE)


# ---- the table of what stages do


def as_access(method, path):
    """Of a request's method and path."""
    group, _, rest = path.partition(f"/namespaces/{NAMESPACE}/")
    resource, name, subresource = (*rest.split("/"), "", "")[:3]
    verb = {"PATCH": "patch", "GET": "get" if name else "list"}[method]
    named = name if resource in ("deployments", "services") else ""
    groups = {"apps", "argoproj.io"} & {*group.split("/")}
    return Access(verb, resource, "".join(groups), subresource, named)


def test_the_table_has_all_that_rollouts_and_the_last_word_ask_of_the_cluster(monkeypatch):
    monkeypatch.setattr(rollout, "LOOK_SECONDS", 0.01)
    servers, asked = deployment("seaway"), []
    servers["spec"]["template"]["spec"]["volumes"] = [
        {"name": "m", "persistentVolumeClaim": {"claimName": "seaway-models"}}
    ]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "uid": "set", "controller": True}
    own = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "seaway", "uid": "seaway"}
    replica_set = servers | {
        "metadata": {"name": "set", "uid": "set", "labels": {"app": "seaway"}, "ownerReferences": [own]}
    }
    pod = cluster_api.pod("train.executor", "Failed", 1, cluster_api.ERROR)
    pod["metadata"] |= {"ownerReferences": [owner], "labels": {"app": "seaway", runs.RUN: RUN}}
    table = stack() | cluster_api.of(pod, logs={"pod-1": "it failed"})
    table |= {f"{APPS}/deployments/seaway": servers, f"{APPS}/replicasets": {"items": [replica_set]}}
    table |= {f"{CORE}/events": {"items": []}}
    with connected(table, asked=asked) as api:
        rollout.apply(api, NAMESPACE, "seaway", "m/1", "a test")
        with pytest.raises(Unavailable, match="it failed"):
            rollout.wait(api, NAMESPACE, "seaway", 0, told=lambda state: None)
        [one] = runs.troubles(api, NAMESPACE, RUN)
    assert one.said == ("it failed",)
    found = {as_access(*request) for request in asked}
    workflows, events = Access("list", "workflows", "argoproj.io"), Access("list", "events")
    assert found <= {*preflight.OF_A_ROLLOUT, workflows}
    assert {(one.verb, one.resource) for one in found} >= {
        ("patch", "deployments"),
        ("list", "events"),
        ("list", "pods"),
    }
    asked.clear()
    with connected(table, asked=asked) as api:
        runs.troubles(api, NAMESPACE, RUN)
    # Why a pod was lost is told where these may be read; a run succeeds without.
    assert {as_access(*request) for request in asked} - {workflows, events} <= {*preflight.OF_A_RUN}
