"""`seaway submit`: a pipeline to Kubeflow, and what becomes of its run."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import plans

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.kubeflow import Kubeflow, State
    from pipelines.request import Request

PODS = "kubeflow"  # where runs are on a Kubeflow without profiles
QUIET_LOOKS = 6  # without a change, after which the pods are asked whether something holds them up
PATIENCE = 120  # seconds of a host that answered before and does not now
INTERRUPTED = 130
_UNSEEN = "idx:"  # sources whose content cannot be told from here, so that no cache may answer for it
_COLOURS = {"RUNNING": "cyan", "SUCCEEDED": "green", "FAILED": "bold red", "CANCELED": "bold red"}


def submit(
    host: Annotated[str, typer.Option(help="Address of Kubeflow Pipelines.", envvar="KF_PIPELINES_ENDPOINT")],
    pipeline: Annotated[Literal["characters", "ship"], typer.Option(help="Which pipeline.")] = "characters",
    param: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of a parameter; repeat for more.")] = None,
    namespace: Annotated[
        str, typer.Option(help="Of the run, and of the serving stack unless --param namespace says otherwise.")
    ] = "",
    registry: Annotated[str, typer.Option(help="Where the images are: ghcr.io/example.")] = "seaway",
    claim: Annotated[str, typer.Option(help="The model volume's PersistentVolumeClaim.")] = "seaway-models",
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
    the run.

    [bold]Examples[/bold]

      seaway submit --host http://127.0.0.1:8080 --registry ghcr.io/example --wait

      seaway submit --host https://kubeflow.example/pipeline --namespace team --token-file token --param epochs=2

      seaway submit --host http://127.0.0.1:8080 --param source=idx:/models/.data/emnist --cron '0 3 * * 1'

      seaway submit --host http://127.0.0.1:8080 --follow ID
    """
    from rich.console import Console

    from pipelines import kubeflow
    from pipelines.request import Request, arguments, compiled
    from seaway.errors import InvalidInput

    if sum(map(bool, (cron, every, follow))) > 1 or ((cron or every) and wait):
        raise InvalidInput("give one of --cron, --every and --follow, and --wait with neither --cron nor --every")
    console = Console(highlight=False, soft_wrap=True)
    secret = token or (token_file.read_text(encoding="utf-8").strip() if token_file else "")
    if follow:
        api = kubeflow.Kubeflow(host, secret, ca_file)
        _follow(api, follow, namespace or PODS, context, poll, console)
        return
    schedule = _six_fields(cron)
    whole = compiled(pipeline, registry, claim, cache)
    given = arguments(whole.inputs, param or [])
    if namespace and "namespace" in whole.inputs:
        given.setdefault("namespace", namespace)
    if cache and str(given.get("source", "")).startswith(_UNSEEN) and not given.get("fingerprint"):
        whole = compiled(pipeline, registry, claim, cached=False)
        console.print("Every stage runs: what is under idx: cannot be seen from here (--param fingerprint=… names it)")
    name = run_name or f"{pipeline} {time.strftime('%Y-%m-%d %H:%M')}"
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
        _follow(api, run, namespace or PODS, context, poll, console)


def _check(request: "Request", claim: str, profiles: bool, context: str, console: "Console") -> None:
    """Raises Refused for a run that could not succeed; a line where kubectl's context leads to no such cluster."""
    from seaway import kube, preflight
    from seaway.errors import Refused, Unavailable

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
    """Kubeflow's cron begins with seconds. Raises InvalidInput for what has not five or six fields."""
    from seaway.errors import InvalidInput

    fields = cron.split()
    if cron and len(fields) not in (5, 6):
        raise InvalidInput(f"--cron {cron!r}: give minute, hour, day, month and weekday, as '0 3 * * 1'")
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


# ---- following


def _follow(api: "Kubeflow", run: str, namespace: str, context: str, poll: float, console: "Console") -> None:
    """Tells each change of a stage, and raises SeawayError where the run ends otherwise than well."""
    from pipelines.kubeflow import FINAL
    from seaway.errors import Refused, SeawayError, Unavailable

    goes_on = f"the run goes on: {api.page(run)}; to follow it again: seaway submit --host {api.host} --follow {run}"
    said: dict[str, str] = {}
    quiet, began = 0, time.monotonic()
    try:
        while True:
            state = _look(api, run, poll)
            quiet = quiet + 1 if state.stages.items() <= said.items() else 0
            for stage, now in sorted(state.stages.items(), key=lambda one: one[1] == "RUNNING"):  # first what ended
                if said.get(stage) != now:
                    said[stage] = now
                    _tell(console, time.monotonic() - began, stage, now)
            if state.state in FINAL:
                break
            if quiet == QUIET_LOOKS:
                for line in _held_up(run, namespace, context):
                    console.print(line, markup=False)
            time.sleep(poll)
    except (Refused, Unavailable) as error:
        raise type(error)(f"{error}; {goes_on}") from None
    except KeyboardInterrupt:
        console.print(f"\nInterrupted; {goes_on}")
        raise typer.Exit(INTERRUPTED) from None
    if state.state == "SUCCEEDED":
        console.print(f"[green]The run succeeded[/green]: {api.page(run)}")
        return
    failed = [stage for stage, now in state.stages.items() if now == "FAILED"]
    reasons = "".join(f"\n  {reason}" for reason in (*state.messages, *_pods(run, namespace, context)))
    where = f" in {', '.join(failed)}" if failed else ""
    raise SeawayError(f"the run {state.state.lower()}{where}: {api.page(run)}{reasons}")


def _look(api: "Kubeflow", run: str, poll: float) -> "State":
    """The run's state, from a host that may be away for a while."""
    from seaway.errors import Unavailable

    patience = time.monotonic() + PATIENCE
    while True:
        try:
            return api.state(run)
        except Unavailable:
            if time.monotonic() > patience:
                raise
            time.sleep(poll)


def _tell(console: "Console", seconds: float, stage: str, state: str) -> None:
    colour = _COLOURS.get(state, "dim")
    clock = f"{seconds // 60:3.0f}:{seconds % 60:02.0f}"
    console.print(f"[dim]{clock}[/dim]  {stage:<12} [{colour}]{state.lower()}[/{colour}]")


def _pods(run: str, namespace: str, context: str) -> list[str]:
    """What the run's pods say, where kubectl's configuration leads to them; else how to see it."""
    from seaway import kube, runs
    from seaway.errors import SeawayError

    hint = f"kubectl -n {namespace} logs -l {runs.RUN}={run} -c {runs.MAIN} --tail=20 --prefix"
    try:
        found = [one for one in runs.troubles(kube.connect(context), namespace, run) if one.failed]
    except SeawayError as error:
        return [f"why cannot be read from here ({error}); where the cluster is at hand: {hint}"]
    if not found:
        return [f"no failed pod of it is in {namespace} of kubectl's context; where the run's pods are: {hint}"]
    return [
        line
        for one in found
        for line in (f"{one.stage}:", *(f"  {reason}" for reason in one.reasons), *(f"  | {said}" for said in one.said))
    ]


def _held_up(run: str, namespace: str, context: str) -> list[str]:
    """What keeps stages from beginning, which no state of Kubeflow's shows; nothing where nobody can be asked."""
    from seaway import kube, runs
    from seaway.errors import SeawayError

    try:
        found = [one for one in runs.troubles(kube.connect(context), namespace, run) if not one.failed]
    except SeawayError:
        return []
    return [f"        {one.stage}: {reason}" for one in found for reason in one.reasons]
