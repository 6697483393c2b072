"""Why a Deployment's newest pods do not serve: conditions, volumes, pods' states, warnings, last log lines."""

from collections.abc import Iterator
from typing import Any

from seaway.kube.kube import as_json, claims, deployment, explained, newest_pods

LOG_LINES = 5
HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "ImagePullBackOff", "CreateContainerConfigError")
BEGINNING = ("PodInitializing", "ContainerCreating")
RESTARTS = 2  # of a container that ends by itself, after which waiting is over


def why(api: Any, namespace: str, name: str) -> list[str]:
    """Why a Deployment's newest pods do not serve: conditions, pods' states, warnings, last log lines."""
    raw = deployment(api, namespace, name)
    reasons = [
        f"{condition['type']}: {condition.get('message', condition.get('reason', ''))}"
        for condition in raw.get("status", {}).get("conditions", [])
        if condition["status"] == ("True" if condition["type"] == "ReplicaFailure" else "False")
    ]
    for claim in claims(api, namespace, raw):
        if claim["status"].get("phase") != "Bound":
            reasons.append(f"PersistentVolumeClaim {claim['metadata']['name']} is {claim['status'].get('phase')}")
    pods = newest_pods(api, namespace, raw)
    for pod in pods:
        reasons += states(pod)
        reasons += _logs(api, namespace, pod)
    reasons += _warnings(api, namespace, {pod["metadata"]["name"] for pod in pods})
    return reasons or ["nothing that the cluster tells of; look at `kubectl describe` of its pods"]


def hopeless(api: Any, namespace: str, raw: dict[str, Any]) -> bool:
    """Whether no waiting helps: an image that is not there, a container that ends again and again, a quota."""
    for condition in raw.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return True
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return True
    for pod in newest_pods(api, namespace, raw):
        statuses = pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", [])
        for one in statuses:
            waiting = one["state"].get("waiting", {}).get("reason", "")
            if waiting in HOPELESS or (waiting == "CrashLoopBackOff" and one.get("restartCount", 0) >= RESTARTS):
                return True
    return False


def states(pod: dict[str, Any]) -> Iterator[str]:
    """What the pod itself tells: no node, what its containers wait for, how they ended."""
    name, status = pod["metadata"]["name"], pod["status"]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"pod {name} finds no node: {condition.get('message', '')}"
    for one in _not_ready(pod):
        waiting, ended = one["state"].get("waiting", {}), _ended(one)
        if waiting.get("reason") and waiting["reason"] not in BEGINNING:
            yield f"pod {name}, {one['name']}: {waiting['reason']} {waiting.get('message', '')}".rstrip()
        if ended and ended.get("exitCode"):
            yield f"pod {name}, {one['name']}: ended with {ended.get('reason')}, status {ended.get('exitCode')}"


def _not_ready(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    status = pod["status"]
    every = (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
    return (one for one in every if not one.get("ready"))


def _ended(container: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, Any] = container.get("lastState", {}).get("terminated", {})
    ended: dict[str, Any] = container["state"].get("terminated", last)
    return ended


def _logs(api: Any, namespace: str, pod: dict[str, Any]) -> Iterator[str]:
    name = pod["metadata"]["name"]
    for one in _not_ready(pod):
        running = bool(one["state"].get("running"))
        if running or _ended(one):
            previous = not running and bool(one.get("restartCount"))
            for line in last_words(api, namespace, name, one["name"], previous=previous):
                yield f"pod {name} said: {line}"


def last_words(
    api: Any, namespace: str, pod: str, container: str, lines: int = LOG_LINES, previous: bool = False
) -> list[str]:
    """The container's last lines; none where the cluster does not give them."""
    from kubernetes import client
    from kubernetes.client import ApiException

    try:
        log: str = client.CoreV1Api(api).read_namespaced_pod_log(
            pod, namespace, container=container, tail_lines=lines, previous=previous
        )
    except ApiException:
        return []
    return log.strip().splitlines()


def _warnings(api: Any, namespace: str, pods: set[str]) -> list[str]:
    """What events warn of, of these pods, each once."""
    from kubernetes import client

    with explained(namespace, "events"):
        found = as_json(api, client.CoreV1Api(api).list_namespaced_event(namespace, field_selector="type=Warning"))
    about = [event for event in found["items"] if event["involvedObject"].get("name") in pods]
    return [
        f"{reason}: {message}" for reason, message in {(e["reason"], " ".join(e["message"].split())) for e in about}
    ]
