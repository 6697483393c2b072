"""Finds the stages of a Kubeflow run that failed or cannot start, with the reasons and the end of their logs.

Reads the run's pods, their events, and Argo's nodes, which outlive the pods.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seaway.errors import SeawayError
from seaway.kube import argo, lost_pods, rollout_diagnostics
from seaway.kube.api_client import as_json, translated_errors

RUN_LABEL = "pipeline/runid"  # Kubeflow sets it on every pod of a run and on its Workflow
MAIN_CONTAINER = "main"  # the container that runs the stage
SHOWN_LINES = 10
FETCHED_LINES = 500  # enough to find the stage's own lines among those of KFP and Argo
REQUEST_TIMEOUT_S = 30
PULL_ERRORS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
_IMAGE = re.compile(r'image "([^"]+)"')
# Lines of KFP's launcher, Argo and KFP's executor, and the last line of Argo's executor after any failure.
_FOREIGN_LINE = re.compile(r"[IWEF]\d{4} |time=|\[KFP Executor |Error: (?:exit status -?\d+|signal: .*)$")


@dataclass(frozen=True, slots=True)
class StageFailure:
    """A stage whose newest attempt failed or cannot start.

    `pod`: "" if it is gone; `failed`: False if the stage has not started; `log_tail`: the stage's own last lines;
    `lost`: the pod was deleted, evicted or drained, and the stage itself is not at fault; `image`: the image that
    cannot be pulled, or "".
    """

    stage: str
    pod: str
    failed: bool
    reasons: tuple[str, ...]
    log_tail: tuple[str, ...] = ()
    lost: bool = False
    image: str = ""


def stage_failures(api: Any, namespace: str, run: str, workflow: Mapping[str, Any] | None = None) -> list[StageFailure]:
    """Returns the run's failures in the order in which the stages started.

    `workflow`: Argo's Workflow if the caller has it; otherwise it is read from the cluster. Raises Refused or
    Unavailable if the pods cannot be read. Without access to the Workflow and events there are fewer reasons.
    """
    from kubernetes import client

    with translated_errors(namespace, "pods"):
        response = client.CoreV1Api(api).list_namespaced_pod(
            namespace, label_selector=f"{RUN_LABEL}={run}", _request_timeout=REQUEST_TIMEOUT_S
        )
        items = as_json(api, response)["items"]
    pods = sorted(items, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
    newest = {stage_name(pod): pod for pod in pods}  # the last attempt of a retried stage
    nodes = argo.newest_nodes(workflow or _workflow(api, namespace, run))
    events: list[dict[str, Any]] | None = None
    failures: list[StageFailure] = []
    for stage in dict.fromkeys((*newest, *nodes)):
        pod, node = newest.get(stage), nodes.get(stage)
        if pod and node and _node_name(pod) != node.name:  # the last attempt has no pod yet, or no longer
            pod = None
        if events is None and ((node and node.failed) or (pod and pod["status"].get("phase") == "Failed")):
            events = _pod_events(api, namespace)
        own_events = [event for event in events or () if _concerns(event, pod, node)]
        if pod:
            failures += _pod_failure(api, namespace, stage, pod, node, own_events)
        else:
            failures += _node_failure(stage, node, own_events, has_other_pods=bool(pods))
    return failures


def workflow_failures(workflow: Mapping[str, Any]) -> list[StageFailure]:
    """Returns the failures that Argo's nodes show by themselves, for callers without access to the cluster."""
    nodes = argo.newest_nodes(workflow)
    return [failure for stage, node in nodes.items() for failure in _node_failure(stage, node, (), False)]


def stage_name(pod: dict[str, Any]) -> str:
    """Returns the name of the pod's stage; Kubeflow's driver, which prepares a stage, is marked as such."""
    return argo.parse_name(_node_name(pod)).label or str(pod["metadata"]["name"])


def _node_name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"].get("annotations", {}).get(argo.NODE_NAME, ""))


