"""Argo Workflows' nodes, which make up a Kubeflow run: parses their names and reads their status."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NODE_NAME = "workflows.argoproj.io/node-name"  # annotation of a pod: WORKFLOW(0).root(0).….STAGE(0).executor(0)
GROUP, VERSION, PLURAL = "argoproj.io", "v1alpha1", "workflows"
FAILED = ("Failed", "Error")
_PART = re.compile(r"(.*?)(?:\((\d+)\))?")
_EXECUTOR, _DRIVER = "executor", "-driver"


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node's parsed name.

    `stage`: e.g. "train", or "" for a bare "executor"; `driver`: whether the pod prepares the stage; `executor`:
    whether the stage runs in it; `attempts`: attempt numbers by level, outermost first; `numbered`: whether the last
    level has one.
    """

    stage: str
    driver: bool
    executor: bool
    attempts: tuple[int, ...]
    numbered: bool

    @property
    def label(self) -> str:
        """The stage's name for display."""
        return f"{self.stage} (its driver)" if self.driver else self.stage


def parse_name(text: str) -> NodeName:
    """Parses a node's full name or its last part: with a retryStrategy Argo has "train" and, below it, "train(0)"."""
    matches = [_PART.fullmatch(part) for part in text.split(".")]
    parts = [(match[1], match[2]) for match in matches if match]
    executor = parts[-1][0] == _EXECUTOR
    stage = parts[-1][0] if not executor else parts[-2][0] if len(parts) > 1 else ""
    return NodeName(
        stage.removesuffix(_DRIVER),
        stage.endswith(_DRIVER),
        executor,
        tuple(int(number) for _, number in parts if number is not None),
        parts[-1][1] is not None,
    )


@dataclass(frozen=True, slots=True)
class Node:
    """A pod's node. `id`: WORKFLOW-NUMBER; `name`: its full name; `phase`, `message`: as Argo reports them."""

    id: str
    name: str
    phase: str
    message: str

    @property
    def failed(self) -> bool:
        return self.phase in FAILED


def newest_nodes(workflow: Mapping[str, Any]) -> dict[str, Node]:
    """Returns stage → the pod node of its newest attempt, in start order; {} if the workflow lists no nodes."""
    nodes = (workflow.get("status") or {}).get("nodes") or {}
    pod_nodes = [node for node in nodes.values() if node.get("type") == "Pod"]
    pod_nodes.sort(key=lambda node: (str(node.get("startedAt") or ""), parse_name(node["name"]).attempts))
    newest = {}
    for node in pod_nodes:
        newest[parse_name(node["name"]).label] = Node(
            str(node.get("id", "")), node["name"], str(node.get("phase", "")), str(node.get("message") or "")
        )
    return newest
