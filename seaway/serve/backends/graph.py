"""A SavedModel's graph and functions, analysed statically: which operators run, and whether they may.

Nothing here runs the graph or recurses, because a graph may be crafted to harm its reader.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seaway.errors import ModelError
from seaway.serve.backends import operators

MAX_NODES = 4_000_000  # after inlining all functions, as TensorFlow does

# Operators that may read files while a version is loaded → the input that is the path
_FILE_READERS = {
    "RestoreV2": 0,
    "Restore": 0,
    "RestoreSlice": 0,
    "InitializeTableFromTextFileV2": 1,
    "InitializeTableFromTextFile": 1,
}
_FOREIGN_PATH = "reads a file whose path the server did not supply, so it may be outside the version's folder"
_CALL_OPS = ("PartitionedCall", "StatefulPartitionedCall")
VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
MAX_OUTPUT = 1000  # index of a tensor that is fed
_IDENTITY_OPS = ("Identity", "PlaceholderWithDefault")


class Graph:
    """The nodes of one graph and of its functions. `scope` is a function's name, or "" for the graph itself."""

    def __init__(self, file: Path, definition: Any, allowed: frozenset[str]) -> None:
        self._file, self._allowed, self._definition = file, allowed, definition
        self._bodies = {f.signature.name: f for f in definition.library.function}
        self._nodes = {"": {node.name: node for node in definition.node}}
        self._nodes |= {name: {node.name: node for node in f.node_def} for name, f in self._bodies.items()}
        self._gradients = {g.function_name: g.gradient_func for g in definition.library.gradient}
        listed = [definition.node, *(f.node_def for f in definition.library.function)]
        if [len(nodes) for nodes in self._nodes.values()] != [len(nodes) for nodes in listed]:
            raise self._error("two nodes or two functions have the same name")
        self._called: dict[str, Counter[str]] = {}  # function → the functions that it calls, and how often
        self._used_functions: set[str] = set()

    def _error(self, problem: str) -> ModelError:
        return ModelError(f"{self._file}: {problem}; convert the model again")

    def reach(self, starts: Iterable[str], fed: set[str], subject: str) -> set[str]:
        """Names of the nodes that run when the tensors `fed` are fed and `starts` are fetched."""
        nodes, reached = self._nodes[""], set[str]()
        pending = list(starts)
        while pending:
            tensor = pending.pop()
            name = node_of(tensor)
            if name in reached or (not tensor.startswith("^") and full_name(tensor) in fed):
                continue
            if name not in nodes:
                raise self._error(f"{subject} needs node {name!r}, which is missing")
            reached.add(name)
            pending += nodes[name].input
        return reached

    def check(self, reached: set[str], subject: str, own_paths: set[str] | None) -> frozenset[str]:
        """Operators in `reached` and in the functions that it calls. Raises ModelError for a refused one.

        `own_paths` are the tensors that are fed with the version's own paths; None if no file may be read.
        """
        functions = self._functions(reached, subject)
        self._used_functions |= functions
        callers = self._callers(reached, functions) if own_paths is not None else {}
        ops: set[str] = set()
        for scope in ("", *sorted(functions)):
            names = reached if scope == "" else self._nodes[scope].keys()
            for name in names:
                node = self._nodes[scope][name]
                ops.add(node.op)
                if node.op in self._bodies or node.op in self._allowed:
                    continue
                if not operators.is_known(node.op):
                    raise ModelError(
                        f"{self._file}: {subject} reaches operator {node.op!r}, which this TensorFlow does not know; "
                        "the operators of other packages, such as TensorFlow Text, cannot be served"
                    )
                if own_paths is not None and node.op in _FILE_READERS:
                    reason = "" if self._reads_own_path(node, scope, own_paths, callers) else _FOREIGN_PATH
                else:
                    reason = operators.refusal_reason(node)
                if reason:
                    raise self._refused(node, scope, subject, reason)
        return frozenset(ops)

    def variables(self, names: set[str]) -> set[str]:
        """The names under which the variables among these nodes are shared."""
        nodes = (self._nodes[""][name] for name in names)
        return {_shared_name(node) for node in nodes if node.op in VARIABLES}

    def check_loading(self, operator: str, own_paths: set[str], subject: str) -> set[str]:
        reached = self.reach([f"^{operator}"], own_paths, subject)
        self.check(reached, subject, own_paths)
        return reached

    def _refused(self, node: Any, scope: str, subject: str, reason: str) -> ModelError:
        where = f"node {node.name!r}{f' of function {scope!r}' if scope else ''}"
        return ModelError(
            f"{self._file}: {subject} reaches operator {node.op} ({where}), which {reason}; "
            f"if you trust this model, serve it with --allow-op {node.op}"
        )

    def _functions(self, reached: set[str], subject: str) -> set[str]:
        """All functions called from `reached`. Raises ModelError for a missing, recursive or oversized one."""
        start = Counter[str]()
        for name in reached:
            start.update(self._calls(self._nodes[""][name]))
        sizes: dict[str, int] = {}
        in_progress: set[str] = set()
        pending = [(name, False) for name in start]
        while pending:
            name, visited = pending.pop()
            if visited:
                in_progress.discard(name)
                inner = sum(sizes[called] * times for called, times in self._called[name].items())
                sizes[name] = min(len(self._nodes[name]) + inner, MAX_NODES + 1)
                continue
            if name in sizes:
                continue
            if name in in_progress:
                raise self._error(f"{subject} reaches function {name!r}, which calls itself")
            if name not in self._bodies:
                raise self._error(f"{subject} calls function {name!r}, which is missing")
            if name not in self._called:
                self._called[name] = Counter(c for node in self._bodies[name].node_def for c in self._calls(node))
            in_progress.add(name)
            pending.append((name, True))
            pending += [(called, False) for called in self._called[name] if called not in sizes]
        if sum(sizes[name] * times for name, times in start.items()) > MAX_NODES:
            raise self._error(f"{subject} has more than {MAX_NODES} nodes once its functions are inlined")
        return set(sizes)

    def _calls(self, node: Any) -> list[str]:
        """Functions that a node may call."""
        called = [node.op] if node.op in self._bodies else []
        values = list(node.attr.values())
        while values:
            value = values.pop()
            for func in [value.func] if value.HasField("func") else value.list.func:
                called.append(func.name)
                values += func.attr.values()
        if node.op == "SymbolicGradient":
            called += [self._gradients[name] for name in called if name in self._gradients]
        return called

    def _callers(self, reached: set[str], functions: set[str]) -> dict[str, list[tuple[str, Any]]]:
        """Function → the nodes that call it, each with its scope."""
        callers: dict[str, list[tuple[str, Any]]] = {name: [] for name in functions}
        for scope in ("", *functions):
            for name in reached if scope == "" else self._nodes[scope].keys():
                for called in self._calls(self._nodes[scope][name]):
                    callers[called].append((scope, self._nodes[scope][name]))
        return callers

    def _reads_own_path(
        self, node: Any, scope: str, own_paths: set[str], callers: dict[str, list[tuple[str, Any]]]
    ) -> bool:
        """Whether the path that a node reads comes from `own_paths`, through any number of calls."""
        pending, seen = [(scope, _input(node, _FILE_READERS[node.op]))], set[tuple[str, str]]()
        while pending:
            place = pending.pop()
            if place in seen:
                continue
            seen.add(place)
            current_scope, tensor = place
            if not current_scope and full_name(tensor) in own_paths:
                continue
            source = self._nodes[current_scope].get(node_of(tensor))
            if source is not None and source.op in _IDENTITY_OPS:
                pending.append((current_scope, _input(source, 0)))
                continue
            if source is not None and source.op == "ReadVariableOp" and not current_scope:
                assigned = self._assigned(node_of(_input(source, 0)))
                if not assigned:
                    return False
                pending += [("", tensor) for tensor in assigned]
                continue
            declared = self._bodies[current_scope].signature.input_arg if current_scope else []
            arguments = [arg.name for arg in declared]
            if (
                source is not None
                or tensor not in arguments
                or any(a.number_attr or a.type_list_attr for a in declared)
            ):
                return False
            if any(caller.op not in _CALL_OPS for _, caller in callers[current_scope]):
                return False
            pending += [
                (outside, _input(caller, arguments.index(tensor))) for outside, caller in callers[current_scope]
            ]
        return True

    def _assigned(self, handle: str) -> list[str]:
        """The tensors assigned to a variable of the graph, anywhere; empty if it may be used in any other way."""
        variable = self._nodes[""].get(handle)
        if variable is None or variable.op != "VarHandleOp":
            return []
        nodes = [node for scope in self._nodes.values() for node in scope.values()]
        if sum(node.op == "VarHandleOp" and _shared_name(node) == _shared_name(variable) for node in nodes) != 1:
            return []
        assigned = []
        for user in self._nodes[""].values():
            if handle not in [node_of(name) for name in user.input if not name.startswith("^")]:
                continue
            if user.op == "AssignVariableOp":
                assigned.append(_input(user, 1))
            elif user.op not in ("ReadVariableOp", "VarIsInitializedOp"):
                return []
        return assigned

    def pruned(self, kept: set[str], placeholders: dict[str, int]) -> Any:
        """A GraphDef of the nodes `kept`, with a placeholder for each fed tensor (name → type) that has none."""
        from tensorflow.core.framework.graph_pb2 import GraphDef

        graph = GraphDef(versions=self._definition.versions)
        fed: dict[str, dict[int, int]] = {}  # node → its outputs that are fed → their types
        for node in self._definition.node:
            if node.name in kept:
                _copy_without_device(graph.node.add(), node)
        for tensor, dtype in placeholders.items():
            name, _, index = tensor.rpartition(":")
            if name in kept:
                continue
            if name not in self._nodes[""] or not index.isdecimal() or int(index) > MAX_OUTPUT:
                raise self._error(f"tensor {tensor!r} is to be fed, but is missing")
            fed.setdefault(name, {})[int(index)] = dtype
        for name, dtypes in fed.items():
            _add_fed(graph, self._nodes[""][name], dtypes)
        for name, body in self._bodies.items():
            if name in self._used_functions:
                function = graph.library.function.add()
                function.CopyFrom(body)
                for node in function.node_def:
                    node.device = ""
        for gradient in self._definition.library.gradient:
            if {gradient.function_name, gradient.gradient_func} <= self._used_functions:
                graph.library.gradient.add().CopyFrom(gradient)
        return graph


