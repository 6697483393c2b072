"""What the pods of a Kubeflow run tell: which stage failed or cannot begin, why, and its last words."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from seaway import stuck
from seaway.kube import as_json, explained

RUN = "pipeline/runid"  # the label that Kubeflow gives each pod of a run
NODE = "workflows.argoproj.io/node-name"  # the annotation that Argo gives it: WORKFLOW.root.….STAGE.executor
MAIN = "main"  # the container that the stage runs in
SHOWN = 10  # lines
LOOKED_AT = 500  # lines: a stage of few words, and all that is said before them
SECONDS = 30  # for an answer
_STAGE = re.compile(r"(?:([^.]+)\.executor|([^.]+?)(-driver)?)(?:\(\d+\))?$")
_NOT_THE_STAGE_S = re.compile(r"[IWEF]\d{4} |time=|\[KFP Executor ")  # of KFP's launcher, Argo, KFP's executor


@dataclass(frozen=True, slots=True)
class Trouble:
    """A stage whose newest pod failed, or cannot begin. `said`: the stage's own last lines."""

    stage: str
    pod: str
    failed: bool
    reasons: tuple[str, ...]
    said: tuple[str, ...]


def troubles(api: Any, namespace: str, run: str) -> list[Trouble]:
    """In the order in which the stages began. Raises Refused, Unavailable."""
    from kubernetes import client

    with explained(namespace, "pods"):
        listed = client.CoreV1Api(api).list_namespaced_pod(
            namespace, label_selector=f"{RUN}={run}", _request_timeout=SECONDS
        )
        found = as_json(api, listed)
    pods = sorted(found["items"], key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
    newest = {stage_of(pod): pod for pod in pods}  # of a stage that was tried again, the last attempt
    return [trouble for stage, pod in newest.items() for trouble in _trouble(api, namespace, stage, pod)]


def stage_of(pod: dict[str, Any]) -> str:
    """The stage's name; a driver of Kubeflow's, which prepares a stage, is named so."""
    metadata = pod["metadata"]
    found = _STAGE.search(metadata.get("annotations", {}).get(NODE, ""))
    if not found:
        return str(metadata["name"])
    return found[1] or f"{found[2]}{' (its driver)' if found[3] else ''}"


def _trouble(api: Any, namespace: str, stage: str, pod: dict[str, Any]) -> Iterator[Trouble]:
    name, status = pod["metadata"]["name"], pod["status"]
    failed = status.get("phase") == "Failed"
    if status.get("phase") == "Succeeded":
        return
    reasons = [*stuck.states(pod)]
    if failed and status.get("message"):  # as of an eviction
        reasons.insert(0, f"pod {name}: {status.get('reason', '')} {status['message']}".strip())
    if not reasons and not failed:
        return
    said = [*_own(stuck.last_words(api, namespace, name, MAIN, LOOKED_AT))] if failed else []
    yield Trouble(stage, name, failed, tuple(reasons or [f"pod {name} failed"]), tuple(said[-SHOWN:]))


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
