"""Whether a stage's pod was taken away from it (deleted, evicted, drained, preempted), or the stage failed itself.

A stage that failed by its own fault fails again; so what is not clear is its own fault.
"""

import re
from collections.abc import Iterable
from typing import Any

SIGNALLED = (137, 143)  # SIGKILL, SIGTERM
# The kubelet's own words for limits, and Argo's for a stage's deadline and a run that somebody ended.
_OWN = re.compile(r"OOMKilled|[Dd]eadline|workflow shutdown|exceed(?:s|ed) (?:the|its) [\w ]*limit")
_TAKEN = re.compile(
    r"pod deleted|The node was low on resource|Preempted|"
    r"Pod was (?:terminated|rejected) .*(?:node shutdown|shutting down)"
)
_REASONS = ("Evicted", "Preempting", "Preempted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated")  # of a pod
_EVENTS = ("Evicted", "Preempted", "Preempting", "TaintManagerEviction")
_STOPPED = "Killing"  # the kubelet stops a container: the pod is deleted, evicted or past its deadline
_EXIT = re.compile(r"\(exit code (\d+)\)")  # Argo: "main: Error (exit code 143)"


def by_pod(pod: dict[str, Any], message: str, events: Iterable[dict[str, Any]]) -> bool:
    """Of a failed pod that is still there. `message`: Argo's of its node; `events`: of the pod."""
    status, reasons = pod["status"], _reasons(events)
    ended = [one["state"]["terminated"] for one in _containers(status) if "terminated" in one["state"]]
    said = (message, status.get("message", ""), status.get("reason", ""), *(one.get("reason", "") for one in ended))
    if _OWN.search("\n".join(said)):
        return False
    disrupted = any(
        one["type"] == "DisruptionTarget" and one["status"] == "True" for one in status.get("conditions", [])
    )
    if disrupted or status.get("reason") in _REASONS or reasons.intersection(_EVENTS) or _TAKEN.match(message):
        return True
    signalled = any(one.get("exitCode") in SIGNALLED for one in ended)
    return signalled and ("deletionTimestamp" in pod["metadata"] or _STOPPED in reasons)


def by_node(message: str, events: Iterable[dict[str, Any]], others: bool) -> bool:
    """Of a failed pod that is not there, or cannot be asked. `others`: whether other pods of the run are there."""
    reasons = _reasons(events)
    if _OWN.search(message):
        return False
    if _TAKEN.match(message) or reasons.intersection(_EVENTS):
        return True
    found = _EXIT.search(message)
    code = int(found[1]) if found else 0
    # Argo names its own reasons to end a container, and no stage sends itself SIGTERM: what is left is the kubelet,
    # which was told that the pod must go. SIGKILL may be the kernel's too, for memory.
    return code == 143 or (code in SIGNALLED and (others or _STOPPED in reasons))


def told(pod: dict[str, Any], events: Iterable[dict[str, Any]]) -> list[str]:
    """What the cluster says of why the pod had to go."""
    conditions = pod.get("status", {}).get("conditions", [])
    found = [
        f"{one.get('reason', 'disrupted')}: {one.get('message', '')}".rstrip(": ")
        for one in conditions
        if one["type"] == "DisruptionTarget" and one["status"] == "True"
    ]
    found += [f"{one['reason']}: {one.get('message', '')}" for one in events if one["reason"] in (*_EVENTS, _STOPPED)]
    if pod.get("metadata", {}).get("deletionTimestamp"):
        found.append(f"pod {pod['metadata']['name']} was deleted")
    return found


def _reasons(events: Iterable[dict[str, Any]]) -> set[str]:
    """Without an eviction that was called off, which has the same reason."""
    return {event["reason"] for event in events if not str(event.get("message", "")).startswith("Cancelling")}


def _containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
