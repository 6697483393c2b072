"""`seaway submit`: a pipeline to Kubeflow, and what becomes of its run."""

import dataclasses
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import options, plans

if TYPE_CHECKING:
    from rich.console import Console

    from seaway.pipeline.request import Request

PODS = "kubeflow"  # where runs are on a Kubeflow without profiles
SOONEST = 60  # seconds between runs that recur
_UNSEEN = "idx:"  # sources whose content cannot be told from here, so that no cache may answer for it


def submit(
    host: Annotated[str, typer.Option(help="Address of Kubeflow Pipelines.", envvar="KF_PIPELINES_ENDPOINT")],
    pipeline: options.Pipeline = "characters",
    param: options.Params = None,
    namespace: Annotated[
        str, typer.Option(help="Of the run, and of the serving stack unless --param namespace says otherwise.")
    ] = "",
    registry: options.Registry = "seaway",
    claim: options.Claim = "seaway-models",
    service_account: Annotated[str, typer.Option(help="Of the run's pods; Kubeflow's own where none is named.")] = "",
    experiment: Annotated[str, typer.Option(help="One that is there; 'seaway' where none is named.")] = "",
    run_name: Annotated[str, typer.Option(help="What the run is called.")] = "",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Let Kubeflow's cache answer for stages.")] = True,
    cron: Annotated[str, typer.Option(help="Run at these times: '0 3 * * *'.")] = "",
    every: Annotated[
        int | None, typer.Option(help="Run every so often: 6h.", parser=plans.seconds, metavar="TIME")
    ] = None,
    preflight: Annotated[
        bool,
        typer.Option(
            "--preflight/--no-preflight",
            help="Check rights, claim and Deployments first, where kubectl's context leads to the cluster.",
        ),
    ] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
    follow: Annotated[str, typer.Option(help="Submit nothing; follow the run with this id.", metavar="ID")] = "",
    pull_deadline: Annotated[
        int,
        typer.Option(
            help="With --wait: how long an image may not be pulled before the run is ended.",
            parser=plans.seconds,
            metavar="TIME",
        ),
    ] = 300,
    poll: Annotated[float, typer.Option(help="Seconds between looks at a run.", min=0.1)] = 5,
    context: Annotated[
        str, typer.Option(help="Of kubectl's configuration, to check before and to read why a stage failed.")
    ] = "",
    token: Annotated[str, typer.Option(help="Sent as Bearer.", envvar="KF_PIPELINES_TOKEN", show_envvar=True)] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="A file with it.", envvar="KF_PIPELINES_SA_TOKEN_PATH", dir_okay=False)
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Certificates (PEM) to trust, not the usual.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Submits a pipeline to Kubeflow, once or to recur, and follows the run.

    With --wait the exit status is 0 where the run succeeded and 1 where it did not; Ctrl-C ends the waiting (130), not
    the run. A run that lost a stage's pod (deleted, evicted, drained) is submitted again, at most twice; a stage that
    failed by its own fault is not repeated.

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
    from seaway.pipeline.request import Request, arguments, check_load, compiled, private

    if sum(map(bool, (cron, every, follow))) > 1 or ((cron or every) and wait):
        raise InvalidInput("give one of --cron, --every and --follow, and --wait with neither --cron nor --every")
    console = Console(highlight=False, soft_wrap=True)
    secret = token or (token_file.read_text(encoding="utf-8").strip() if token_file else "")
    if follow:
        api = kubeflow.Kubeflow(host, secret, ca_file)
        follow_run(Watch(api, namespace or PODS, context, poll, pull_deadline, console), follow)
        return
    schedule = _six_fields(cron)
    if every is not None and every < SOONEST:
        raise InvalidInput(f"--every {every}s: a run takes minutes; give a minute or more, as 6h")
    whole = compiled(pipeline, registry, claim, cache or wait)
    given = arguments(whole.inputs, param or [])
    check_load(whole.inputs, given)
    if namespace and "namespace" in whole.inputs:
        given.setdefault("namespace", namespace)
    source = given.get("source", whole.inputs.get("source", {}).get("defaultValue", ""))
    if cache and str(source).startswith(_UNSEEN) and not given.get("fingerprint"):
        cache = False
        whole = compiled(pipeline, registry, claim, cached=wait)
        console.print("Every stage runs: what is under idx: cannot be seen from here (--param fingerprint=… names it)")
    if wait and not cache:  # older results answer for nothing; this run's do if it has to be submitted again
        whole = private(whole, str(uuid.uuid4()))
    name = run_name or f"{Path(pipeline).stem} {time.strftime('%Y-%m-%d %H:%M')}"
    request = Request(name, whole, given, experiment, namespace, service_account)
    api = kubeflow.Kubeflow(host, secret, ca_file)
    if preflight:
        _check(request, claim, api.multi_user, context, console)
    if schedule or every:
        made = api.recur(request, schedule, every or 0)
        console.print(f"Recurring run  {made}\nPage           {api.page(made, recurring=True)}")
        return
    run = api.run(request)
    console.print(f"Run   {run}\nPage  {api.page(run)}")
    if wait:

        def again(repeated: int) -> str:
            return api.run(dataclasses.replace(request, name=f"{name} ({repeated + 1})"))

        follow_run(Watch(api, namespace or PODS, context, poll, pull_deadline, console), run, again)


def _check(request: "Request", claim: str, profiles: bool, context: str, console: "Console") -> None:
    """Raises Refused for a run that could not succeed; a line where kubectl's context leads to no such cluster."""
    from seaway.errors import Refused, Unavailable
    from seaway.kube import kube
    from seaway.preflight import needs as preflight

    where = request.namespace or PODS
    serving = (request.arguments.get("namespace") or where) if "namespace" in request.pipeline.inputs else ""
    own = preflight.default_account(where, profiles)
    account = f"{where}:{request.service_account}" if request.service_account else own
    try:
        api = kube.connect(context)
        if not kube.has_namespace(api, where):
            raise Unavailable(f"kubectl's context has no namespace {where}")
        preflight.check(api, claim, where, serving, account)
    except Unavailable as error:
        console.print(f"Not checked beforehand: {error}", markup=False)
    except Refused as error:
        elsewhere = "where kubectl's context is of another cluster: --context NAME, or --no-preflight"
        raise Refused(f"nothing was submitted: {error}\n({elsewhere})") from None


def _six_fields(cron: str) -> str:
    """Kubeflow's cron begins with seconds. Raises InvalidInput for what has not five or six fields, or more than one
    time a minute."""
    from seaway.errors import InvalidInput

    fields = cron.split()
    if cron and len(fields) not in (5, 6):
        raise InvalidInput(f"--cron {cron!r}: give minute, hour, day, month and weekday, as '0 3 * * 1'")
    if len(fields) == 6 and not fields[0].isdigit():
        raise InvalidInput(f"--cron {cron!r}: of six fields the first is one second, 0 to 59, as in '0 0 3 * * 1'")
    return " ".join(["0", *fields] if len(fields) == 5 else fields)
