"""`seaway verify`: served parity: every answer of every replica under load, against PyTorch's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import options, plans

if TYPE_CHECKING:
    from seaway.load.run import LoadResult


def verify(
    url: Annotated[str, typer.Argument(help="Address of a running server, or of what stands before several.")],
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="tfs, graphpipe, oip, oip-binary or png; repeat for more. Without it: all that are spoken."),
    ] = None,
    rate: plans.Rate = 0,
    arrivals: plans.Arrivals = "poisson",
    seed: plans.Seed = 0,
    users: plans.Users = 0,
    seconds: plans.Time = 10,
    processes: plans.Processes = 1,
    timeout: plans.Timeout = 30,
    insecure: plans.Insecure = False,
    name: plans.Name = "",
    version: plans.Version = 0,
    volume: options.Volume = options.DEFAULT_VOLUME,
    golden: plans.Golden = None,
    evidence: Annotated[
        bool, typer.Option(help="Store what was found in the version's volume, where promote looks for it.")
    ] = True,
    report: plans.Report = None,
) -> None:
    """Compares every answer with PyTorch's, under load, over every protocol that the server speaks, and names each
    replica that answered. The exit status is 1 if anything was wrong.

    Servers that do not say who they are, as TensorFlow Serving, are compared all the same.

    [bold]Examples[/bold]

      seaway verify http://127.0.0.1:8501

      seaway verify http://127.0.0.1:30080 --golden models/characters/3 --rate 100 --time 30
    """
    from seaway.cli.live import watching
    from seaway.load import payloads
    from seaway.load import verify as work
    from seaway.load.run import Plan

    plans.check_extra(report)
    plan = Plan(
        users=users, rate=rate, seconds=seconds, warmup=0, processes=processes, request_timeout=timeout,
        insecure=insecure, arrivals=arrivals, seed=seed,
    )  # fmt: skip
    plan.check()
    source, plan = plans.source_of(golden, volume, name, version, plan)
    with watching("verify") as told:
        results = work.verify(url, source, plan, protocol or (), lambda _, progress: told(progress))
    _show(results)
    found = work.faults(results, payloads.identity(source, plan.model))
    for fault in found:
        typer.echo(fault, err=True)
    if report:
        plans.write_report(report, results)
    if evidence and (kept := work.keep(source, results)):
        typer.echo(f"evidence: {kept}", err=True)
    if found:
        raise typer.Exit(1)


def _show(results: "Sequence[LoadResult]") -> None:
    from rich.console import Console
    from rich.table import Table

    from seaway.load import verify as work
    from seaway.load.results import NO_ANSWER, compared, distance, farthest, latency, short, worst

    replicas = work.replicas(results)
    table = Table("replica", "serves", "answers", "wrong", "max |Δ|")
    for replica in replicas:
        table.add_row(
            replica.pod or "does not say",
            short(replica.model) or "does not say",
            f"{replica.answers:,}",
            f"{replica.wrong:,}",
            distance(replica.max_abs),
        )
    console = Console()
    console.print(table)
    for result in results:
        console.print(
            f"{result.title}: {result.requests:,} requests, {result.wrong} wrong, "
            f"{result.failed} failed, max |Δ| {farthest(result)}, p99 {latency(result.p99_ms, ' ms')}",
            highlight=False,
        )
    answers = sum(result.requests - result.failed for result in results)
    most = distance(worst([result.max_abs for result in results])) if answers else NO_ANSWER
    who = "1 replica" if len(replicas) == 1 else f"{len(replicas)} replicas"
    wrong = sum(result.wrong for result in results)
    console.print(f"[bold]{answers:,} answers of {who}, max |Δ| {most}, {wrong} wrong[/]", highlight=False)
    for text in compared(results):
        console.print(text, highlight=False)
