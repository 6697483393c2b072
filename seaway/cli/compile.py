"""`seaway compile`: compiles a pipeline to YAML for Kubeflow."""

from pathlib import Path
from typing import Annotated

import typer

from seaway.cli import options


def compile_(
    output: Annotated[Path, typer.Argument(help="The .yaml file to write.", dir_okay=False)],
    pipeline: options.Pipeline = "characters",
    registry: options.Registry = "seaway",
    claim: options.Claim = "seaway-models",
    tls_secret: options.TlsSecret = "",
) -> None:
    """Compiles a pipeline to YAML for Kubeflow Pipelines (KFP IR).

    [bold]Examples[/bold]

      seaway compile characters.yaml --registry ghcr.io/example

      seaway compile mine.yaml --pipeline mine.py
    """
    from seaway.pipeline.compile import compile_pipeline

    compile_pipeline(pipeline, output, registry, claim, tls_secret=tls_secret)
    typer.echo(f"wrote {output}")
