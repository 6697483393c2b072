"""`seaway submit`: submits a pipeline to Kubeflow, and follows its run."""

import dataclasses
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seaway.cli import load_options, options

if TYPE_CHECKING:
    from rich.console import Console

    from seaway.pipeline.request import CompiledPipeline, Request

DEFAULT_NAMESPACE = "kubeflow"  # of runs, on a Kubeflow without profiles
MIN_INTERVAL_S = 60  # between recurring runs
_UNKNOWN_CONTENT = "idx:"  # sources whose content is unknown here, so that a cached result may be outdated


def submit(
    host: Annotated[
        str,
        typer.Option(
            help="URL of the Kubeflow Pipelines API or UI, e.g. http://127.0.0.1:8080.",
            envvar="KF_PIPELINES_ENDPOINT",
            metavar="URL",
        ),
    ],
    pipeline: options.Pipeline = "characters",
    param: options.Params = None,
    namespace: Annotated[
        str,
        typer.Option(
            help="Kubernetes namespace of the run, and of the serving stack unless --param namespace is given."
        ),
    ] = "",
    registry: options.Registry = "seaway",
    claim: options.Claim = "seaway-models",
    tls_secret: options.TlsSecret = "",
    service_account: Annotated[
        str, typer.Option(help="ServiceAccount of the run's pods. Default: Kubeflow's own.")
    ] = "",
    experiment: Annotated[str, typer.Option(help="An existing experiment. Default: 'seaway'.")] = "",
    run_name: Annotated[str, typer.Option(help="Name of the run. Default: pipeline and time.")] = "",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Reuse results from Kubeflow's cache.")] = True,
    cron: Annotated[str, typer.Option(help="Recurring run at these times, e.g. '0 3 * * *'.")] = "",
    every: Annotated[
        int | None,
        typer.Option(
            help="Recurring run at this interval, e.g. 6h.", parser=load_options.parse_duration, metavar="TIME"
        ),
    ] = None,
    preflight: Annotated[
        bool,
        typer.Option(
            "--preflight/--no-preflight",
            help="Check permissions, the claim and the Deployments before submitting; skipped if kubectl's context is "
            "for another cluster.",
        ),
    ] = True,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the run to finish, and print each stage's state.")
    ] = False,
    follow: Annotated[str, typer.Option(help="Follow this existing run instead of submitting one.", metavar="ID")] = "",
    pull_deadline: Annotated[
        int,
        typer.Option(
            help="With --wait: terminate the run if an image cannot be pulled within this time.",
            parser=load_options.parse_duration,
            metavar="TIME",
        ),
    ] = 300,
    poll: Annotated[float, typer.Option(help="Polling interval in seconds.", min=0.1)] = 5,
    context: options.Context = "",
    token: Annotated[str, typer.Option(help="Bearer token.", envvar="KF_PIPELINES_TOKEN", show_envvar=True)] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(help="File that contains the bearer token.", envvar="KF_PIPELINES_SA_TOKEN_PATH", dir_okay=False),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="CA certificates (PEM) to trust instead of the system's.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Submits a pipeline to Kubeflow, once or as a recurring run; with --wait, follows the run.

    With --wait the exit status is 0 if the run succeeded and 1 if it did not; Ctrl-C stops waiting (status 130), not
    the run. A run that lost a stage's pod (deleted, evicted, drained) is resubmitted, at most twice; a stage that
    failed for any other reason is not repeated.

    [bold]Examples[/bold]

      seaway submit --host http://127.0.0.1:8080 --registry ghcr.io/example --wait

      seaway submit --host https://kubeflow.example/pipeline --namespace team --token-file token --param epochs=2

      seaway submit --host http://127.0.0.1:8080 --param source=idx:/models/.data/emnist --cron '0 3 * * 1'

      seaway submit --host http://127.0.0.1:8080 --follow ID

      seaway submit --host http://127.0.0.1:8080 --pipeline mine.py --param passes=2 --wait
    """
    from rich.console import Console

    from seaway.cli.follow import Watch
    from seaway.cli.follow import follow as follow_run
    from seaway.errors import InvalidInput
    from seaway.pipeline import kubeflow
    from seaway.pipeline.request import Request

    if sum(map(bool, (cron, every, follow))) > 1 or ((cron or every) and wait):
        raise InvalidInput(
            "--cron, --every and --follow exclude each other, and --wait cannot be combined with --cron or --every"
        )
    console = Console(highlight=False, soft_wrap=True)
    secret = token or (token_file.read_text(encoding="utf-8").strip() if token_file else "")
    if follow:
        api = kubeflow.Kubeflow(host, secret, ca_file)
        follow_run(Watch(api, namespace or DEFAULT_NAMESPACE, context, poll, pull_deadline, console), follow)
        return
    schedule = _six_fields(cron)
    if every is not None and every < MIN_INTERVAL_S:
        raise InvalidInput(f"--every {every}s: a run takes minutes; give a minute or more, e.g. 6h")
    compiled, arguments = _compile(pipeline, registry, claim, tls_secret, cache, wait, console, param or [], namespace)
    name = run_name or f"{Path(pipeline).stem} {time.strftime('%Y-%m-%d %H:%M')}"
    request = Request(name, compiled, arguments, experiment, namespace, service_account)
    api = kubeflow.Kubeflow(host, secret, ca_file)
    if preflight:
        _check(request, claim, api.multi_user, context, console)
    if schedule or every:
        recurring = api.recur(request, schedule, every or 0)
        console.print(f"Recurring run  {recurring}\nPage           {api.page(recurring, recurring=True)}")
        return
    run = api.run(request)
    console.print(f"Run   {run}\nPage  {api.page(run)}")
    if wait:

        def resubmit(resubmission: int) -> str:
            return api.run(dataclasses.replace(request, name=f"{name} ({resubmission + 1})"))

        follow_run(Watch(api, namespace or DEFAULT_NAMESPACE, context, poll, pull_deadline, console), run, resubmit)


def _compile(
    pipeline: str,
    registry: str,
    claim: str,
    tls_secret: str,
    cache: bool,
    wait: bool,
    console: "Console",
    params: list[str],
    namespace: str,
) -> "tuple[CompiledPipeline, dict[str, Any]]":
    """The compiled pipeline and its arguments; no stage is cached if the content of its source is unknown here."""
    from seaway.pipeline import request

    compiled = request.compiled(pipeline, registry, claim, cache or wait, tls_secret)
    arguments = request.arguments(compiled.inputs, params)
    request.check_load(compiled.inputs, arguments)
    if namespace and "namespace" in compiled.inputs:
        arguments.setdefault("namespace", namespace)
    source = arguments.get("source", compiled.inputs.get("source", {}).get("defaultValue", ""))
    if cache and str(source).startswith(_UNKNOWN_CONTENT) and not arguments.get("fingerprint"):
        cache = False
        compiled = request.compiled(pipeline, registry, claim, wait, tls_secret)
        console.print(
            f"Caching is off for this run, because the files behind source={source} cannot be read from here. To use "
            "the cache, add --param fingerprint=TEXT, which changes whenever the files change.",
            markup=False,
        )
    if wait and not cache:  # the cache then holds only this run's results, for a resubmission
        compiled = request.with_own_cache(compiled, str(uuid.uuid4()))
    return compiled, arguments


def _check(request: "Request", claim: str, profiles: bool, context: str, console: "Console") -> None:
    """Raises Refused for a run that could not succeed; prints a line if kubectl's context has no such cluster."""
    from seaway.errors import Refused, Unavailable
    from seaway.kube import api_client
    from seaway.preflight import checks as preflight

    namespace = request.namespace or DEFAULT_NAMESPACE
    serving = (request.arguments.get("namespace") or namespace) if "namespace" in request.pipeline.inputs else ""
    default = preflight.default_account(namespace, profiles)
    account = f"{namespace}:{request.service_account}" if request.service_account else default
    try:
        api = api_client.connect(context)
        if not api_client.has_namespace(api, namespace):
            raise Unavailable(f"kubectl's context has no namespace {namespace}")
        preflight.check(api, claim, namespace, serving, account)
    except Unavailable as error:
        console.print(f"Preflight skipped: {error}", markup=False)
    except Refused as error:
        hint = "if kubectl's context is for another cluster: --context NAME, or --no-preflight"
        raise Refused(f"nothing was submitted: {error}\n({hint})") from None


def _six_fields(cron: str) -> str:
    """The schedule with seconds first, as Kubeflow has it. Raises InvalidInput unless it has five or six fields and at
    most one time per minute."""
    from seaway.errors import InvalidInput

    fields = cron.split()
    if cron and len(fields) not in (5, 6):
        raise InvalidInput(f"--cron {cron!r}: give minute, hour, day, month and weekday, e.g. '0 3 * * 1'")
    if len(fields) == 6 and not fields[0].isdigit():
        raise InvalidInput(f"--cron {cron!r}: the first of six fields is one second, 0 to 59, e.g. '0 0 3 * * 1'")
    return " ".join(["0", *fields] if len(fields) == 5 else fields)
