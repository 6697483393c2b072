"""`seaway status`, `deploy`, `promote` and `rollback`: what is served in a namespace of a cluster, and changing it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import options

if TYPE_CHECKING:
    from seaway.kube.rollout import Serving

Namespace = Annotated[str, typer.Option(help="Of the cluster, where the serving stack was applied.")]
Cluster = Annotated[
    str, typer.Option("--namespace", help="Of a cluster, whose Deployment is rolled out; without it, --volume alone.")
]
Context = Annotated[str, typer.Option(help="Of kubectl's configuration; the current one where none is named.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the rollout.", min=1)]
Version = Annotated[int, typer.Option(help="The version, e.g. 3.", min=1)]
Mounted = Annotated[
    Path | None, typer.Option(help="The model volume, where it is mounted here; its labels are set too.")
]
DEFAULT_NAMESPACE = "seaway"


def where(namespace: str, context: str, volume: Path | None) -> str:
    """The namespace of the cluster that is meant, or "" for a folder: where a volume, and no cluster, is named."""
    return namespace or ("" if volume and not context else DEFAULT_NAMESPACE)


def status(
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = "",
    volume: Annotated[
        Path | None, typer.Option(help="The cluster's model volume, where it is mounted here: are its labels as that?")
    ] = None,
) -> None:
    """Shows which version each Deployment serves, why, and since which revision.

    [bold]Examples[/bold]

      seaway status --namespace seaway

      seaway status --volume /mnt/models
    """
    from rich.console import Console
    from rich.table import Table

    from seaway.kube import kube, rollout
    from seaway.load.results import short

    api = kube.connect(context)
    table = Table("deployment", "serves", "ready", "revision", "because", "image")
    differing = []
    for name in (rollout.STABLE, rollout.CANARY):
        found = rollout.read(api, namespace, name)
        differing += differs(volume, name, found, namespace) if volume else []
        serves = short(found.serves) or "what is stable in the volume when a pod starts"
        ready = f"{found.ready} of {found.replicas}"
        table.add_row(name, serves, ready, str(found.revision), found.cause, found.image)
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)
    for line in differing:
        console.print(line, highlight=False, soft_wrap=True)


def differs(volume: Path, deployment: str, found: "Serving", namespace: str) -> list[str]:
    """What the volume's label says otherwise than the Deployment, and the command that has it follow."""
    from seaway.artifacts import store
    from seaway.kube import rollout

    label = {rollout.STABLE: "stable", rollout.CANARY: "canary"}[deployment]
    if found.version is None or not found.replicas:  # then it serves what the label says, or nothing
        return []
    labelled = store.labels(volume, found.model).get(label)
    if labelled == found.version:
        return []
    verb = "rollback" if label == "stable" else "deploy"
    said = f"is on {labelled}" if labelled else "is not set"
    return [
        f"{deployment} serves {found.model}/{found.version}, but the label {label} in {volume} {said}; where the "
        f"Deployment is right: seaway {verb} --version {found.version} --name {found.model} --volume {volume} "
        f"--namespace {namespace}"
    ]


def deploy(
    version: Version,
    name: options.Name = options.DEFAULT_NAME,
    replicas: Annotated[int, typer.Option(help="Pods of the canary.", min=1)] = 1,
    url: Annotated[str, typer.Option(help="Where the canary answers; then its answers are compared.")] = "",
    volume: Mounted = None,
    namespace: Cluster = "",
    context: Context = "",
    timeout: Timeout = 300,
) -> None:
    """Makes a published version the canary, and waits until it is served; says why where it does not come up.

    On a cluster it is rolled out beside stable: in --namespace, or in "seaway" where no --volume is given. With
    --volume alone a server follows that folder. The version's golden examples, which are in the volume, are sent to
    --url over each protocol, and every answer is compared with PyTorch's.

    [bold]Examples[/bold]

      seaway deploy --version 3 --volume .seaway/models

      seaway deploy --version 3 --url http://127.0.0.1:30081 --volume /mnt/models --namespace seaway
    """
    from seaway.deploy.deploy import deploy as work

    namespace = where(namespace, context, volume)
    work(
        url or ("" if namespace else options.DEFAULT_URL), volume, name, version, timeout, namespace, replicas, context
    )


def promote(
    version: Version,
    volume: options.Volume = options.DEFAULT_VOLUME,
    name: options.Name = options.DEFAULT_NAME,
    evidence: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="What load wrote; else the newest in the volume.")
    ] = None,
    namespace: Cluster = "",
    context: Context = "",
    timeout: Timeout = 300,
) -> None:
    """Makes a version stable, if the evidence says that it answered rightly under load.

    [bold]Examples[/bold]

      seaway promote --version 3

      seaway promote --version 3 --volume /mnt/models --namespace seaway
    """
    from seaway.promote.promote import promote as work

    work(volume, name, version, evidence, where(namespace, context, volume), context, timeout)


def rollback(
    version: Annotated[
        int | None, typer.Option(help="Back to this one, which was stable once; else to the one before.", min=1)
    ] = None,
    volume: Mounted = None,
    name: Annotated[str, typer.Option(help="The model; on a cluster by default the one that is served.")] = "",
    namespace: Cluster = "",
    context: Context = "",
    timeout: Timeout = 300,
) -> None:
    """Takes stable back to the version that it served before, and waits. It needs no evidence: that was stable once.

    On a cluster (--namespace, or "seaway" where no --volume is given) the Deployment is rolled back; the labels follow
    where the --volume is given too. With --volume alone the labels of that folder move. What was rolled back already
    stays as it is: a version further back is named by --version.

    [bold]Examples[/bold]

      seaway rollback --volume .seaway/models

      seaway rollback --namespace seaway --volume /mnt/models

      seaway rollback --namespace seaway
    """
    from seaway.promote.rollback import rollback as work

    namespace = where(namespace, context, volume)
    work(volume, name or ("" if namespace else options.DEFAULT_NAME), version, namespace, context, timeout)
