"""Pod Security "restricted" for every pod, no token or permission for servers, and few for the pipeline."""

import copy
from typing import Any

import pytest
import yaml
from rendered import MANIFESTS, Object, containers, deployments, each, load, of_kind, pod
from restricted import violations


@each
def test_every_pod_meets_the_restricted_standard(objects: list[Object]) -> None:
    for name, deployment in deployments(objects).items():
        assert violations(pod(deployment)) == [], name


@each
def test_root_file_systems_are_read_only_and_users_are_numbers(objects: list[Object]) -> None:
    for deployment in deployments(objects).values():
        context = pod(deployment)["securityContext"]
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001
        for container in containers(deployment):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for volume in pod(deployment)["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


@each
def test_no_pod_has_a_token(objects: list[Object]) -> None:
    for name, deployment in deployments(objects).items():
        assert pod(deployment)["automountServiceAccountToken"] is False, name
        assert of_kind(objects, "ServiceAccount")[pod(deployment)["serviceAccountName"]]
        assert pod(deployment)["enableServiceLinks"] is False, "the Service would set SEAWAY_PORT=tcp://…"
    accounts = of_kind(objects, "ServiceAccount")
    assert all(made["automountServiceAccountToken"] is False for made in accounts.values())


@each
def test_no_rendering_contains_a_namespace(objects: list[Object]) -> None:
    """`kubectl apply -k` would relabel an existing one, and `kubectl delete -k` would delete it with its content."""
    assert of_kind(objects, "Namespace") == {}


@pytest.mark.parametrize("name", ["kubeflow", "production", "rbac"])
def test_overlays_for_any_namespace_name_none(name: str) -> None:
    assert [made for made in load(name) if "namespace" in made["metadata"]] == []


def test_the_namespace_on_kind_enforces_the_standard_and_contains_the_overlay() -> None:
    ours = yaml.safe_load((MANIFESTS / "namespace.yaml").read_text())["metadata"]
    assert ours["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = {made["metadata"].get("namespace") for made in load("kind") if made["kind"] != "PersistentVolume"}
    assert inside == {ours["name"]}


def test_the_pipeline_may_change_only_the_serving_objects() -> None:
    objects = load("rbac")
    assert [made["kind"] for made in objects] == ["Role"]
    read, change, ours = ["get", "list", "watch"], ["get", "list", "watch", "patch"], ["seaway", "seaway-canary"]
    assert of_kind(objects, "Role")["seaway-pipeline"]["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ours, "verbs": change},
        {"apiGroups": [""], "resources": ["services"], "resourceNames": ours, "verbs": change},
        {"apiGroups": [""], "resources": ["pods", "pods/log", "events", "persistentvolumeclaims"], "verbs": read},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": read},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": read},
    ]


@each
def test_policies_deny_everything_else(objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    if "Deployment" not in {made["kind"] for made in objects}:
        return
    policy = policies["seaway"]["spec"]
    assert {*policy["policyTypes"]} == {"Ingress", "Egress"}
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": 8501}, {"port": 8500}], [{"port": 8502}]]
    assert all(rule["from"] for rule in policy["ingress"]), "an empty list of peers admits everyone"
    (egress,) = policy["egress"]
    assert egress["to"]
    assert {port["port"] for port in egress["ports"]} == {53}
    if "seaway-loadtest-master" in deployments(objects):
        (rule,) = policies["seaway-loadtest"]["spec"]["ingress"]
        assert rule["ports"] == [{"port": 5557}]
        assert rule["from"]


GOOD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {"name": "a", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}


def test_the_check_passes_a_good_pod() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hostNetwork", True),
        ("hostPID", True),
        ("hostIPC", True),
        ("securityContext", {}),
        ("securityContext.runAsNonRoot", False),
        ("securityContext.runAsUser", 0),
        ("securityContext.seccompProfile", {"type": "Unconfined"}),
        ("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
        ("securityContext.appArmorProfile", {"type": "Unconfined"}),
        ("securityContext.seLinuxOptions", {"type": "spc_t"}),
        ("securityContext.windowsOptions", {"hostProcess": True}),
        ("volumes.0.hostPath", {"path": "/"}),
        ("volumes.0.nfs", {"path": "/", "server": "s"}),
        ("containers.0.securityContext", {}),
        ("containers.0.securityContext.privileged", True),
        ("containers.0.securityContext.allowPrivilegeEscalation", True),
        ("containers.0.securityContext.capabilities", {}),
        ("containers.0.securityContext.capabilities.add", ["SYS_ADMIN"]),
        ("containers.0.securityContext.runAsNonRoot", False),
        ("containers.0.securityContext.runAsUser", 0),
        ("containers.0.securityContext.procMount", "Unmasked"),
        ("containers.0.securityContext.seccompProfile", {"type": "Unconfined"}),
        ("containers.0.ports", [{"containerPort": 1, "hostPort": 1}]),
        ("containers.0.livenessProbe", {"httpGet": {"host": "10.0.0.1", "port": 80}}),
        ("containers.0.lifecycle", {"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}}),
        ("initContainers", [{"name": "b"}]),
    ],
)
def test_the_check_finds_every_violation(path: str, value: object) -> None:
    broken: Any = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    place = broken
    for step in way:
        place = place[int(step)] if step.isdecimal() else place[step]
    place[last] = value
    assert violations(broken)
