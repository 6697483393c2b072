"""`seaway versions`: the models and versions in the model repository."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import cluster, options

if TYPE_CHECKING:
    from seaway.kube.rollout import Serving


def versions(
    repository: options.Repository = options.DEFAULT_REPOSITORY,
    prune: Annotated[
        int | None,
        typer.Option(
            help="Delete old versions: keep the newest N of each model, and all that are labelled or deployed.", min=1
        ),
    ] = None,
    namespace: options.Namespace = "",
    context: options.Context = "",
) -> None:
    """Lists the models and versions in a model repository, with labels, accuracy, size and age.

    With --namespace (or --context) it also shows which Deployment serves each version; --prune keeps those.

    [bold]Examples[/bold]

      seaway versions --model-repository /models

      seaway versions --model-repository /models --prune 10

      seaway versions --model-repository /models --namespace seaway
    """
    from rich.console import Console
    from rich.table import Table

    from seaway.artifacts import model_repository

    on_cluster = bool(namespace or context)
    namespace = cluster.target_namespace(namespace, context, repository)
    deployments = _deployments(namespace, context) if on_cluster else {}
    served_by = ["Deployment"] if on_cluster else []
    table = Table("model", "version", "labels", *served_by, "accuracy", "MB", "published", "digest")
    for name in model_repository.models(repository):
        serving = _deployments_by_version(deployments, name)
        if prune:
            removed = model_repository.prune(repository, name, prune, serving)
            typer.echo("".join(f"removed {name}/{version}\n" for version in removed), nl=False)
        labels = model_repository.labels(repository, name)
        for version in reversed(model_repository.versions(repository, name)):
            cells = [", ".join(label for label, v in sorted(labels.items()) if v == version)]
            cells += [", ".join(serving.get(version, ()))] if on_cluster else []
            table.add_row(name, str(version), *cells, *_describe(repository, name, version))
    console = Console()
    if table.row_count:
        console.print(table)
        for deployment, state in deployments.items():
            for line in cluster.label_differences(repository, deployment, state, namespace):
                console.print(line, highlight=False, soft_wrap=True)
    else:
        console.print(f"{repository} has no models yet. Make one with seaway run or seaway ship")


def _describe(repository: Path, name: str, version: int) -> tuple[str, str, str, str]:
    """Accuracy, size in MB, date of publication, digest."""
    from seaway.artifacts import model_repository
    from seaway.errors import MetadataError

    folder = model_repository.path(repository, name, version)
    try:
        metadata = model_repository.read_metadata(repository, name, version)
        accuracy, digest = metadata.metrics.get("accuracy_savedmodel"), metadata.sha256[:12]
    except MetadataError:
        accuracy, digest = None, "no metadata: not published by Seaway"
    published = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
    return f"{accuracy:.2%}" if accuracy is not None else "", f"{_size(folder) / 1e6:.1f}", published, digest


def _deployments(namespace: str, context: str) -> "dict[str, Serving]":
    from seaway.kube import api_client, rollout

    api = api_client.connect(context)
    return {name: rollout.read(api, namespace, name) for name in (rollout.STABLE, rollout.CANARY)}


def _deployments_by_version(deployments: "dict[str, Serving]", model: str) -> dict[int, list[str]]:
    """version → the Deployments that serve it."""
    names: dict[int, list[str]] = {}
    for name, serving in deployments.items():
        if serving.model == model and serving.version is not None:
            names.setdefault(serving.version, []).append(name)
    return names


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
