"""What is told of the stages of a Kubeflow run: which failed or cannot begin, why, and the stage's last words.

By the run's pods, their events and Argo's nodes, which outlive the pods.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seaway.errors import SeawayError
from seaway.kube import argo, lost, stuck
from seaway.kube.kube import as_json, explained

RUN = "pipeline/runid"  # the label that Kubeflow gives each pod of a run, and its Workflow
NODE = argo.NODE
MAIN = "main"  # the container that the stage runs in
SHOWN = 10  # lines
LOOKED_AT = 500  # lines: a stage of few words, and all that is said before them
SECONDS = 30  # for an answer
PULLS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
_IMAGE = re.compile(r'image "([^"]+)"')
# of KFP's launcher, Argo, KFP's executor; and what Argo's executor says last of whatever failed
_NOT_THE_STAGE_S = re.compile(r"[IWEF]\d{4} |time=|\[KFP Executor |Error: (?:exit status -?\d+|signal: .*)$")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A stage whose newest attempt failed, or cannot begin. `pod`: "" of one that is gone; `said`: the stage's own last
    lines; `lost`: its pod was deleted, evicted or drained, by no fault of its own; `image`: one that is not pulled."""

    stage: str
    pod: str
    failed: bool
    reasons: tuple[str, ...]
    said: tuple[str, ...] = ()
    lost: bool = False
    image: str = ""


def troubles(api: Any, namespace: str, run: str, workflow: Mapping[str, Any] | None = None) -> list[Trouble]:
    """In the order in which the stages began. `workflow`: Argo's, where it is known; else the cluster is asked for it.

    Raises Refused, Unavailable where the pods cannot be read; without the Workflow and events less is told.
    """
    from kubernetes import client

    with explained(namespace, "pods"):
        listed = client.CoreV1Api(api).list_namespaced_pod(
            namespace, label_selector=f"{RUN}={run}", _request_timeout=SECONDS
        )
        found = as_json(api, listed)
    pods = sorted(found["items"], key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
    newest = {stage_of(pod): pod for pod in pods}  # of a stage that was tried again, the last attempt
    nodes = argo.pods(workflow or _workflow(api, namespace, run))
    events: list[dict[str, Any]] | None = None
    told: list[Trouble] = []
    for stage in dict.fromkeys((*newest, *nodes)):
        pod, node = newest.get(stage), nodes.get(stage)
        if (
            pod and node and _node_name(pod) != node.text
        ):  # the cluster has no pod (any more, or yet) of the last attempt
            pod = None
        if events is None and ((node and node.failed) or (pod and pod["status"].get("phase") == "Failed")):
            events = _events(api, namespace)
        about = [one for one in events or () if _concerns(one, pod, node)]
        told += _of_pod(api, namespace, stage, pod, node, about) if pod else _of_node(stage, node, about, bool(pods))
    return told


def of_nodes(workflow: Mapping[str, Any]) -> list[Trouble]:
    """What Argo's nodes alone tell, where no cluster can be asked for the pods."""
    return [one for stage, node in argo.pods(workflow).items() for one in _of_node(stage, node, (), False)]


def stage_of(pod: dict[str, Any]) -> str:
    """The stage's name; a driver of Kubeflow's, which prepares a stage, is named so."""
    return argo.name(_node_name(pod)).told or str(pod["metadata"]["name"])


def _node_name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"].get("annotations", {}).get(NODE, ""))


def _of_pod(
    api: Any, namespace: str, stage: str, pod: dict[str, Any], node: argo.Node | None, events: list[dict[str, Any]]
) -> Iterator[Trouble]:
    name, status = pod["metadata"]["name"], pod["status"]
    failed = status.get("phase") == "Failed" or bool(node and node.failed)
    if status.get("phase") == "Succeeded" and not failed:
        return
    reasons = [*stuck.states(pod)]
    if failed and status.get("message"):  # as of an eviction
        reasons.insert(0, f"pod {name}: {status.get('reason', '')} {status['message']}".strip())
    if not reasons and not failed:
        return
    taken = failed and lost.by_pod(pod, node.message if node else "", events)
    if taken:
        reasons += lost.told(pod, events)
    if failed and not reasons:
        reasons = [node.message if node and node.message else f"pod {name} failed"]
    said = [*_own(stuck.last_words(api, namespace, name, MAIN, LOOKED_AT))] if failed else []
    yield Trouble(stage, name, failed, tuple(dict.fromkeys(reasons)), tuple(said[-SHOWN:]), taken, _not_pulled(pod))


def _of_node(stage: str, node: argo.Node | None, events: Iterable[dict[str, Any]], others: bool) -> Iterator[Trouble]:
    """`others`: whether the cluster has other pods of the run, so that this one's is gone."""
    if node is None or not (node.failed or (node.phase == "Pending" and node.message)):
        return
    events = [*events]
    where = "its pod is gone: " if node.failed and others else ""
    reasons = [where + (node.message or "Argo tells no reason"), *lost.told({}, events)]
    pull = not node.failed and node.message.startswith(PULLS)
    image = _IMAGE.search(node.message)
    yield Trouble(
        stage, "", node.failed, tuple(dict.fromkeys(reasons)),
        lost=node.failed and lost.by_node(node.message, events, others),
        image=(image[1] if image else "its image") if pull else "",
    )  # fmt: skip


def _not_pulled(pod: dict[str, Any]) -> str:
    status = pod["status"]
    for one in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        if one["state"].get("waiting", {}).get("reason") in PULLS:
            return str(one["image"])
    return ""


def _workflow(api: Any, namespace: str, run: str) -> dict[str, Any]:
    """Argo's Workflow of the run; {} where it cannot be read."""
    from kubernetes import client

    try:
        with explained(namespace, argo.PLURAL):
            found = client.CustomObjectsApi(api).list_namespaced_custom_object(
                argo.GROUP, argo.VERSION, namespace, argo.PLURAL,
                label_selector=f"{RUN}={run}", _request_timeout=SECONDS,
            )  # fmt: skip
    except SeawayError:
        return {}
    return dict(next(iter(found["items"]), {}))


def _events(api: Any, namespace: str) -> list[dict[str, Any]]:
    """Of pods, of the last hour or so; none where they cannot be read."""
    from kubernetes import client

    try:
        with explained(namespace, "events"):
            found = client.CoreV1Api(api).list_namespaced_event(
                namespace, field_selector="involvedObject.kind=Pod", _request_timeout=SECONDS
            )
            return [*as_json(api, found)["items"]]
    except SeawayError:
        return []


def _concerns(event: dict[str, Any], pod: dict[str, Any] | None, node: argo.Node | None) -> bool:
    """Argo names a pod WORKFLOW-TEMPLATE-NUMBER, and its node WORKFLOW-NUMBER."""
    about = str(event["involvedObject"].get("name", ""))
    if pod:
        return about == str(pod["metadata"]["name"])
    workflow, _, number = node.id.rpartition("-") if node else ("", "", "")
    return bool(number) and about.startswith(workflow) and about.endswith(f"-{number}")


def _own(lines: Iterable[str]) -> Iterator[str]:
    """What the stage said itself; KFP's executor tells what it was given as JSON over many lines."""
    within = False
    for line in lines:
        if within:
            within = line != "}"
        elif _NOT_THE_STAGE_S.match(line):
            within = line.endswith("executor_input:")
        elif line.strip():
            yield line
