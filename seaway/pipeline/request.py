"""What is asked of Kubeflow: a compiled pipeline and the values of its parameters, checked before anything is sent."""

import copy
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from seaway.errors import InvalidInput


@dataclass(frozen=True)
class Compiled:
    """A pipeline as its IR: `spec`, and `platform`, what it asks of Kubernetes."""

    spec: dict[str, Any]
    platform: dict[str, Any]

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Parameter → its type and default, as the IR has them."""
        found: dict[str, dict[str, Any]] = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return found


@dataclass(frozen=True)
class Request:
    """`experiment`: "" for the default one; `namespace`: of a Kubeflow with profiles; `service_account`: "" for
    Kubeflow's own."""

    name: str
    pipeline: Compiled
    arguments: dict[str, Any]
    experiment: str = ""
    namespace: str = ""
    service_account: str = ""


def compiled(pipeline: str, registry: str, claim: str, cached: bool = True) -> Compiled:
    """The pipeline, by its name or its file, as `seaway compile` would write it."""
    import yaml

    from seaway.pipeline.compile import compile_pipeline

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(pipeline, file, registry, claim, cached)
        return Compiled(*yaml.safe_load_all(file.read_text(encoding="utf-8")))


def private(pipeline: Compiled, key: str) -> Compiled:
    """The pipeline with a cache of its own: stages that may be cached answer runs with the same `key` alone.

    Kubeflow puts the component's name to the key. For runs that no older result may answer, and that may be submitted
    again.
    """
    spec = copy.deepcopy(pipeline.spec)
    for dag in (spec.get("root", {}), *spec.get("components", {}).values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            if task.get("cachingOptions", {}).get("enableCache"):
                task["cachingOptions"]["cacheKey"] = key
    return Compiled(spec, pipeline.platform)


def stages(spec: Mapping[str, Any]) -> list[str]:
    """All tasks of an IR that are containers, in whatever DAG."""
    components = spec.get("components", {})
    dags = [spec.get("root", {}), *components.values()]
    tasks = {name: task for dag in dags for name, task in dag.get("dag", {}).get("tasks", {}).items()}
    return [name for name, task in tasks.items() if "executorLabel" in components[task["componentRef"]["name"]]]


def arguments(
    inputs: Mapping[str, Mapping[str, Any]], given: Sequence[str], known: Collection[str] = ()
) -> dict[str, Any]:
    """["epochs=2"] as {"epochs": 2}, each value of the type that the pipeline declares.

    Raises InvalidInput for what is not NAME=VALUE, a name that is not there, a value of another type, and where one
    is missing that has no default and is not `known` otherwise.
    """
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            raise InvalidInput(f"--param {text!r}: give NAME=VALUE, as epochs=2")
        if name not in inputs:
            near = get_close_matches(name, inputs, 1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(inputs))}"
            raise InvalidInput(f"--param {name}: the pipeline has no such parameter; {meant}")
        values[name] = _value(name, value, str(inputs[name]["parameterType"]))
    missing = [
        name for name, one in sorted(inputs.items()) if not one.get("isOptional") and name not in {*values, *known}
    ]
    if missing:
        raise InvalidInput(f"the pipeline needs {', '.join(missing)}: give --param {missing[0]}=VALUE")
    return values


def check_load(inputs: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> None:
    """Raises InvalidInput for a load test that its stage would refuse hours later; by the stage's own function.

    A pipeline of the user's own that has other parameters for it is left to its stage.
    """
    if not inputs.keys() >= set(_LOAD):
        return
    from seaway.load import gate

    limits, users, rate, seconds = (given.get(name, inputs[name].get("defaultValue")) for name in _LOAD)
    gate.of_stage(limits or {}, int(users or 0), float(rate or 0), int(seconds or 0))


_LOAD = ("load_limits", "load_users", "load_rate", "load_seconds")


def _value(name: str, text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    wanted, types = _TYPES[kind]
    try:
        value = json.loads(text, parse_constant=str)  # NaN and Infinity are no numbers of JSON's
    except ValueError:
        value = None
    if type(value) not in types:
        raise InvalidInput(f"--param {name}={text}: {wanted}")
    return value


_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "NUMBER_INTEGER": ("a whole number is wanted, as 2", (int,)),
    "NUMBER_DOUBLE": ("a number is wanted, as 0.5", (int, float)),
    "BOOLEAN": ("true or false is wanted", (bool,)),
    "LIST": ("a list is wanted as JSON, as '[\"3x224x224\"]'", (list,)),
    "STRUCT": ('an object is wanted as JSON, as \'{"p99_ms": "50"}\'', (dict,)),
}
