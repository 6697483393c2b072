"""Deployments that each serve one version, changed by server-side apply and followed until they do, or told why not.

Which version a Deployment serves stands in its pod template, so that kubectl always shows what answers, and
`kubectl rollout undo` takes it back. Nothing here creates or deletes an object.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seaway.errors import NotFound, Refused, Unavailable
from seaway.kube import stuck
from seaway.kube.kube import REVISION, claims, explained, replica_sets
from seaway.kube.kube import deployment as read_deployment

STABLE, CANARY = "seaway", "seaway-canary"  # Deployments, and the Services before them
CONTAINER = "server"
MANAGER = "seaway-promote"  # of the fields that say which version is served
MODEL, VERSION = "SEAWAY_MODEL", "SEAWAY_MODEL_VERSION"
SERVES = "seaway.dev/serves"  # annotation of the pod template: name/version@digest
CAUSE = "kubernetes.io/change-cause"
SECONDS = 300.0
LOOK_SECONDS = 1.0

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Serving:
    """What a Deployment is to serve. `version` is None and `serves` "" where its template names none; else `serves` is
    name/version, with @digest where that is known. `cause`: why, in words."""

    model: str
    version: int | None
    serves: str
    cause: str
    revision: int
    image: str
    replicas: int
    ready: int


def read(api: Any, namespace: str, deployment: str) -> Serving:
    """Raises NotFound, Unavailable."""
    return _serving(read_deployment(api, namespace, deployment))


def apply(api: Any, namespace: str, deployment: str, serves: str, cause: str, replicas: int | None = None) -> None:
    """Has the Deployment serve `serves` (name/version, with @digest where it is known), and `replicas` of it where that
    is given. Raises NotFound, Unavailable, InvalidInput where the cluster refuses the change."""
    model, _, number = serves.partition("@")[0].partition("/")
    environment = [{"name": MODEL, "value": model}, {"name": VERSION, "value": number}]
    wanted: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment, "annotations": {CAUSE: cause}},
        "spec": {
            "template": {
                "metadata": {"annotations": {SERVES: serves}},
                "spec": {"containers": [{"name": CONTAINER, "env": environment}]},
            }
        },
    }
    if replicas is not None:
        wanted["spec"]["replicas"] = replicas
    read_deployment(api, namespace, deployment)  # server-side apply would make one that is not there
    with explained(namespace, f"Deployment {deployment}"):
        api.call_api(
            f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}",
            "PATCH",
            query_params=[("fieldManager", MANAGER), ("force", "true")],
            header_params={"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"},
            body=wanted,  # which the client sends as JSON, and JSON is YAML
            auth_settings=["BearerToken"],
            response_type="object",
        )


def wait(api: Any, namespace: str, deployment: str, seconds: float = SECONDS, told: Told = print) -> None:
    """Returns once every replica serves what the template says, and no other is left. Raises Unavailable saying why it
    does not come about, at the deadline or as soon as waiting is hopeless."""
    deadline = time.monotonic() + seconds
    said = ""
    while True:
        raw = read_deployment(api, namespace, deployment)
        status, wanted = raw.get("status", {}), raw["spec"].get("replicas", 1)
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        state = f"{deployment}: {counts[1]} of {wanted} replicas are new, {counts[2]} of {counts[0]} ready"
        if state != said:
            said = state
            told(state)
        seen = status.get("observedGeneration", 0) >= raw["metadata"]["generation"]  # else it tells of what was before
        if seen and counts == [wanted] * 3:
            return
        late = time.monotonic() > deadline
        if late or (seen and stuck.hopeless(api, namespace, raw)):
            reasons = "".join(f"\n  - {reason}" for reason in stuck.why(api, namespace, deployment))
            after = f"after {seconds:.0f} s" if late else "and will not by itself"
            raise Unavailable(f"{namespace}/{deployment} does not serve {_serving(raw).serves} {after}:{reasons}")
        time.sleep(LOOK_SECONDS)


def revisions(api: Any, namespace: str, deployment: str) -> list[Serving]:
    """The Deployment's revisions that name a version, the newest first. Raises NotFound, Unavailable."""
    sets = replica_sets(api, namespace, read_deployment(api, namespace, deployment))
    return [found for found in map(_serving, sets) if found.version is not None]


def before(api: Any, namespace: str, deployment: str) -> Serving:
    """The newest revision that named another version than the one now served. Raises NotFound."""
    now = read(api, namespace, deployment)
    for found in revisions(api, namespace, deployment):
        if (found.model, found.version) != (now.model, now.version):
            return found
    raise NotFound(f"{namespace}/{deployment} has served no other version than {now.serves or 'the one it serves'}")


def check_replicas(api: Any, namespace: str, deployment: str, replicas: int) -> None:
    """Raises Refused for several replicas on several nodes over a claim that one node alone may mount."""
    from kubernetes import client
    from kubernetes.client import ApiException

    if replicas < 2:
        return
    for claim in claims(api, namespace, read_deployment(api, namespace, deployment)):
        if not {"ReadWriteMany", "ReadOnlyMany"} & {*claim["spec"]["accessModes"]}:
            with contextlib.suppress(ApiException):  # who may not list nodes is told as if there were several
                if len(client.CoreV1Api(api).list_node().items) < 2:
                    continue
            name, modes = claim["metadata"]["name"], ", ".join(claim["spec"]["accessModes"])
            raise Refused(
                f"{replicas} replicas of {deployment} need a volume that several nodes may mount, but the claim {name} "
                f"is {modes}: make it ReadWriteMany or ReadOnlyMany, or ask for 1 replica"
            )


def _serving(raw: dict[str, Any]) -> Serving:
    """Of a Deployment or of one of its ReplicaSets. The environment decides: it is what the pod goes by."""
    template, metadata, status = raw["spec"]["template"], raw["metadata"], raw.get("status", {})
    container: dict[str, Any] = next((c for c in template["spec"]["containers"] if c["name"] == CONTAINER), {})
    values = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
    annotations = metadata.get("annotations", {})
    model, number = values.get(MODEL, ""), values.get(VERSION, "")
    serves = template["metadata"].get("annotations", {}).get(SERVES, "")
    if serves.partition("@")[0] != f"{model}/{number}":
        serves = f"{model}/{number}" if number else ""
    return Serving(
        model,
        int(number) if number.isdigit() else None,
        serves,
        annotations.get(CAUSE, ""),
        int(annotations.get(REVISION, 0)),
        container.get("image", ""),
        raw["spec"].get("replicas", 1),
        status.get("readyReplicas", 0),
    )