def _copy_without_device(copy: Any, node: Any) -> None:
    """Removes device and colocation constraints: everything runs on this machine's CPU."""
    copy.CopyFrom(node)
    copy.device = ""
    copy.attr.pop("_class", None)


def _add_fed(graph: Any, node: Any, dtypes: dict[int, int]) -> None:
    """Adds a substitute for a node of which these outputs are fed (index → type), and no other is used."""
    if dtypes.keys() != {0}:
        several = graph.node.add(name=node.name, op="IdentityN")
        for index in range(max(dtypes) + 1):
            dtype = dtypes.get(index, dtypes[max(dtypes)])
            several.attr["T"].list.type.append(dtype)
            several.input.append(f"{node.name}/fed_{index}")
            graph.node.add(name=several.input[-1], op="Placeholder").attr["dtype"].type = dtype
    elif node.input:
        graph.node.add(name=node.name, op="Placeholder").attr["dtype"].type = dtypes[0]
    else:
        _copy_without_device(graph.node.add(), node)


def node_of(tensor: str) -> str:
    """The node's name in "^node", "node:0" and a function's "node:output:0"."""
    return tensor.removeprefix("^").partition(":")[0]


def full_name(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _shared_name(variable: Any) -> str:
    return variable.attr["shared_name"].s.decode("latin-1") or str(variable.name)


def _input(node: Any, position: int) -> str:
    inputs = [name for name in node.input if not name.startswith("^")]
    return str(inputs[position]) if position < len(inputs) else ""
