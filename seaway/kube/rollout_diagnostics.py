"""Explains why a Deployment's newest pods do not serve: conditions, claims, pod states, warning events, log tails."""

from collections.abc import Iterator
from typing import Any

from seaway.kube.api_client import as_json, claims, newest_pods, read_deployment, translated_errors

LOG_TAIL_LINES = 5
TERMINAL_REASONS = ("ErrImageNeverPull", "InvalidImageName", "ImagePullBackOff", "CreateContainerConfigError")
STARTING_REASONS = ("PodInitializing", "ContainerCreating")
MAX_RESTARTS = 2  # of a crashing container, after which the rollout counts as failed


def failure_reasons(api: Any, namespace: str, name: str) -> list[str]:
    """Returns why the Deployment's newest pods do not serve, one reason an entry."""
    deployment = read_deployment(api, namespace, name)
    reasons = [
        f"{condition['type']}: {condition.get('message', condition.get('reason', ''))}"
        for condition in deployment.get("status", {}).get("conditions", [])
        if condition["status"] == ("True" if condition["type"] == "ReplicaFailure" else "False")
    ]
    for claim in claims(api, namespace, deployment):
        if claim["status"].get("phase") != "Bound":
            reasons.append(f"PersistentVolumeClaim {claim['metadata']['name']} is {claim['status'].get('phase')}")
    pods = newest_pods(api, namespace, deployment)
    for pod in pods:
        reasons += pod_problems(pod)
        reasons += _log_tails(api, namespace, pod)
    reasons += _warnings(api, namespace, {pod["metadata"]["name"] for pod in pods})
    return reasons or ["the cluster reports no reason; look at `kubectl describe` of its pods"]


def is_terminal(api: Any, namespace: str, deployment: dict[str, Any]) -> bool:
    """Whether waiting cannot help: a missing image, a container that keeps crashing, an exceeded quota."""
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return True
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return True
    for pod in newest_pods(api, namespace, deployment):
        for container in _containers(pod):
            waiting = container["state"].get("waiting", {}).get("reason", "")
            crashing = waiting == "CrashLoopBackOff" and container.get("restartCount", 0) >= MAX_RESTARTS
            if waiting in TERMINAL_REASONS or crashing:
                return True
    return False


def pod_problems(pod: dict[str, Any]) -> Iterator[str]:
    """Yields what the pod's own status reports: no node, containers that wait, containers that ended."""
    name = pod["metadata"]["name"]
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"pod {name} cannot be scheduled: {condition.get('message', '')}"
    for container in _not_ready(pod):
        waiting, terminated = container["state"].get("waiting", {}), _terminated(container)
        if waiting.get("reason") and waiting["reason"] not in STARTING_REASONS:
            yield f"pod {name}, {container['name']}: {waiting['reason']} {waiting.get('message', '')}".rstrip()
        if terminated and terminated.get("exitCode"):
            reason, code = terminated.get("reason"), terminated.get("exitCode")
            yield f"pod {name}, {container['name']}: ended with {reason}, status {code}"


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _not_ready(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (container for container in _containers(pod) if not container.get("ready"))


def _terminated(container: dict[str, Any]) -> dict[str, Any]:
    """Returns the container's terminated state, else that of its last run, else {}."""
    last_run: dict[str, Any] = container.get("lastState", {}).get("terminated", {})
    terminated: dict[str, Any] = container["state"].get("terminated", last_run)
    return terminated


def _log_tails(api: Any, namespace: str, pod: dict[str, Any]) -> Iterator[str]:
    name = pod["metadata"]["name"]
    for container in _not_ready(pod):
        running = bool(container["state"].get("running"))
        if running or _terminated(container):
            previous = not running and bool(container.get("restartCount"))
            for line in tail_logs(api, namespace, name, container["name"], previous=previous):
                yield f"pod {name} logged: {line}"


def tail_logs(
    api: Any, namespace: str, pod: str, container: str, lines: int = LOG_TAIL_LINES, previous: bool = False
) -> list[str]:
    """Returns the last lines of the container's log; [] if the cluster does not provide it."""
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
    """Returns the warning events of these pods, without duplicates."""
    from kubernetes import client

    with translated_errors(namespace, "events"):
        events = as_json(api, client.CoreV1Api(api).list_namespaced_event(namespace, field_selector="type=Warning"))
    own = [event for event in events["items"] if event["involvedObject"].get("name") in pods]
    return [f"{reason}: {message}" for reason, message in {(e["reason"], " ".join(e["message"].split())) for e in own}]
