"""Argo Workflows' nodes, which a Kubeflow run consists of: whose they are, and what they say when a pod is gone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NODE = "workflows.argoproj.io/node-name"  # the annotation of a pod: WORKFLOW(0).root(0).….STAGE(0).executor(0)
GROUP, VERSION, PLURAL = "argoproj.io", "v1alpha1", "workflows"
FAILED = ("Failed", "Error")
_PART = re.compile(r"(.*?)(?:\((\d+)\))?")
_EXECUTOR, _DRIVER = "executor", "-driver"


@dataclass(frozen=True, slots=True)
class Name:
    """`stage`: "train", or "" of a bare "executor"; `driver`: of the pod that prepares a stage; `executor`: of the one
    that it runs in; `attempts`: the levels' numbers, outermost first; `numbered`: whether the last level has one."""

    stage: str
    driver: bool
    executor: bool
    attempts: tuple[int, ...]
    numbered: bool

    @property
    def told(self) -> str:
        """The stage as a person reads it."""
        return f"{self.stage} (its driver)" if self.driver else self.stage


def name(text: str) -> Name:
    """Of a node's whole name or its last part: with a retryStrategy Argo has "train" and, below it, "train(0)"."""
    parts = [_PART.fullmatch(part) for part in text.split(".")]
    found = [(part[1], part[2]) for part in parts if part]
    executor = found[-1][0] == _EXECUTOR
    stage = found[-1][0] if not executor else found[-2][0] if len(found) > 1 else ""
    return Name(
        stage.removesuffix(_DRIVER),
        stage.endswith(_DRIVER),
        executor,
        tuple(int(number) for _, number in found if number is not None),
        found[-1][1] is not None,
    )


@dataclass(frozen=True, slots=True)
class Node:
    """A pod's node. `text`: the node's whole name; `phase`, `message`: as Argo has them; `id`: WORKFLOW-NUMBER."""

    id: str
    text: str
    phase: str
    message: str

    @property
    def failed(self) -> bool:
        return self.phase in FAILED


def pods(workflow: Mapping[str, Any]) -> dict[str, Node]:
    """Stage → the node of its newest attempt's pod, in the order in which they began; {} where there are no nodes."""
    found = (workflow.get("status") or {}).get("nodes") or {}
    own = [node for node in found.values() if node.get("type") == "Pod"]
    own.sort(key=lambda node: (str(node.get("startedAt") or ""), name(node["name"]).attempts))
    newest = {}
    for node in own:
        newest[name(node["name"]).told] = Node(
            str(node.get("id", "")), node["name"], str(node.get("phase", "")), str(node.get("message") or "")
        )
    return newest
