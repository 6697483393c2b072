"""A SavedModel's graph with its functions, as written: what runs when something is asked of it, and whether it may.

Nothing is run here, and nothing recurses: a graph may be made to harm whoever reads it.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seaway.errors import ModelError
from seaway.serve.backends import operators

MOST_NODES = 4_000_000  # once every call of a function is replaced by its nodes, as TensorFlow does

# What may read files while a version is loaded: operator → which input is the path
_LOADING = {
    "RestoreV2": 0,
    "Restore": 0,
    "RestoreSlice": 0,
    "InitializeTableFromTextFileV2": 1,
    "InitializeTableFromTextFile": 1,
}
_ELSEWHERE = "reads a file whose path the server did not give it, so it may lie outside the version's folder"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_IDENTITIES = ("Identity", "PlaceholderWithDefault")


class Graph:
    """The nodes of one graph and of its functions. `scope` is a function's name, or "" for the graph itself."""

    def __init__(self, file: Path, definition: Any, allowed: frozenset[str]) -> None:
        self._file, self._allowed, self._definition = file, allowed, definition
        self._bodies = {f.signature.name: f for f in definition.library.function}
        self._nodes = {"": {node.name: node for node in definition.node}}
        self._nodes |= {name: {node.name: node for node in f.node_def} for name, f in self._bodies.items()}
        self._gradients = {g.function_name: g.gradient_func for g in definition.library.gradient}
        stated = [definition.node, *(f.node_def for f in definition.library.function)]
        if [len(nodes) for nodes in self._nodes.values()] != [len(nodes) for nodes in stated]:
            raise self._broken("two nodes or two functions have the same name")
        self._called: dict[str, Counter[str]] = {}  # function → those that it calls, and how often
        self._kept_functions: set[str] = set()

    def _broken(self, what: str) -> ModelError:
        return ModelError(f"{self._file}: {what}; convert the model again")

    def reach(self, starts: Iterable[str], fed: set[str], what: str) -> set[str]:
        """Names of the graph's nodes that run when `starts` are asked and the tensors `fed` are given."""
        nodes, found = self._nodes[""], set[str]()
        waiting = list(starts)
        while waiting:
            tensor = waiting.pop()
            name = node_of(tensor)
            if name in found or (not tensor.startswith("^") and full(tensor) in fed):
                continue
            if name not in nodes:
                raise self._broken(f"{what} needs node {name!r}, which is not there")
            found.add(name)
            waiting += nodes[name].input
        return found

    def check(self, reached: set[str], what: str, loading: set[str] | None) -> frozenset[str]:
        """Names of the operators in `reached` and in the functions that it calls. Raises ModelError for those refused.

        `loading` are the tensors that are given the version's own paths; None where no file may be read.
        """
        functions = self._functions(reached, what)
        self._kept_functions |= functions
        callers = self._callers(reached, functions) if loading is not None else {}
        found: set[str] = set()
        for scope in ("", *sorted(functions)):
            names = reached if scope == "" else self._nodes[scope].keys()
            for name in names:
                node = self._nodes[scope][name]
                found.add(node.op)
                if node.op in self._bodies or node.op in self._allowed:
                    continue
                if not operators.known(node.op):
                    raise self._broken(f"{what} reaches operator {node.op!r}, which this TensorFlow does not know")
                if loading is not None and node.op in _LOADING:
                    why = "" if self._own_path(node, scope, loading, callers) else _ELSEWHERE
                else:
                    why = operators.why_refused(node)
                if why:
                    raise self._refused(node, scope, what, why)
        return frozenset(found)

    def check_loading(self, operator: str, given: set[str], what: str) -> set[str]:
        reached = self.reach([f"^{operator}"], given, what)
        self.check(reached, what, given)
        return reached

    def _refused(self, node: Any, scope: str, what: str, why: str) -> ModelError:
        where = f"node {node.name!r}{f' of function {scope!r}' if scope else ''}"
        return ModelError(
            f"{self._file}: {what} reaches operator {node.op} ({where}), which {why}; "
            f"if you trust this model, serve it with --allow-op {node.op}"
        )

    def _functions(self, reached: set[str], what: str) -> set[str]:
        """The functions called from there. Raises ModelError where one is missing, calls itself, or grows too large."""
        start = Counter[str]()
        for name in reached:
            start.update(self._calls(self._nodes[""][name]))
        sizes: dict[str, int] = {}
        open_: set[str] = set()
        waiting = [(name, False) for name in start]
        while waiting:
            name, left = waiting.pop()
            if left:
                open_.discard(name)
                inner = sum(sizes[called] * times for called, times in self._called[name].items())
                sizes[name] = min(len(self._nodes[name]) + inner, MOST_NODES + 1)
                continue
            if name in sizes:
                continue
            if name in open_:
                raise self._broken(f"{what} reaches function {name!r}, which calls itself")
            if name not in self._bodies:
                raise self._broken(f"{what} calls function {name!r}, which is not there")
            if name not in self._called:
                self._called[name] = Counter(c for node in self._bodies[name].node_def for c in self._calls(node))
            open_.add(name)
            waiting.append((name, True))
            waiting += [(called, False) for called in self._called[name] if called not in sizes]
        if sum(sizes[name] * times for name, times in start.items()) > MOST_NODES:
            raise self._broken(f"{what} has more than {MOST_NODES} nodes once its functions are put in place")
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
        found: dict[str, list[tuple[str, Any]]] = {name: [] for name in functions}
        for scope in ("", *functions):
            for name in reached if scope == "" else self._nodes[scope].keys():
                for called in self._calls(self._nodes[scope][name]):
                    found[called].append((scope, self._nodes[scope][name]))
        return found

    def _own_path(self, node: Any, scope: str, given: set[str], callers: dict[str, list[tuple[str, Any]]]) -> bool:
        """Whether the path that a node reads comes from `given`, through whatever calls."""
        waiting, seen = [(scope, _input(node, _LOADING[node.op]))], set[tuple[str, str]]()
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            inside, tensor = at
            if not inside and full(tensor) in given:
                continue
            source = self._nodes[inside].get(node_of(tensor))
            if source is not None and source.op in _IDENTITIES:
                waiting.append((inside, _input(source, 0)))
                continue
            if source is not None and source.op == "ReadVariableOp" and not inside:
                assigned = self._assigned(node_of(_input(source, 0)))
                if not assigned:
                    return False
                waiting += [("", tensor) for tensor in assigned]
                continue
            declared = self._bodies[inside].signature.input_arg if inside else []
            arguments = [arg.name for arg in declared]
            if (
                source is not None
                or tensor not in arguments
                or any(a.number_attr or a.type_list_attr for a in declared)
            ):
                return False
            if any(caller.op not in _CALLS for _, caller in callers[inside]):
                return False
            waiting += [(outside, _input(caller, arguments.index(tensor))) for outside, caller in callers[inside]]
        return True

    def _assigned(self, handle: str) -> list[str]:
        """What a variable of the graph is set to, wherever that is; empty where something else may be done with it."""
        variable = self._nodes[""].get(handle)
        if variable is None or variable.op != "VarHandleOp":
            return []
        nodes = [node for scope in self._nodes.values() for node in scope.values()]
        if sum(node.op == "VarHandleOp" and _shared_name(node) == _shared_name(variable) for node in nodes) != 1:
            return []
        found = []
        for user in self._nodes[""].values():
            if handle not in [node_of(name) for name in user.input if not name.startswith("^")]:
                continue
            if user.op == "AssignVariableOp":
                found.append(_input(user, 1))
            elif user.op not in ("ReadVariableOp", "VarIsInitializedOp"):
                return []
        return found

    def trimmed(self, kept: set[str], placeholders: dict[str, int]) -> Any:
        """A GraphDef of the nodes `kept`, and of a placeholder for each fed tensor (name → type) that has none."""
        from tensorflow.core.framework.graph_pb2 import GraphDef

        graph = GraphDef(versions=self._definition.versions)
        for node in self._definition.node:
            if node.name in kept:
                _without_place(graph.node.add(), node)
        for tensor, dtype in placeholders.items():
            name, _, index = tensor.rpartition(":")
            if name in kept:
                continue
            node = self._nodes[""].get(name)
            if node is None or index != "0":
                raise self._broken(f"tensor {tensor!r} is to be given, but is not there, or not its node's first")
            if not node.input:
                _without_place(graph.node.add(), node)
            else:
                graph.node.add(name=name, op="Placeholder").attr["dtype"].type = dtype
        for name, body in self._bodies.items():
            if name in self._kept_functions:
                function = graph.library.function.add()
                function.CopyFrom(body)
                for node in function.node_def:
                    node.device = ""
        for gradient in self._definition.library.gradient:
            if {gradient.function_name, gradient.gradient_func} <= self._kept_functions:
                graph.library.gradient.add().CopyFrom(gradient)
        return graph


def _without_place(copy: Any, node: Any) -> None:
    """The one place is this machine's CPU, so what stood beside what is of no matter."""
    copy.CopyFrom(node)
    copy.device = ""
    copy.attr.pop("_class", None)


def node_of(tensor: str) -> str:
    """The node's name in "^node", "node:0" and a function's "node:output:0"."""
    return tensor.removeprefix("^").partition(":")[0]


def full(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _shared_name(variable: Any) -> str:
    return variable.attr["shared_name"].s.decode("latin-1") or str(variable.name)


def _input(node: Any, position: int) -> str:
    given = [name for name in node.input if not name.startswith("^")]
    return str(given[position]) if position < len(given) else ""
