"""What every overlay and combination of manifests/ comes to, as committed under tests/golden/manifests."""

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
SERVING = [name for name in NAMES if name not in ("rbac", "training")]
each_serving = pytest.mark.parametrize("objects", [pytest.param(load(name), id=name) for name in SERVING])


def of_kind(objects: list[Object], *kinds: str) -> dict[str, Object]:
    """By name."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] in kinds}


def deployments(objects: list[Object], app: str = "") -> dict[str, Object]:
    """By name; `app`: those whose pods bear that app.kubernetes.io/name."""
    found = of_kind(objects, "Deployment")
    return {name: made for name, made in found.items() if not app or labels(made)["app.kubernetes.io/name"] == app}


def labels(deployment: Object) -> dict[str, str]:
    """Of its pods."""
    return dict(deployment["spec"]["template"]["metadata"]["labels"])


def pod(deployment: Object) -> Object:
    return dict(deployment["spec"]["template"]["spec"])


def containers(deployment: Object) -> Iterator[Object]:
    """All, those that only begin among them."""
    spec = pod(deployment)
    yield from spec.get("initContainers", [])
    yield from spec["containers"]


def chosen(selector: dict[str, str], objects: list[Object]) -> list[Object]:
    """The Deployments whose pods these labels choose."""
    return [made for made in deployments(objects).values() if selector.items() <= labels(made).items()]


def environment(objects: list[Object], container: Object) -> dict[str, str]:
    """What a container's environment holds, but for what only a running pod knows."""
    maps = of_kind(objects, "ConfigMap")
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]["data"]
    return found | {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
