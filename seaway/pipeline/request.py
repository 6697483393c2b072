"""Requests to Kubeflow: a compiled pipeline and the values of its parameters, checked before they are sent."""

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
class CompiledPipeline:
    """A pipeline's IR: `spec`, and `platform`, its Kubernetes settings."""

    spec: dict[str, Any]
    platform: dict[str, Any]

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Returns parameter → its type and default, as in the IR."""
        parameters: dict[str, dict[str, Any]] = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return parameters


@dataclass(frozen=True)
class Request:
    """A run to submit. `experiment`, `service_account`: "" for the default; `namespace`: if Kubeflow has profiles."""

    name: str
    pipeline: CompiledPipeline
    arguments: dict[str, Any]
    experiment: str = ""
    namespace: str = ""
    service_account: str = ""


def compiled(pipeline: str, registry: str, claim: str, cached: bool = True, tls_secret: str = "") -> CompiledPipeline:
    """Compiles the pipeline, a name or a file, as `seaway compile` does."""
    import yaml

    from seaway.pipeline.compile import compile_pipeline

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(pipeline, file, registry, claim, cached, tls_secret)
        return CompiledPipeline(*yaml.safe_load_all(file.read_text(encoding="utf-8")))


def with_own_cache(pipeline: CompiledPipeline, key: str) -> CompiledPipeline:
    """Returns the pipeline with a cache of its own: cached results are shared only between runs with the same `key`.

    Kubeflow adds the component's name to the key. For a run that must not reuse older results, but its own if it is
    submitted again.
    """
    spec = copy.deepcopy(pipeline.spec)
    for dag in (spec.get("root", {}), *spec.get("components", {}).values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            if task.get("cachingOptions", {}).get("enableCache"):
                task["cachingOptions"]["cacheKey"] = key
    return CompiledPipeline(spec, pipeline.platform)


def stages(spec: Mapping[str, Any]) -> list[str]:
    """Returns all container tasks of an IR, in any of its DAGs."""
    components = spec.get("components", {})
    dags = [spec.get("root", {}), *components.values()]
    tasks = {name: task for dag in dags for name, task in dag.get("dag", {}).get("tasks", {}).items()}
    return [name for name, task in tasks.items() if "executorLabel" in components[task["componentRef"]["name"]]]


def arguments(
    inputs: Mapping[str, Mapping[str, Any]], assignments: Sequence[str], known: Collection[str] = ()
) -> dict[str, Any]:
    """Parses ["epochs=2"] to {"epochs": 2}, with the types that the pipeline declares.

    Raises InvalidInput for text that is not NAME=VALUE, an unknown name, a value of another type, and a missing
    parameter that has no default and is not in `known`.
    """
    values = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            raise InvalidInput(f"--param {text!r}: give NAME=VALUE, e.g. epochs=2")
        if name not in inputs:
            similar = get_close_matches(name, inputs, 1)
            hint = f"did you mean {similar[0]}?" if similar else f"available: {', '.join(sorted(inputs))}"
            raise InvalidInput(f"--param {name}: the pipeline has no such parameter; {hint}")
        values[name] = _parse_value(name, value, str(inputs[name]["parameterType"]))
    missing = [
        name for name, one in sorted(inputs.items()) if not one.get("isOptional") and name not in {*values, *known}
    ]
    if missing:
        raise InvalidInput(f"the pipeline needs {', '.join(missing)}: give --param {missing[0]}=VALUE")
    return values


def check_load(inputs: Mapping[str, Mapping[str, Any]], arguments: Mapping[str, Any]) -> None:
    """Raises InvalidInput for settings of the stages `deploy` and `load` that they would refuse hours later.

    Does nothing for a user's own pipeline with other parameters; there the stages check them.
    """

    def value(name: str) -> Any:
        return arguments.get(name, inputs[name].get("defaultValue"))

    if not inputs.keys() >= set(_LOAD_PARAMETERS):
        return
    from seaway.load import addresses, gate

    limits, users, rate, duration_s = map(value, _LOAD_PARAMETERS)
    parsed, _ = gate.parse_stage_parameters(limits or {}, int(users or 0), float(rate or 0), int(duration_s or 0))
    if not inputs.keys() >= set(_ADDRESSES):
        return
    from seaway.client_tls import check_effect
    from seaway.deploy import deploy

    url, grpc_url, baseline, tls = (str(value(name) or "") for name in _ADDRESSES)
    deploy.check_url(url)
    addresses.check(url, grpc_url, baseline if parsed.slower is not None else "")
    if tls:
        check_effect([f"tls={tls}"], url)  # for `deploy`; `load` has further addresses


_LOAD_PARAMETERS = ("load_limits", "load_users", "load_rate", "load_duration_s")
_ADDRESSES = ("url", "grpc_url", "baseline", "tls")


def _parse_value(name: str, text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    expected, types = _JSON_TYPES[kind]
    try:
        value = json.loads(text, parse_constant=str)  # NaN and Infinity are not JSON numbers
    except ValueError:
        value = None
    if type(value) not in types:
        raise InvalidInput(f"--param {name}={text}: {expected}")
    return value


_JSON_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "NUMBER_INTEGER": ("expected an integer, e.g. 2", (int,)),
    "NUMBER_DOUBLE": ("expected a number, e.g. 0.5", (int, float)),
    "BOOLEAN": ("expected true or false", (bool,)),
    "LIST": ("expected a JSON list, e.g. '[\"3x224x224\"]'", (list,)),
    "STRUCT": ('expected a JSON object, e.g. \'{"p99_ms": "50"}\'', (dict,)),
}
