"""Compiles a pipeline to KFP's IR for a cluster: `seaway compile characters.yaml --pipeline characters`."""

from pathlib import Path

from seaway.pipeline import cluster, definitions
from seaway.pipeline.images import REGISTRY


def compile_pipeline(
    pipeline: str,
    output: Path,
    registry: str = REGISTRY,
    claim: str = cluster.CLAIM,
    cached: bool = True,
    tls_secret: str = "",
) -> None:
    """Writes the IR YAML of `pipeline`, a name or a file, to `output`; see `definitions` and `cluster.pipeline`."""
    from kfp import compiler

    for_cluster = cluster.pipeline(definitions.pipeline(pipeline), registry, claim, cached, tls_secret)
    compiler.Compiler().compile(for_cluster, str(output))