def _pod_failure(
    api: Any, namespace: str, stage: str, pod: dict[str, Any], node: argo.Node | None, events: list[dict[str, Any]]
) -> Iterator[StageFailure]:
    name, status = pod["metadata"]["name"], pod["status"]
    failed = status.get("phase") == "Failed" or bool(node and node.failed)
    if status.get("phase") == "Succeeded" and not failed:
        return
    reasons = [*rollout_diagnostics.pod_problems(pod)]
    if failed and status.get("message"):  # as after an eviction
        reasons.insert(0, f"pod {name}: {status.get('reason', '')} {status['message']}".strip())
    if not reasons and not failed:
        return
    lost = failed and lost_pods.pod_was_lost(pod, node.message if node else "", events)
    if lost:
        reasons += lost_pods.disruption_reasons(pod, events)
    if failed and not reasons:
        reasons = [node.message if node and node.message else f"pod {name} failed"]
    log = rollout_diagnostics.tail_logs(api, namespace, name, MAIN_CONTAINER, FETCHED_LINES) if failed else []
    log_tail = tuple(_stage_lines(log))[-SHOWN_LINES:]
    yield StageFailure(stage, name, failed, tuple(dict.fromkeys(reasons)), log_tail, lost, _unpulled_image(pod))


def _node_failure(
    stage: str, node: argo.Node | None, events: Iterable[dict[str, Any]], has_other_pods: bool
) -> Iterator[StageFailure]:
    """`has_other_pods`: whether the cluster still has other pods of the run, so that this stage's pod must be gone."""
    if node is None or not (node.failed or (node.phase == "Pending" and node.message)):
        return
    events = [*events]
    prefix = "its pod is gone: " if node.failed and has_other_pods else ""
    reasons = [prefix + (node.message or "Argo reports no reason"), *lost_pods.disruption_reasons({}, events)]
    pull_failed = not node.failed and node.message.startswith(PULL_ERRORS)
    image = _IMAGE.search(node.message)
    yield StageFailure(
        stage,
        pod="",
        failed=node.failed,
        reasons=tuple(dict.fromkeys(reasons)),
        lost=node.failed and lost_pods.node_was_lost(node.message, events, has_other_pods),
        image=(image[1] if image else "its image") if pull_failed else "",
    )


def _unpulled_image(pod: dict[str, Any]) -> str:
    status = pod["status"]
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        if container["state"].get("waiting", {}).get("reason") in PULL_ERRORS:
            return str(container["image"])
    return ""


def _workflow(api: Any, namespace: str, run: str) -> dict[str, Any]:
    """Returns the run's Argo Workflow, or {} if it cannot be read."""
    from kubernetes import client

    try:
        with translated_errors(namespace, argo.PLURAL):
            workflows = client.CustomObjectsApi(api).list_namespaced_custom_object(
                argo.GROUP, argo.VERSION, namespace, argo.PLURAL,
                label_selector=f"{RUN_LABEL}={run}", _request_timeout=REQUEST_TIMEOUT_S,
            )  # fmt: skip
    except SeawayError:
        return {}
    return dict(next(iter(workflows["items"]), {}))


def _pod_events(api: Any, namespace: str) -> list[dict[str, Any]]:
    """Returns the events of pods, which the cluster keeps for about an hour, or [] if they cannot be read."""
    from kubernetes import client

    try:
        with translated_errors(namespace, "events"):
            response = client.CoreV1Api(api).list_namespaced_event(
                namespace, field_selector="involvedObject.kind=Pod", _request_timeout=REQUEST_TIMEOUT_S
            )
            return [*as_json(api, response)["items"]]
    except SeawayError:
        return []


def _concerns(event: dict[str, Any], pod: dict[str, Any] | None, node: argo.Node | None) -> bool:
    """Argo names a pod WORKFLOW-TEMPLATE-NUMBER, and its node WORKFLOW-NUMBER."""
    pod_name = str(event["involvedObject"].get("name", ""))
    if pod:
        return pod_name == str(pod["metadata"]["name"])
    workflow, _, number = node.id.rpartition("-") if node else ("", "", "")
    return bool(number) and pod_name.startswith(workflow) and pod_name.endswith(f"-{number}")


def _stage_lines(log: Iterable[str]) -> Iterator[str]:
    """Yields the stage's own lines: skips KFP's and Argo's, and the input that KFP's executor logs as JSON."""
    in_json = False
    for line in log:
        if in_json:
            in_json = line != "}"
        elif _FOREIGN_LINE.match(line):
            in_json = line.endswith("executor_input:")
        elif line.strip():
            yield line
