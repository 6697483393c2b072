"""`seaway verify`: served parity: every answer of every replica under load, against PyTorch's."""

from pathlib import Path
from typing import Annotated

import typer

from cli import load as loading
from cli import options


def verify(
    url: Annotated[str, typer.Argument(help="Address of a running server, or of what stands before several.")],
    protocol: loading.Protocols = None,
    rate: loading.Rate = 0,
    users: loading.Users = 0,
    seconds: loading.Time = 10,
    processes: loading.Processes = 1,
    timeout: loading.Timeout = 30,
    insecure: loading.Insecure = False,
    name: Annotated[str, typer.Option(help="The model's name on the server.")] = "",
    version: loading.Version = 0,
    volume: options.Volume = options.DEFAULT_VOLUME,
    golden: loading.Golden = None,
    report: Annotated[Path | None, typer.Option(help="Folder for load.html, load.json and load.md.")] = None,
) -> None:
    """Compares every answer with PyTorch's, under load, over every protocol that the server speaks, and names each
    replica that answered. The exit status is 1 if anything was wrong.

    Servers that do not say who they are, as TensorFlow Serving, are compared all the same.

    [bold]Examples[/bold]

      seaway verify http://127.0.0.1:8501

      seaway verify http://127.0.0.1:30080 --golden models/characters/3 --rate 100 --time 30
    """
    from rich.console import Console
    from rich.table import Table

    from cli.live import watching
    from loadtest import results as written
    from loadtest import verify as work
    from loadtest import wire

    plan = loading._plan(users, rate, seconds, 0, 1, "constant", processes, True, timeout, insecure)
    source, plan = loading._source(golden, volume, name, version, plan)
    results = []
    for key in protocol or work.spoken(url, source, plan):
        with watching(wire.named(key).title) as told:
            results += work.verify(url, source, plan, [key], lambda _, progress: told(progress))
    console = Console()
    table = Table("replica", "serves", "answers", "wrong", "max |Δ|")
    for replica in work.replicas(results):
        table.add_row(
            replica.pod or "does not say",
            replica.model or "does not say",
            f"{replica.answers:,}",
            f"{replica.wrong:,}",
            written.distance(replica.max_abs),
        )
    console.print(table)
    for result in results:
        console.print(
            f"{wire.named(result.protocol).title}: {result.requests:,} answers, {result.wrong} wrong, "
            f"{result.failed} failed, max |Δ| {written.distance(result.max_abs)}, p99 {result.p99_ms:.1f} ms",
            highlight=False,
        )
    found = work.faults(results, work.identity_of(source, plan.model, plan.version or 0))
    if report:
        loading.write_report(report, results, [])
    for fault in found:
        typer.echo(fault, err=True)
    if found:
        raise typer.Exit(1)
