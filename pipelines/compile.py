"""Compiles the pipelines to KFP's IR, for a cluster: `python -m pipelines.compile characters characters.yaml`."""

import argparse
from pathlib import Path
from typing import Any

from kfp import compiler

from components.images import REGISTRY
from pipelines import cluster
from pipelines.characters import characters
from pipelines.ship import ship

PIPELINES: dict[str, Any] = {"characters": characters, "ship": ship}


def compile_pipeline(
    name: str, output: Path, registry: str = REGISTRY, claim: str = cluster.CLAIM, cached: bool = True
) -> None:
    """Writes the IR YAML of the named pipeline to `output`; see cluster.pipeline."""
    compiler.Compiler().compile(cluster.pipeline(PIPELINES[name], registry, claim, cached), str(output))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__)
    parser.add_argument("pipeline", choices=sorted(PIPELINES))
    parser.add_argument("output", type=Path, help="the .yaml file to write")
    parser.add_argument("--registry", default=REGISTRY, help="where the images are (default: %(default)s)")
    claim = "the PersistentVolumeClaim of the model volume, in the namespace of the run (default: %(default)s)"
    parser.add_argument("--claim", default=cluster.CLAIM, help=claim)
    given = parser.parse_args()
    compile_pipeline(given.pipeline, given.output, given.registry, given.claim)


if __name__ == "__main__":
    main()
