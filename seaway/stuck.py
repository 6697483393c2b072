"""Why a Deployment's newest pods do not serve: conditions, volumes, pods' states, warnings, last log lines."""

from collections.abc import Iterator
from typing import Any

from seaway.kube import as_json, claims, deployment, explained, newest_pods

LOG_LINES = 5
HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "ImagePullBackOff", "CreateContainerConfigError")
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
        reasons += _pod_reasons(api, namespace, pod)
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


def _pod_reasons(api: Any, namespace: str, pod: dict[str, Any]) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod["status"]
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"pod {name} finds no node: {condition.get('message', '')}"
    for one in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        if one.get("ready"):
            continue
        waiting, ended = one["state"].get("waiting", {}), one.get("lastState", {}).get("terminated", {})
        ended = one["state"].get("terminated", ended)
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            yield f"pod {name}, {one['name']}: {waiting['reason']} {waiting.get('message', '')}".rstrip()
        if ended and ended.get("exitCode"):
            yield f"pod {name}, {one['name']}: ended with {ended.get('reason')}, status {ended.get('exitCode')}"
        if one["state"].get("running") or ended:
            yield from (f"pod {name} said: {line}" for line in _last_words(api, namespace, name, one))


def _last_words(api: Any, namespace: str, pod: str, container: dict[str, Any]) -> list[str]:
    from kubernetes import client
    from kubernetes.client import ApiException

    previous = not container["state"].get("running") and bool(container.get("restartCount"))
    try:
        log: str = client.CoreV1Api(api).read_namespaced_pod_log(
            pod, namespace, container=container["name"], tail_lines=LOG_LINES, previous=previous
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
