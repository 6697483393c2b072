"""Every overlay and combination of manifests/, rendered and committed under tests/golden/manifests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
GOLDEN = ROOT / "tests" / "golden" / "manifests"

Object = dict[str, Any]


def load(name: str) -> list[Object]:
    return list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()))


NAMES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))
each = pytest.mark.parametrize("objects", [pytest.param(load(name), id=name) for name in NAMES])
SERVING = [name for name in NAMES if name not in ("rbac", "training", "kserve")]
each_serving = pytest.mark.parametrize("objects", [pytest.param(load(name), id=name) for name in SERVING])


def of_kind(objects: list[Object], *kinds: str) -> dict[str, Object]:
    """Returns name → object."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] in kinds}


def deployments(objects: list[Object], app: str = "") -> dict[str, Object]:
    """Returns name → Deployment. `app`: only those whose pods have that app.kubernetes.io/name."""
    every = of_kind(objects, "Deployment")
    return {name: made for name, made in every.items() if not app or labels(made)["app.kubernetes.io/name"] == app}


def labels(deployment: Object) -> dict[str, str]:
    """Returns the labels of its pods."""
    return dict(deployment["spec"]["template"]["metadata"]["labels"])


def pod(deployment: Object) -> Object:
    return dict(deployment["spec"]["template"]["spec"])


def containers(deployment: Object) -> Iterator[Object]:
    """Yields all containers, init containers first."""
    spec = pod(deployment)
    yield from spec.get("initContainers", [])
    yield from spec["containers"]


def selected(selector: dict[str, str], objects: list[Object]) -> list[Object]:
    """Returns the Deployments whose pods the selector matches."""
    return [made for made in deployments(objects).values() if selector.items() <= labels(made).items()]


def environment(objects: list[Object], container: Object) -> dict[str, str]:
    """Returns a container's environment, with "" for values that only a running pod has."""
    maps = of_kind(objects, "ConfigMap")
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= maps[source["configMapRef"]["name"]]["data"]
    return variables | {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
