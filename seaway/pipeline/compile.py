"""Compiles a pipeline to KFP's IR, for a cluster: `seaway compile characters characters.yaml`."""

from pathlib import Path

from seaway.pipeline import cluster, definitions
from seaway.pipeline.images import REGISTRY


def compile_pipeline(
    pipeline: str, output: Path, registry: str = REGISTRY, claim: str = cluster.CLAIM, cached: bool = True
) -> None:
    """Writes the IR YAML of a pipeline, by its name or its file, to `output`; see definitions and cluster.pipeline."""
    from kfp import compiler

    whole = cluster.pipeline(definitions.pipeline(pipeline), registry, claim, cached)
    compiler.Compiler().compile(whole, str(output))
