"""What the Kubernetes manifests take from the code, and what they come to: `python -m seaway.pipeline.manifests`.

Writes manifests/images/kustomization.yaml, the Component that gives our images their tags. With `--golden DIR` it also
renders every overlay and combination there, with kubectl, for the tests to look at where there is no kubectl.
"""

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from seaway import errors
from seaway.artifacts import atomic
from seaway.errors import InvalidInput
from seaway.pipeline.images import REGISTRY, image

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
TAGS = MANIFESTS / "images" / "kustomization.yaml"
STAGES = ("serve", "load", "train")  # what the manifests run
STAND_IN = ":python3.11-000000000000"  # in golden files, which need not change whenever the code does

_HEAD = """\
# Written by `python -m seaway.pipeline.manifests`: seaway/pipeline/images.py is where tags are chosen.
# List this Component last, for a Component sees what comes before it.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
"""


def tags(registry: str = REGISTRY) -> str:
    """The Component's text: manifests say "seaway/serve", this which image that is."""
    entries = []
    for stage in STAGES:
        name, _, tag = image(stage, registry).rpartition(":")
        entries.append(f"- name: seaway/{stage}\n  newName: {name}\n  newTag: {tag}\n")
    return _HEAD + "".join(entries)


def folders() -> Iterator[Path]:
    """Every overlay and combination, and what is applied by itself."""
    for parent in (MANIFESTS / "overlays", MANIFESTS / "combinations"):
        yield from sorted(path.parent for path in parent.glob("*/kustomization.yaml"))
    yield MANIFESTS / "rbac"
    yield MANIFESTS / "training"


def render(folder: Path, kubectl: str = "kubectl") -> str:
    """What `kubectl apply -k folder` would send, as YAML. Raises InvalidInput for what Kustomize refuses, OSError."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise InvalidInput(f"{folder.relative_to(MANIFESTS)}: {done.stderr.strip()}")
    return done.stdout


def golden(folder: Path, kubectl: str = "kubectl") -> str:
    """The same with a stand-in for the tags of our images."""
    return re.sub(r":python3\.11-[0-9a-f]{12}\b", STAND_IN, render(folder, kubectl))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m seaway.pipeline.manifests", description=__doc__)
    parser.add_argument("--registry", default=REGISTRY, help=f"where the images are (default: {REGISTRY})")
    parser.add_argument("--golden", type=Path, metavar="DIR", help="render every overlay and combination there as well")
    parser.add_argument("--kubectl", default="kubectl", help="the program that has Kustomize (default: kubectl)")
    given = parser.parse_args()
    with errors.exit_with_message("python -m seaway.pipeline.manifests"):
        with atomic.file(TAGS) as part:
            part.write_text(tags(given.registry), encoding="utf-8")
        if given.golden:
            rendered = {folder.name: golden(folder, given.kubectl) for folder in folders()}
            with atomic.folder(given.golden) as fresh:
                for name, text in rendered.items():
                    (fresh / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
