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
    name: Annotated[str, typer.Option(help="Only this model. Default: all.")] = "",
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

      seaway versions --name characters --prune 10

      seaway versions --model-repository /models --namespace seaway
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from seaway.artifacts import model_repository

    names = model_repository.models(repository)
    if name and name not in names:
        raise model_repository.no_model(repository, name)
    on_cluster = bool(namespace or context)
    namespace = cluster.target_namespace(namespace, context, repository)
    deployments = _deployments(namespace, context) if on_cluster else {}
    served_by = ["Deployment"] if on_cluster else []
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # all columns fit 80 characters
    table.add_column("version", overflow="fold")
    for heading in ("labels", *served_by, "accuracy", "MB", "published", "digest"):
        table.add_column(heading, no_wrap=True)
    for model in [name] if name else names:
        serving = _deployments_by_version(deployments, model)
        if prune:
            removed = model_repository.prune(repository, model, prune, serving)
            lines = [f"removed {model}/{version}" for version in removed] or [_kept_all(model, prune)]
            typer.echo("\n".join(lines))
        labels = model_repository.labels(repository, model)
        for version in reversed(model_repository.versions(repository, model)):
            cells = ["\n".join(label for label, v in sorted(labels.items()) if v == version)]
            cells += ["\n".join(serving.get(version, ()))] if on_cluster else []
            table.add_row(f"{model}/{version}", *cells, *_describe(repository, model, version))
    console = Console()
    if table.row_count:
        console.print(table)
        for deployment, state in deployments.items():
            for line in cluster.label_differences(repository, deployment, state, namespace, context):
                console.print(line, highlight=False, soft_wrap=True)
    else:
        console.print(f"{repository} has no models yet. Make one with seaway run or seaway ship")


def _kept_all(model: str, prune: int) -> str:
    return f"nothing to remove of {model}: every version is one of the newest {prune}, or labelled or deployed"


def _describe(repository: Path, name: str, version: int) -> tuple[str, str, str, str]:
    """Accuracy, size in MB, date of publication, digest."""
    from seaway.artifacts import model_repository
    from seaway.errors import MetadataError

    folder = model_repository.path(repository, name, version)
    try:
        metadata = model_repository.read_metadata(repository, name, version)
        accuracy, digest = metadata.metrics.get("accuracy_savedmodel"), metadata.sha256[:12]
    except MetadataError:
        accuracy, digest = None, "no metadata"
    published = time.strftime("%Y-%m-%d", time.localtime(folder.stat().st_mtime))
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
