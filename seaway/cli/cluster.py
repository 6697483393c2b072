"""`seaway status`, `deploy`, `promote` and `rollback`: the versions that a cluster or a folder serves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway import client_tls
from seaway.arguments import seaway_command
from seaway.cli import options

if TYPE_CHECKING:
    from seaway.kube.rollout import Serving

Timeout = Annotated[float, typer.Option(help="Seconds to wait for the rollout.", min=1)]
DEFAULT_NAMESPACE = "seaway"
TargetNamespace = Annotated[
    str,
    typer.Option(
        help="Kubernetes namespace of the serving stack. Default: seaway, or none (the model repository only) if "
        "--model-repository is given without --context."
    ),
]


def target_namespace(namespace: str, context: str, repository: Path | None) -> str:
    """The namespace to act on, or "" if the options name a model repository and no cluster."""
    return namespace or ("" if repository and not context else DEFAULT_NAMESPACE)


def status(
    namespace: options.Namespace = DEFAULT_NAMESPACE,
    context: options.Context = "",
    repository: options.MountedRepository = None,
) -> None:
    """Shows the version that each Deployment serves, with its revision and the cause of its last change.

    With --model-repository it also reports labels that differ from the Deployments, and how to fix them.

    The exit status is 0 if every replica of both Deployments is ready and runs that version, else 1. Labels do not
    change it.

    [bold]Examples[/bold]

      seaway status --namespace seaway

      seaway status --model-repository /mnt/models
    """
    from seaway.artifacts import serving_profile
    from seaway.kube import api_client, rollout
    from seaway.load.formatting import shorten_identity

    api = api_client.connect(context)
    deployments = {name: rollout.read(api, namespace, name) for name in (rollout.STABLE, rollout.CANARY)}
    for name, serving in deployments.items():
        unfinished = "" if serving.complete else "; the rollout is not complete"
        serves = shorten_identity(serving.serves) or "the version labelled stable when a pod starts"
        typer.echo(f"{name} serves {serves}")
        typer.echo(f"  ready     {serving.ready} of {serving.replicas}{unfinished}")
        typer.echo(f"  revision  {serving.revision}")
        typer.echo(f"  cause     {serving.cause or 'none recorded'}")
        typer.echo(f"  image     {serving.image}")
        if serving.settings:
            typer.echo(f"  profile   {serving_profile.describe(serving.settings)}")
    for name, serving in deployments.items():
        for line in label_differences(repository, name, serving, namespace, context) if repository else ():
            typer.echo(line)
    if not all(serving.complete for serving in deployments.values()):
        raise typer.Exit(1)


def label_differences(
    repository: Path, deployment: str, serving: "Serving", namespace: str, context: str = ""
) -> list[str]:
    """Lines about a label in the model repository that differs from the Deployment: the difference, and a command for
    each way to fix it."""
    from seaway.artifacts import model_repository
    from seaway.kube import rollout

    label = {rollout.STABLE: model_repository.STABLE, rollout.CANARY: model_repository.CANARY}[deployment]
    if serving.version is None or not serving.replicas:  # then it serves the labelled version, or nothing
        return []
    labelled = model_repository.labels(repository, serving.model).get(label)
    if labelled == serving.version:
        return []
    state = f"is on {labelled}" if labelled else "is not set"
    verb = "rollback" if label == model_repository.STABLE else "deploy"

    def command(version: int) -> str:
        options = ["--version", version, "--name", serving.model, "--model-repository", repository]
        options += ["--namespace", namespace, *(["--context", context] if context else [])]
        return seaway_command(verb, *options)

    lines = [f"{deployment} serves {serving.model}/{serving.version}, but the label {label} in {repository} {state}"]
    lines += [f"  if the Deployment is right, set the label: {command(serving.version)}"]
    lines += [f"  if the label is right, roll the Deployment out: {command(labelled)}"] if labelled else []
    return lines


def deploy(
    version: options.Version,
    name: options.Name = "",
    replicas: Annotated[int, typer.Option(help="Pods of the canary.", min=1)] = 1,
    url: Annotated[
        str,
        typer.Option(
            help="URL of the canary, for the comparison with the recorded outputs. Default: "
            f"{options.DEFAULT_URL}; on a cluster there is none, and nothing is compared.",
            metavar="URL",
        ),
    ] = "",
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    repository: options.MountedRepository = None,
    namespace: TargetNamespace = "",
    context: options.Context = "",
    timeout: Timeout = 300,
) -> None:
    """Makes a published version the canary and waits until it is served; reports why a rollout failed.

    With --namespace (or --context, or without --model-repository) the canary Deployment is rolled out in the cluster of
    kubectl's context. With --model-repository alone, only the label in that folder moves, which a server follows. The
    version's golden examples are sent to --url over each protocol, and every response is compared with the
    recorded outputs.

    [bold]Examples[/bold]

      seaway deploy --version 3 --model-repository .seaway/models

      seaway deploy --version 3 --url http://127.0.0.1:30081 --model-repository /mnt/models --namespace seaway
    """
    from seaway.deploy.deploy import deploy as work

    namespace = target_namespace(namespace, context, repository)
    name = options.model_name(repository, name) if repository else name or options.DEFAULT_NAME
    url = url or ("" if namespace else options.DEFAULT_URL)
    tls = client_tls.ClientTls(tls_ca, tls_cert, tls_key, insecure)
    work(url, repository, name, version, timeout, namespace, replicas, context, tls)


def promote(
    version: options.Version,
    repository: options.Repository = options.DEFAULT_REPOSITORY,
    name: options.Name = "",
    evidence: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Evidence of a load test. Default: the newest in the model repository."
        ),
    ] = None,
    namespace: Annotated[
        str,
        typer.Option(
            help="Kubernetes namespace of the serving stack. Default: none (the model repository only), or seaway with "
            "--context."
        ),
    ] = "",
    context: options.Context = "",
    timeout: Timeout = 300,
) -> None:
    """Makes a version stable, if there is evidence that its responses were correct under load.

    `seaway verify` and the pipeline's load stage write that evidence. With --namespace (or --context) the cluster's
    Deployment is rolled out too; otherwise only the label moves.

    [bold]Examples[/bold]

      seaway promote --version 3

      seaway promote --version 3 --model-repository /mnt/models --namespace seaway
    """
    from seaway.promote.promote import promote as work

    name = options.model_name(repository, name)
    namespace = target_namespace(namespace, context, repository)
    work(repository, name, version, evidence, namespace, context, timeout)
    if not namespace:
        again = ["--version", version, "--name", name, "--model-repository", repository]
        again += ["--namespace", DEFAULT_NAMESPACE]
        typer.echo(f"only the label moved; to roll out a Deployment too: {seaway_command('promote', *again)}")


def rollback(
    version: Annotated[
        int | None, typer.Option(help="A version that was stable before. Default: the previous one.", min=1)
    ] = None,
    repository: options.MountedRepository = None,
    name: Annotated[
        str, typer.Option(help="The model's name. Default: on a cluster the served model, else the only one there is.")
    ] = "",
    namespace: TargetNamespace = "",
    context: options.Context = "",
    timeout: Timeout = 300,
) -> None:
    """Makes the previous stable version stable again, without new evidence, and waits until it is served.

    With --namespace (or --context, or without --model-repository) the Deployment in the cluster of kubectl's context is
    rolled back; with --model-repository too, its labels follow. With --model-repository alone, only the labels in that
    folder move. A second rollback changes nothing: --version names a version further back.

    [bold]Examples[/bold]

      seaway rollback --model-repository .seaway/models

      seaway rollback --namespace seaway --model-repository /mnt/models

      seaway rollback --namespace seaway
    """
    from seaway.promote.rollback import rollback as work

    namespace = target_namespace(namespace, context, repository)
    if repository and not namespace:
        name = options.model_name(repository, name)
    work(repository, name, version, namespace, context, timeout)
