"""`seaway load`: Locust against a running server, every answer checked; capacity and comparisons."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from seaway.cli import options, plans

if TYPE_CHECKING:
    from seaway.load.gate import Limits, Line, Target
    from seaway.load.run import LoadResult, Plan

DEFAULT = "run"
SLOWER = 0.2  # than a baseline, where no limit says how much is too much


class DefaultCommand(TyperGroup):
    """`seaway load URL` is `seaway load run URL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="load",
    cls=DefaultCommand,
    rich_markup_mode="rich",
    help="Loads a running server and compares every answer with PyTorch's: `seaway load URL`, and options of `run`.",
)


@app.command(DEFAULT)
def load(
    url: Annotated[str, typer.Argument(help="Address of a running server.")] = options.DEFAULT_URL,
    protocol: plans.Protocols = None,
    users: plans.Users = 0,
    rate: plans.Rate = 0,
    arrivals: plans.Arrivals = "poisson",
    seed: plans.Seed = 0,
    seconds: plans.Time = 10,
    warmup: plans.Warmup = 2,
    batch: plans.Batch = 1,
    shape: Annotated[
        str, typer.Option(help="constant, step, ramp, spike or soak: the load over the time.")
    ] = "constant",
    processes: plans.Processes = 1,
    new_connections: Annotated[bool, typer.Option("--new-connections", help="Open one for every request.")] = False,
    timeout: plans.Timeout = 30,
    insecure: plans.Insecure = False,
    name: plans.Name = "",
    version: plans.Version = 0,
    volume: options.Volume = options.DEFAULT_VOLUME,
    golden: plans.Golden = None,
    limits: plans.LimitsFile = None,
    limit: plans.Limit = None,
    baseline: Annotated[
        str, typer.Option(help="Address of a server to be compared with, in turn (needs --rate).")
    ] = "",
    baseline_version: Annotated[int, typer.Option(help="The version to be compared with; 0: whichever answers.")] = 0,
    metrics: plans.Metrics = "",
    report: plans.Report = None,
) -> None:
    """Loads a running server with Locust, compares every answer with PyTorch's, and judges by limits.

    The exit status is 0 where every limit is kept, 1 where one is broken, 3 where it cannot be told. Without limits, no
    answer may be wrong and no request may fail.

    [bold]Examples[/bold]

      seaway load http://127.0.0.1:8501

      seaway load http://127.0.0.1:8501 --rate 200 --time 60 --limit p99_ms=50 --report load/

      seaway load --protocol graphpipe --batch 128 --users 2

      seaway load --rate 100 --version 2 --baseline http://127.0.0.1:8501 --baseline-version 1 --limit slower=20%
    """
    from dataclasses import replace

    from seaway.load import gate
    from seaway.load.run import Plan
    from seaway.protocols import wire

    plans.check_extra(report)
    plan = Plan(
        users=users, rate=rate, seconds=seconds, warmup=warmup, batch=batch, shape=shape, processes=processes,
        new_connections=new_connections, request_timeout=timeout, insecure=insecure, metrics=metrics,
        arrivals=arrivals, seed=seed,
    )  # fmt: skip
    plan.check()
    wanted = plans.limits_of(limits, limit)
    gate.check(wanted, plan)
    source, plan = plans.source_of(golden, volume, name, version, plan)
    results: list[LoadResult] = []
    lines: list[Line] = []
    if baseline or baseline_version:
        gate.check_comparison(plan)
    for key in protocol or ():
        replace(plan, protocol=key).check()
    keys = plans.protocols_of(protocol, url, source, plan)
    for key in keys:
        one = replace(plan, protocol=key)
        if baseline or baseline_version:
            before = gate.Target(baseline or url, source, baseline_version or None)
            found, said = _versus(before, gate.Target(url, source, plan.version), one, wanted)
        else:
            found = [plans.run(url, source, one)]
            said = gate.judge(found[0], wanted)
        several = f"{wire.named(key).title}, " if len(keys) > 1 else ""
        results += found
        lines += [replace(line, limit=several + line.limit) for line in said]
    _show(results, lines, report)
    raise typer.Exit(gate.EXIT[gate.verdict(lines)])


def _versus(
    baseline: "Target", candidate: "Target", plan: "Plan", limits: "Limits"
) -> "tuple[list[LoadResult], list[Line]]":
    """The candidate's runs, in turn with the baseline's, and what became of the limits."""
    from seaway.cli.live import watching
    from seaway.load import gate
    from seaway.protocols import wire

    slower = SLOWER if limits.slower is None else limits.slower
    with watching(wire.named(plan.protocol).title) as told:
        pairs = gate.rounds(baseline, candidate, plan, slower, lambda _, progress: told(progress))
    own = [candidate_s for _, candidate_s in pairs]
    broken = [line for result in own for line in gate.judge(result, limits) if line.state != "pass"]
    return own, [*gate.against(pairs, slower), *broken]


def _show(results: "list[LoadResult]", lines: "list[Line]", report: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from seaway.load import results as written

    table = Table("protocol", "req/s", "p50 ms", "p95 ms", "p99 ms", "max |Δ|", "wrong", "failed", "answered by")
    for result in results:
        table.add_row(
            result.title,
            f"{result.requests_per_second:.0f}",
            *map(written.latency, (result.p50_ms, result.p95_ms, result.p99_ms)),
            written.farthest(result),
            str(result.wrong),
            str(result.failed),
            "\n".join(written.short(model) for model in result.served_by),
        )
        for kind, count in result.errors.items():
            typer.echo(f"{result.title}: {count} times {kind}", err=True)
    console = Console()
    console.width = max(console.width, 100)  # where the output goes to a file, it still wants its columns
    console.print(table)
    for line in lines:
        colour = {"pass": "green", "fail": "red", "inconclusive": "yellow"}[line.state]
        console.print(f"[{colour}]{line.state:12}[/] {line.limit}: {line.text}", highlight=False)
    for text in written.compared(results):
        console.print(text, highlight=False)
    for result in results:
        if result.generator.bottleneck:
            console.print(f"[bold yellow]note:[/] {result.generator.bottleneck}", highlight=False)
    if report:
        plans.write_report(report, results, lines)


@app.command()
def capacity(
    url: Annotated[str, typer.Argument(help="Address of a running server.")] = options.DEFAULT_URL,
    protocol: plans.Protocol = "",
    rate: Annotated[float, typer.Option(help="Where the search begins, requests a second.", min=0)] = 0,
    arrivals: plans.Arrivals = "poisson",
    seed: plans.Seed = 0,
    seconds: plans.Time = 10,
    warmup: plans.Warmup = 2,
    batch: plans.Batch = 1,
    processes: plans.Processes = 1,
    timeout: plans.Timeout = 30,
    insecure: plans.Insecure = False,
    name: plans.Name = "",
    version: plans.Version = 0,
    volume: options.Volume = options.DEFAULT_VOLUME,
    golden: plans.Golden = None,
    limits: plans.LimitsFile = None,
    limit: plans.Limit = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for load.html, load.json and load.md of all trials.")
    ] = None,
) -> None:
    """Finds the highest rate of requests at which the server keeps its limits, and says how sure that is.

    [bold]Example[/bold]

      seaway load capacity http://127.0.0.1:8501 --limit p99_ms=50
    """
    from dataclasses import replace

    from seaway.cli.live import watching
    from seaway.load import capacity as search
    from seaway.load.run import Plan
    from seaway.protocols import wire

    plans.check_extra(report)
    plan = Plan(
        rate=rate, seconds=seconds, warmup=warmup, batch=batch, processes=processes, request_timeout=timeout,
        insecure=insecure, arrivals=arrivals, seed=seed,
    )  # fmt: skip
    if protocol:
        plan = replace(plan, protocol=protocol)
    replace(plan, rate=rate or search.FIRST_RATE).check()
    source, plan = plans.source_of(golden, volume, name, version, plan)
    if not protocol:
        plan = replace(plan, protocol=plans.protocols_of(None, url, source, plan)[0])
    with watching("capacity") as told:
        found = search.capacity(url, source, plan, plans.limits_of(limits, limit), lambda _, progress: told(progress))
    for trial in found.trials:
        typer.echo(f"{trial.rate:8.0f}/s  {'held' if trial.held else 'not held: ' + trial.why}")
    protocol = wire.named(plan.protocol).title
    typer.echo(f"capacity over {protocol}, {arrivals} arrivals: {found.text}")
    if report:
        plans.write_report(report, [trial.result for trial in found.trials], [])
    if not found.rate:
        raise typer.Exit(1)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="load.json of one run.", exists=True, dir_okay=False)],
    after: Annotated[Path, typer.Argument(help="load.json of another.", exists=True, dir_okay=False)],
) -> None:
    """Sets two results beside each other, as Markdown.

    [bold]Example[/bold]

      seaway load compare monday/load.json tuesday/load.json
    """
    from seaway.load import results

    typer.echo(results.compare(results.read_json(before), results.read_json(after)), nl=False)
