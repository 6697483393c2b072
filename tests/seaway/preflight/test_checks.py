"""Checks against a fake API that applies RBAC with the Role of manifests/rbac."""

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
from seaway.kube import rollout, run_diagnostics
from seaway.preflight import checks as preflight
from seaway.preflight.checks import Permission

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
    """Returns the responses of a namespace that has everything."""
    servers = {f"{APPS}/deployments/{name}": deployment(name) for name in SERVERS}
    services = {f"{CORE}/services/{name}": {"metadata": {"name": name}, "spec": {}} for name in SERVERS}
    return {CLAIM: claim(), **servers, **services}


@contextmanager
def connected(responses, rules=ROLE, log=None):
    with cluster_api.serving(responses, rules, log) as url, client.ApiClient(client.Configuration(host=url)) as api:
        yield api


def missing(responses, rules=ROLE, serving=NAMESPACE, account="", name="seaway-models"):
    """Returns the report of what is missing; "" for nothing."""
    with connected(responses, rules) as api:
        try:
            preflight.check(api, name, NAMESPACE, serving, account)
        except Refused as error:
            return str(error)
    return ""


def test_nothing_is_missing_with_the_role_bound_and_the_stack_applied():
    assert missing(stack()) == ""
    assert missing({CLAIM: claim("Pending")}, serving="") == "", "a claim may wait for its first pod"


def test_everything_missing_is_reported_at_once_with_the_commands_that_fix_it():
    assert missing({}, rules=()) == (
        f"a run in {NAMESPACE} would fail; fix these first:\n"
        f"- {RUNNER} is not allowed to: list pods, get pods/log, get persistentvolumeclaims, "
        "get deployments seaway, patch deployments seaway, get deployments seaway-canary, "
        "patch deployments seaway-canary, get services seaway, get services seaway-canary, "
        f"list replicasets, list events (namespace {NAMESPACE})\n"
        f"    kubectl apply -n {NAMESPACE} -k manifests/rbac\n"
        f"    kubectl -n {NAMESPACE} create rolebinding seaway-runs --role seaway-pipeline --serviceaccount {RUNNER}\n"
        f"- no PersistentVolumeClaim seaway-models in {NAMESPACE} (to use another: --claim)\n"
        f"    kubectl apply -n {NAMESPACE} -k manifests/overlays/kubeflow\n"
        "- no Deployment seaway, no Service seaway, no Deployment seaway-canary, no Service seaway-canary "
        f"in {NAMESPACE}\n"
        f"    kubectl apply -n {NAMESPACE} -k manifests/overlays/kubeflow"
    )


def test_the_commands_name_existing_manifests():
    root = Path(__file__).resolve().parents[3]
    assert (root / preflight.OVERLAY / "kustomization.yaml").is_file()
    role = yaml.safe_load((root / "manifests/rbac/role.yaml").read_text())
    assert role["metadata"]["name"] == preflight.ROLE


@pytest.mark.parametrize("number", range(len(ROLE)), ids=lambda number: ROLE[number]["resources"][0])
def test_each_rule_of_the_role_that_is_not_granted_is_reported(number):
    report = missing(stack(), rules=[rule for rule in ROLE if rule is not ROLE[number]])
    reported = {word for rule in [ROLE[number]] for word in rule["resources"] if f" {word}" in report}
    unused = ROLE[number]["apiGroups"] == ["events.k8s.io"]
    assert bool(reported) != unused, report


def test_a_run_without_serving_needs_no_servers():
    assert missing({CLAIM: claim()}, serving="") == ""
    report = missing({CLAIM: claim()}, rules=(), serving="")
    assert "get pods/log" in report
    assert "deployments" not in report


def test_servers_are_expected_in_the_serving_namespace():
    report = missing(stack(), serving="elsewhere")
    assert "no Deployment seaway, no Service seaway" in report
    assert "kubectl apply -n elsewhere -k manifests/overlays/kubeflow" in report


def test_a_lost_claim():
    report = missing(stack() | {CLAIM: claim("Lost")})
    assert f"- PersistentVolumeClaim seaway-models in {NAMESPACE} is Lost: its volume is gone\n" in report
    assert f"kubectl -n {NAMESPACE} delete persistentvolumeclaim seaway-models" in report


