"""Generates and renders the Kubernetes manifests: `python -m seaway.pipeline.manifests`.

Writes manifests/images/kustomization.yaml, the Component that sets the tags of Seaway's images. With `--golden DIR` it
also renders every overlay and combination there with kubectl, so that tests can read them without kubectl.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.artifacts import atomic
from seaway.errors import InvalidInput
from seaway.pipeline.images import REGISTRY, image

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
TAGS = MANIFESTS / "images" / "kustomization.yaml"
STAGES = ("serve", "load", "train")  # images in the manifests
PLACEHOLDER_TAG = ":python3.11-000000000000"  # in golden files, so that they do not change with the code

_HEAD = """\
# Written by `python -m seaway.pipeline.manifests`; seaway/pipeline/images.py computes the tags.
# List this Component last, because a Component changes only what comes before it.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
"""


def tags(registry: str = REGISTRY) -> str:
    """Returns the Component, which maps image names such as "seaway/serve" to image references."""
    entries = []
    for stage in STAGES:
        name, _, tag = image(stage, registry).rpartition(":")
        entries.append(f"- name: seaway/{stage}\n  newName: {name}\n  newTag: {tag}\n")
    return _HEAD + "".join(entries)


def kustomizations() -> Iterator[Path]:
    """Yields every overlay and combination, and the folders that are applied by themselves."""
    for parent in (MANIFESTS / "overlays", MANIFESTS / "combinations"):
        yield from sorted(path.parent for path in parent.glob("*/kustomization.yaml"))
    yield MANIFESTS / "rbac"
    yield MANIFESTS / "training"
    yield MANIFESTS / "kserve"


def render(folder: Path, kubectl: str = "kubectl") -> str:
    """Returns the YAML that `kubectl apply -k folder` would send. Raises InvalidInput if Kustomize fails, OSError."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise InvalidInput(f"{folder.relative_to(MANIFESTS)}: {done.stderr.strip()}")
    return done.stdout


def golden(folder: Path, kubectl: str = "kubectl") -> str:
    """Returns the same with a placeholder for the tags of Seaway's images."""
    return re.sub(r":python3\.11-[0-9a-f]{12}\b", PLACEHOLDER_TAG, render(folder, kubectl))


def main() -> None:
    parser = ArgumentParser(prog="python -m seaway.pipeline.manifests", description=__doc__)
    parser.add_argument("--registry", default=REGISTRY, help=f"registry of the images (default: {REGISTRY})")
    parser.add_argument("--golden", type=Path, metavar="DIR", help="also render every overlay and combination there")
    parser.add_argument("--kubectl", default="kubectl", help="the kubectl program (default: kubectl)")
    args = parser.parse_args()
    with errors.exit_with_message("python -m seaway.pipeline.manifests"):
        with atomic.file(TAGS) as part:
            part.write_text(tags(args.registry), encoding="utf-8")
        if args.golden:
            rendered = {folder.name: golden(folder, args.kubectl) for folder in kustomizations()}
            with atomic.folder(args.golden) as fresh:
                for name, text in rendered.items():
                    (fresh / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
