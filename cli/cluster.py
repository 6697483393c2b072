"""`seaway status`, `deploy`, `promote` and `rollback`: what is served in a namespace of a cluster, and changing it."""

from pathlib import Path
from typing import Annotated

import typer

from cli import options

Namespace = Annotated[str, typer.Option(help="Of the cluster, where the serving stack was applied.")]
Context = Annotated[str, typer.Option(help="Of kubectl's configuration; the current one where none is named.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the rollout.", min=1)]
Version = Annotated[int, typer.Option(help="The version, e.g. 3.", min=1)]
DEFAULT_NAMESPACE = "seaway"


def status(namespace: Namespace = DEFAULT_NAMESPACE, context: Context = "") -> None:
    """Shows which version each Deployment serves, why, and since which revision.

    [bold]Example[/bold]

      seaway status --namespace seaway
    """
    from rich.console import Console
    from rich.table import Table

    from loadtest.results import short
    from seaway import kube, rollout

    api = kube.connect(context)
    table = Table("deployment", "serves", "ready", "revision", "because", "image")
    for name in (rollout.STABLE, rollout.CANARY):
        found = rollout.read(api, namespace, name)
        serves = short(found.serves) or "what is stable in the volume when a pod starts"
        ready = f"{found.ready} of {found.replicas}"
        table.add_row(name, serves, ready, str(found.revision), found.cause, found.image)
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)


def deploy(
    version: Version,
    name: options.Name = options.DEFAULT_NAME,
    replicas: Annotated[int, typer.Option(help="Pods of the canary.", min=1)] = 1,
    url: Annotated[str, typer.Option(help="Where the canary answers; then its answers are compared.")] = "",
    volume: options.Volume = options.DEFAULT_VOLUME,
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = "",
    timeout: Timeout = 300,
) -> None:
    """Rolls a published version out as the canary, beside stable, and waits; says why where it does not come up.

    With --url the version's golden examples, which are in the --volume, are sent over each protocol, and every answer
    is compared with PyTorch's.

    [bold]Examples[/bold]

      seaway deploy --version 3

      seaway deploy --version 3 --url http://127.0.0.1:30081 --volume /mnt/models
    """
    from components.deploy.deploy import smoke
    from seaway import kube, rollout

    api, serves = kube.connect(context), f"{name}/{version}"
    rollout.check_replicas(api, namespace, rollout.CANARY, replicas)
    rollout.apply(api, namespace, rollout.CANARY, serves, f"canary: {serves}", replicas)
    rollout.wait(api, namespace, rollout.CANARY, timeout, typer.echo)
    typer.echo(f"{namespace}/{rollout.CANARY} serves {serves}")
    if url:
        smoke(url, volume, name, version, timeout)


def promote(
    version: Version,
    volume: options.Volume = options.DEFAULT_VOLUME,
    name: options.Name = options.DEFAULT_NAME,
    evidence: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="What load wrote; else the newest in the volume.")
    ] = None,
    namespace: Annotated[
        str, typer.Option(help="Of a cluster, whose stable Deployment is rolled out; else none.")
    ] = "",
) -> None:
    """Makes a version stable, if the evidence says that it answered rightly under load.

    [bold]Examples[/bold]

      seaway promote --version 3

      seaway promote --version 3 --volume /mnt/models --namespace seaway
    """
    from components.promote.promote import promote as work

    work(volume, name, version, evidence, namespace)


def rollback(namespace: Namespace = DEFAULT_NAMESPACE, context: Context = "", timeout: Timeout = 300) -> None:
    """Takes stable back to the version that it served before, and waits. It needs no evidence: that was stable once.

    [bold]Example[/bold]

      seaway rollback --namespace seaway
    """
    from seaway import kube, rollout

    api = kube.connect(context)
    now, before = rollout.read(api, namespace, rollout.STABLE), rollout.before(api, namespace, rollout.STABLE)
    rollout.apply(api, namespace, rollout.STABLE, before.serves, f"rolled back from {now.serves or 'no named version'}")
    rollout.wait(api, namespace, rollout.STABLE, timeout, typer.echo)
    typer.echo(f"{namespace}/{rollout.STABLE} serves {before.serves} again")
