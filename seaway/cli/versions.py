"""`seaway versions`: what the volume holds."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import cluster, options

if TYPE_CHECKING:
    from seaway.kube.rollout import Serving


def versions(
    volume: options.Volume = options.DEFAULT_VOLUME,
    prune: Annotated[
        int | None, typer.Option(help="Remove of each model all but the newest so many, and those with a label.", min=1)
    ] = None,
    namespace: Annotated[
        str, typer.Option(help="Of the cluster that serves this volume: what it serves is shown, and never removed.")
    ] = "",
    context: cluster.Context = "",
) -> None:
    """Lists the models and versions of a volume, with their labels, accuracy and age.

    [bold]Examples[/bold]

      seaway versions --volume /models

      seaway versions --volume /models --prune 10

      seaway versions --volume /models --namespace seaway
    """
    from rich.console import Console
    from rich.table import Table

    from seaway.artifacts import store

    on_cluster = bool(namespace or context)
    namespace = cluster.where(namespace, context, volume)
    deployments = _deployments(namespace, context) if on_cluster else {}
    served_by = ["served by"] if on_cluster else []
    table = Table("model", "version", "labels", *served_by, "accuracy", "MB", "published", "digest")
    for name in store.models(volume):
        by = _by_version(deployments, name)
        if prune:
            gone = store.prune(volume, name, prune, by)
            typer.echo("".join(f"removed {name}/{version}\n" for version in gone), nl=False)
        labels = store.labels(volume, name)
        for version in reversed(store.versions(volume, name)):
            named = [", ".join(label for label, v in sorted(labels.items()) if v == version)]
            named += [", ".join(by.get(version, ()))] if on_cluster else []
            table.add_row(name, str(version), *named, *_described(volume, name, version))
    console = Console()
    if table.row_count:
        console.print(table)
        for deployment, found in deployments.items():
            for line in cluster.differs(volume, deployment, found, namespace):
                console.print(line, highlight=False, soft_wrap=True)
    else:
        console.print(f"{volume} holds no model yet. Make one: seaway run, or seaway ship")


def _described(volume: Path, name: str, version: int) -> tuple[str, str, str, str]:
    """Accuracy, MB, when it was published, digest."""
    from seaway.artifacts import store
    from seaway.errors import CardError

    folder = store.path(volume, name, version)
    try:
        card = store.read_card(volume, name, version)
        accuracy, digest = card.metrics.get("accuracy_savedmodel"), card.sha256[:12]
    except CardError:
        accuracy, digest = None, "no card: not published by Seaway"
    published = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
    return f"{accuracy:.2%}" if accuracy is not None else "", f"{_size(folder) / 1e6:.1f}", published, digest


def _deployments(namespace: str, context: str) -> "dict[str, Serving]":
    from seaway.kube import kube, rollout

    api = kube.connect(context)
    return {name: rollout.read(api, namespace, name) for name in (rollout.STABLE, rollout.CANARY)}


def _by_version(deployments: "dict[str, Serving]", model: str) -> dict[int, list[str]]:
    """version → the Deployments that serve it."""
    found: dict[int, list[str]] = {}
    for name, serving in deployments.items():
        if serving.model == model and serving.version is not None:
            found.setdefault(serving.version, []).append(name)
    return found


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
