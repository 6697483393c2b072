"""Rolls a Deployment out to one model version by server-side apply, and waits until its pods serve it.

The pod template names the version and the settings of its serving profile, so kubectl always shows what is served, and
`kubectl rollout undo` reverts it.
Nothing here creates or deletes an object.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from seaway.artifacts import serving_profile
from seaway.errors import NotFound, Refused, Unavailable
from seaway.kube import rollout_diagnostics
from seaway.kube.api_client import REVISION, claims, read_deployment, replica_sets, translated_errors

STABLE, CANARY = "seaway", "seaway-canary"  # Deployments, and the Services in front of them
CONTAINER = "server"
FIELD_MANAGER = "seaway-promote"  # owns the fields that name the served version
MODEL, VERSION = "SEAWAY_MODEL", "SEAWAY_MODEL_VERSION"
SERVES = "seaway.dev/serves"  # annotation of the pod template: name/version@digest
CAUSE = "kubernetes.io/change-cause"
TIMEOUT_S = 300.0  # as progressDeadlineSeconds of the Deployments
POLL_INTERVAL_S = 1.0

ProgressCallback = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Serving:
    """The version that a Deployment's pod template names, and how many pods are ready.

    `serves`: name/version, with @digest if it is known; "" if the template names no version, then `version` is None.
    `cause`: the recorded reason for the change. `complete`: every replica runs this template, and no older pod is left.
    `settings`: those of `serving_profile.SETTINGS` that the template itself sets.
    """

    model: str
    version: int | None
    serves: str
    cause: str
    revision: int
    image: str
    replicas: int
    ready: int
    complete: bool
    settings: Mapping[str, str]


def read(api: Any, namespace: str, deployment: str) -> Serving:
    """Returns what the Deployment serves. Raises NotFound, Unavailable."""
    return _parse_serving(read_deployment(api, namespace, deployment))


def apply(
    api: Any,
    namespace: str,
    deployment: str,
    serves: str,
    cause: str,
    replicas: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Sets the version that the Deployment serves, and its number of replicas if `replicas` is given.

    `serves`: name/version, with @digest if it is known. `settings`: those of its serving profile; without them, those
    that an earlier call set are removed. Raises NotFound, Unavailable, and InvalidInput if the cluster
    rejects the change.
    """
    model, _, number = serves.partition("@")[0].partition("/")
    values = {MODEL: model, VERSION: number, **(settings or {})}
    environment = [{"name": variable, "value": value} for variable, value in values.items()]
    patch: dict[str, Any] = {
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
        patch["spec"]["replicas"] = replicas
    read_deployment(api, namespace, deployment)  # server-side apply would create a missing Deployment
    with translated_errors(namespace, f"Deployment {deployment}"):
        api.call_api(
            f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}",
            "PATCH",
            query_params=[("fieldManager", FIELD_MANAGER), ("force", "true")],
            header_params={"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"},
            body=patch,  # sent as JSON, which is valid YAML
            auth_settings=["BearerToken"],
            response_type="object",
        )


def wait(
    api: Any,
    namespace: str,
    deployment: str,
    timeout_s: float = TIMEOUT_S,
    on_progress: ProgressCallback = print,
) -> None:
    """Returns once every replica runs the current template and each older pod has ended or drains.

    `on_progress` receives each change of the replica counts. Raises Unavailable with the reasons at the deadline, or as
    soon as waiting cannot help.
    """
    deadline = time.monotonic() + timeout_s
    last_progress = ""
    while True:
        current = read_deployment(api, namespace, deployment)
        replicas, counts = current["spec"].get("replicas", 1), _counts(current)
        progress = f"{deployment}: {counts[1]} of {replicas} replicas updated, {counts[2]} of {counts[0]} available"
        if progress != last_progress:
            last_progress = progress
            on_progress(progress)
        if _is_complete(current):
            return
        timed_out = time.monotonic() > deadline
        if timed_out or (_is_observed(current) and rollout_diagnostics.is_terminal(api, namespace, current)):
            reasons = rollout_diagnostics.failure_reasons(api, namespace, deployment)
            listed = "".join(f"\n  - {reason}" for reason in reasons)
            serves = _parse_serving(current).serves
            problem = f"does not serve {serves} after {timeout_s:.0f} s" if timed_out else f"cannot roll out {serves}"
            raise Unavailable(f"{namespace}/{deployment} {problem}:{listed}")
        time.sleep(POLL_INTERVAL_S)


