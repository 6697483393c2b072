"""Decides whether a stage lost its pod (deleted, evicted, drained, preempted) or failed by itself.

A stage that failed by itself would fail again, so anything unclear counts as the stage's own failure.
"""

import re
from collections.abc import Iterable
from typing import Any

SIGNAL_EXIT_CODES = (137, 143)  # SIGKILL, SIGTERM
# The kubelet's messages about limits; Argo's about a stage's deadline and a run that a user terminated.
_OWN_FAILURE = re.compile(r"OOMKilled|[Dd]eadline|workflow shutdown|exceed(?:s|ed) (?:the|its) [\w ]*limit")
_DISRUPTION = re.compile(
    r"pod deleted|The node was low on resource|Preempted|"
    r"Pod was (?:terminated|rejected) .*(?:node shutdown|shutting down)"
)
_POD_REASONS = ("Evicted", "Preempting", "Preempted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated")
_EVENT_REASONS = ("Evicted", "Preempted", "Preempting", "TaintManagerEviction")
_KILLING = "Killing"  # the kubelet stops a container: the pod is deleted, evicted or past its deadline
_EXIT_CODE = re.compile(r"\(exit code (\d+)\)")  # Argo: "main: Error (exit code 143)"


def pod_was_lost(pod: dict[str, Any], message: str, events: Iterable[dict[str, Any]]) -> bool:
    """Whether a failed pod that still exists was disrupted. `message`: of its Argo node; `events`: of the pod."""
    status, event_reasons = pod["status"], _event_reasons(events)
    terminated = [one["state"]["terminated"] for one in _containers(status) if "terminated" in one["state"]]
    container_reasons = (one.get("reason", "") for one in terminated)
    texts = (message, status.get("message", ""), status.get("reason", ""), *container_reasons)
    if _OWN_FAILURE.search("\n".join(texts)):
        return False
    disrupted = any(
        one["type"] == "DisruptionTarget" and one["status"] == "True" for one in status.get("conditions", [])
    )
    by_reason = status.get("reason") in _POD_REASONS or event_reasons.intersection(_EVENT_REASONS)
    if disrupted or by_reason or _DISRUPTION.match(message):
        return True
    signalled = any(one.get("exitCode") in SIGNAL_EXIT_CODES for one in terminated)
    return signalled and ("deletionTimestamp" in pod["metadata"] or _KILLING in event_reasons)


def node_was_lost(message: str, events: Iterable[dict[str, Any]], has_other_pods: bool) -> bool:
    """Whether a failed pod that is gone, or cannot be read, was disrupted.

    `has_other_pods`: whether the cluster still has other pods of the run.
    """
    event_reasons = _event_reasons(events)
    if _OWN_FAILURE.search(message):
        return False
    if _DISRUPTION.match(message) or event_reasons.intersection(_EVENT_REASONS):
        return True
    match = _EXIT_CODE.search(message)
    code = int(match[1]) if match else 0
    # Argo names its own reasons for stopping a container, and no stage sends itself SIGTERM. That leaves the kubelet,
    # which was told to remove the pod. SIGKILL may also come from the kernel, for memory.
    return code == 143 or (code in SIGNAL_EXIT_CODES and (has_other_pods or _KILLING in event_reasons))


def disruption_reasons(pod: dict[str, Any], events: Iterable[dict[str, Any]]) -> list[str]:
    """Returns the cluster's reasons for removing the pod."""
    conditions = pod.get("status", {}).get("conditions", [])
    reasons = [
        f"{one.get('reason', 'disrupted')}: {one.get('message', '')}".rstrip(": ")
        for one in conditions
        if one["type"] == "DisruptionTarget" and one["status"] == "True"
    ]
    shown = (*_EVENT_REASONS, _KILLING)
    reasons += [f"{event['reason']}: {event.get('message', '')}" for event in events if event["reason"] in shown]
    if pod.get("metadata", {}).get("deletionTimestamp"):
        reasons.append(f"pod {pod['metadata']['name']} was deleted")
    return reasons


def _event_reasons(events: Iterable[dict[str, Any]]) -> set[str]:
    """Leaves out cancelled evictions, whose events have the same reason."""
    return {event["reason"] for event in events if not str(event.get("message", "")).startswith("Cancelling")}


def _containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
