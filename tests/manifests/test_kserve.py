"""The runtime and service for KServe, against KServe's own schemas and the server's options."""

import argparse
import copy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from rendered import Object, load, of_kind
from restricted import violations

from seaway.serve import settings

SCHEMAS = Path(__file__).resolve().parents[3] / "shared" / "schemas" / "kserve"
FILES = {"ServingRuntime": "servingruntimes.yaml", "InferenceService": "inferenceservices.yaml"}
needs_schemas = pytest.mark.skipif(not SCHEMAS.exists(), reason="KServe's schemas are not here")


def schema(kind: str) -> tuple[str, dict[str, Any]]:
    """The kind's API version and schema, of KServe's commit aaac4e294dae, without unknown fields."""
    (definition,) = [
        found
        for found in yaml.safe_load_all((SCHEMAS / FILES[kind]).read_text())
        if found["spec"]["names"]["kind"] == kind
    ]
    version = definition["spec"]["versions"][0]
    found = version["schema"]["openAPIV3Schema"]
    found["properties"]["metadata"]["x-kubernetes-preserve-unknown-fields"] = True
    return f"{definition['spec']['group']}/{version['name']}", strict(found)


def strict(node: Any) -> Any:
    if isinstance(node, dict):
        if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("additionalProperties", False)
        return {key: strict(value) for key, value in node.items()}
    return [strict(value) for value in node] if isinstance(node, list) else node


def objects() -> dict[str, Object]:
    return {found["kind"]: found for found in load("kserve")}


@needs_schemas
@pytest.mark.parametrize("kind", FILES)
def test_each_fits_kserves_schema(kind: str) -> None:
    found = objects()[kind]
    version, fields = schema(kind)
    assert found["apiVersion"] == version
    jsonschema.validate(found, fields)


@needs_schemas
@pytest.mark.parametrize("path", [("spec", "container"), ("spec", "containers", 0, "imagee")], ids=str)
def test_the_schema_finds_faults(path: tuple[Any, ...]) -> None:
    broken = copy.deepcopy(objects()["ServingRuntime"])
    inner: Any = broken
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema("ServingRuntime")[1])


def as_pod() -> Object:
    """The pod that KServe makes of the two, without its storage initializer."""
    found = objects()
    runtime, service = found["ServingRuntime"]["spec"], found["InferenceService"]
    (container,) = copy.deepcopy(runtime["containers"])
    name = service["metadata"]["name"]
    container["args"] = [argument.replace("{{.Name}}", name) for argument in container["args"]]
    container["volumeMounts"] = [*container["volumeMounts"], {"name": "models", "mountPath": "/mnt/models"}]
    spec = {
        "containers": [container],
        "volumes": [*runtime["volumes"], {"name": "models", "emptyDir": {}}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_the_pod_is_valid_and_restricted() -> None:
    pod = as_pod()
    kubernetes_validate.validate(pod, "1.34", strict=True)
    assert not violations(pod["spec"])


def test_the_server_takes_its_arguments() -> None:
    (container,) = as_pod()["spec"]["containers"]
    python, module, name, *options = container["args"]
    assert (python, module, name) == ("python", "-m", "seaway.serve")
    parser = argparse.ArgumentParser()
    settings.add_options(parser)
    given = parser.parse_args(options)
    assert (given.model, given.port, given.grpc_port, given.admin_port) == ("characters", 8080, 9000, 8082)
    assert str(given.model_repository) == container["volumeMounts"][-1]["mountPath"]
    probed = {container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")}
    assert probed == {given.port, given.admin_port}
    assert container["ports"][0]["containerPort"] == given.port


def test_the_service_names_the_runtime_and_a_format_of_it() -> None:
    found = objects()
    model = found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["runtime"] == found["ServingRuntime"]["metadata"]["name"]
    formats = {(one["name"], one["version"]) for one in found["ServingRuntime"]["spec"]["supportedModelFormats"]}
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats
    assert model["storageUri"].startswith(f"pvc://{next(iter(of_kind(load('kind'), 'PersistentVolumeClaim')))}/")