def _counts(deployment: dict[str, Any]) -> list[int]:
    status = deployment.get("status", {})
    return [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]


def _is_observed(deployment: dict[str, Any]) -> bool:
    """Whether the controller has seen the last change; before that, the status describes the previous rollout."""
    observed = deployment.get("status", {}).get("observedGeneration", 0)
    return bool(observed >= deployment["metadata"].get("generation", 0))


def _is_complete(deployment: dict[str, Any]) -> bool:
    return _is_observed(deployment) and _counts(deployment) == [deployment["spec"].get("replicas", 1)] * 3


def revisions(api: Any, namespace: str, deployment: str) -> list[Serving]:
    """Returns the Deployment's revisions that name a version, newest first. Raises NotFound, Unavailable."""
    sets = replica_sets(api, namespace, read_deployment(api, namespace, deployment))
    return [revision for revision in map(_parse_serving, sets) if revision.version is not None]


def previous_revision(api: Any, namespace: str, deployment: str) -> Serving:
    """Returns the newest revision with another version than the one served now. Raises NotFound."""
    current = read(api, namespace, deployment)
    for revision in revisions(api, namespace, deployment):
        if (revision.model, revision.version) != (current.model, current.version):
            return revision
    raise NotFound(f"{namespace}/{deployment} has served no version other than {current.serves or 'the current one'}")


def check_model(api: Any, namespace: str, name: str) -> None:
    """Raises Refused if the stable Deployment serves a version of another model than `name`."""
    served = read(api, namespace, STABLE)
    if served.serves and served.model != name:
        raise Refused(
            f"the Deployment {namespace}/{STABLE} serves {served.serves.partition('@')[0]}, and a Deployment "
            f"serves one model: give {name} a namespace of its own, with SEAWAY_MODEL={name} in an overlay"
        )


def check_replicas(api: Any, namespace: str, deployment: str, replicas: int) -> None:
    """Raises Refused for several replicas on several nodes whose claim only one node may mount."""
    from kubernetes import client
    from kubernetes.client import ApiException

    if replicas < 2:
        return
    for claim in claims(api, namespace, read_deployment(api, namespace, deployment)):
        if not {"ReadWriteMany", "ReadOnlyMany"} & {*claim["spec"]["accessModes"]}:
            with contextlib.suppress(ApiException):  # without the right to list nodes, assume several
                if len(client.CoreV1Api(api).list_node().items) < 2:
                    continue
            name, modes = claim["metadata"]["name"], ", ".join(claim["spec"]["accessModes"])
            raise Refused(
                f"{replicas} replicas of {deployment} need a volume that several nodes can mount, but the claim {name} "
                f"is {modes}: make it ReadWriteMany or ReadOnlyMany, or use 1 replica"
            )


def _parse_serving(resource: dict[str, Any]) -> Serving:
    """Parses a Deployment or one of its ReplicaSets. The container's environment decides, as it does in the pod."""
    template, metadata, status = resource["spec"]["template"], resource["metadata"], resource.get("status", {})
    container: dict[str, Any] = next((c for c in template["spec"]["containers"] if c["name"] == CONTAINER), {})
    environment = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
    annotations = metadata.get("annotations", {})
    model, number = environment.get(MODEL, ""), environment.get(VERSION, "")
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
        resource["spec"].get("replicas", 1),
        status.get("readyReplicas", 0),
        _is_complete(resource),
        {variable: environment[variable] for variable in serving_profile.SETTINGS if variable in environment},
    )