def test_unreadable_objects_are_reported_as_permissions_only():
    report = missing(dict.fromkeys(stack()), rules=())
    assert report.count("\n- ") == 1
    assert "is not allowed to: list pods" in report


def test_another_account_s_permissions_are_reviewed_by_its_name():
    responses = stack()
    assert missing(responses, account=RUNNER) == ""
    other = f"{NAMESPACE}:default-editor"
    assert f"{other} is not allowed to: list pods" in missing(responses, account=other)
    assert missing(responses | {OTHERS_REVIEWS: None}, account=other) == "", "the caller may not review other accounts"


def test_without_a_known_account_the_command_has_a_placeholder():
    report = missing(stack() | {"/apis/authentication.k8s.io/v1/selfsubjectreviews": None}, rules=())
    assert "--serviceaccount NAMESPACE:NAME" in report


def test_a_cluster_that_does_not_respond():
    configuration = client.Configuration(host="http://127.0.0.1:1")
    configuration.retries = False
    with client.ApiClient(configuration) as api, pytest.raises(Unavailable, match="the cluster does not respond"):
        preflight.check(api, "seaway-models", NAMESPACE)


# ---- the permissions that stages use


def as_permission(method, path):
    """Returns the permission that a request needs."""
    group, _, rest = path.partition(f"/namespaces/{NAMESPACE}/")
    resource, name, subresource = (*rest.split("/"), "", "")[:3]
    verb = {"PATCH": "patch", "GET": "get" if name else "list"}[method]
    named = name if resource in ("deployments", "services") else ""
    groups = {"apps", "argoproj.io"} & {*group.split("/")}
    return Permission(verb, resource, "".join(groups), subresource, named)


def test_the_permissions_cover_all_requests_of_rollouts_and_the_run_summary(monkeypatch):
    monkeypatch.setattr(rollout, "POLL_INTERVAL_S", 0.01)
    servers, log = deployment("seaway"), []
    servers["spec"]["template"]["spec"]["volumes"] = [
        {"name": "m", "persistentVolumeClaim": {"claimName": "seaway-models"}}
    ]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "uid": "set", "controller": True}
    own = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "seaway", "uid": "seaway"}
    replica_set = servers | {
        "metadata": {"name": "set", "uid": "set", "labels": {"app": "seaway"}, "ownerReferences": [own]}
    }
    pod = cluster_api.pod("train.executor", "Failed", 1, cluster_api.ERROR)
    pod["metadata"] |= {"ownerReferences": [owner], "labels": {"app": "seaway", run_diagnostics.RUN_LABEL: RUN}}
    responses = stack() | cluster_api.pod_responses(pod, logs={"pod-1": "it failed"})
    responses |= {f"{APPS}/deployments/seaway": servers, f"{APPS}/replicasets": {"items": [replica_set]}}
    responses |= {f"{CORE}/events": {"items": []}}
    with connected(responses, log=log) as api:
        rollout.apply(api, NAMESPACE, "seaway", "m/1", "a test")
        with pytest.raises(Unavailable, match="it failed"):
            rollout.wait(api, NAMESPACE, "seaway", 0, on_progress=lambda progress: None)
        [failure] = run_diagnostics.stage_failures(api, NAMESPACE, RUN)
    assert failure.log_tail == ("it failed",)
    used = {as_permission(*request) for request in log}
    workflows, events = Permission("list", "workflows", "argoproj.io"), Permission("list", "events")
    assert used <= {*preflight.ROLLOUT_PERMISSIONS, workflows}
    assert {(one.verb, one.resource) for one in used} >= {
        ("patch", "deployments"),
        ("list", "events"),
        ("list", "pods"),
    }
    log.clear()
    with connected(responses, log=log) as api:
        run_diagnostics.stage_failures(api, NAMESPACE, RUN)
    # These show why a pod was lost; a run succeeds without them.
    assert {as_permission(*request) for request in log} - {workflows, events} <= {*preflight.RUN_PERMISSIONS}
