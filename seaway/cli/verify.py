"""`seaway verify`: served parity under load: compares every response of every replica with recorded outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import load_options, options

if TYPE_CHECKING:
    from seaway.load.result import LoadResult


def verify(
    url: Annotated[
        str, typer.Argument(help="URL of a running server, or of the load balancer of several.", metavar="URL")
    ],
    protocol: Annotated[
        list[str] | None,
        typer.Option(help=f"{load_options.PROTOCOLS_HELP}; repeat for more. Default: all that the server supports."),
    ] = None,
    rate: load_options.Rate = 0,
    arrivals: load_options.Arrivals = "poisson",
    seed: load_options.Seed = 0,
    users: load_options.Users = None,
    duration_s: Annotated[int, load_options.time_option("Duration per protocol")] = 10,
    processes: load_options.Processes = 1,
    timeout: load_options.Timeout = 30,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    name: load_options.Name = "",
    version: load_options.Version = None,
    repository: options.Repository = options.DEFAULT_REPOSITORY,
    golden: load_options.Golden = None,
    evidence: Annotated[
        bool, typer.Option(help="Store the results in the model repository, as evidence for promote.")
    ] = True,
    report: load_options.Report = None,
) -> None:
    """Compares every output of every response with the recorded one, under load, over every protocol that the server
    supports, and lists the replicas that responded.

    The exit status is 0 if every response was correct, else 1. Every request opens a new connection, so that a load
    balancer reaches every replica.

    Servers that do not report their pod and model, like TensorFlow Serving, are compared as well.

    [bold]Examples[/bold]

      seaway verify http://127.0.0.1:8501

      seaway verify http://127.0.0.1:30080 --golden models/characters/3 --rate 100 --time 30
    """
    from seaway.cli.live import show_progress
    from seaway.load import payloads
    from seaway.load import verify as served_parity
    from seaway.load.config import LoadConfig

    load_options.check_extra(report)
    config = LoadConfig(
        users=users or 0, rate=rate, duration_s=duration_s, warmup_s=0, processes=processes, request_timeout_s=timeout,
        tls=options.tls(tls_ca, tls_cert, tls_key, insecure, url), arrivals=arrivals, seed=seed,
    )  # fmt: skip
    config.check()
    load_options.check_server(url, config)
    source, config = load_options.find_examples(golden, repository, name, version, config)
    if evidence:
        served_parity.check_evidence(source)
    with show_progress("verify") as on_progress:
        results = served_parity.verify(url, source, config, protocol or (), on_progress)
    _show(results)
    problems = served_parity.problems(results, payloads.identity(source, config.model))
    for problem in problems:
        typer.echo(problem, err=True)
    if report:
        load_options.write_report(report, results, conclusion="; ".join(problems) or "every response was correct")
    if evidence:
        _store_evidence(source, results)
    if problems:
        raise typer.Exit(1)


def _store_evidence(source: Path, results: "Sequence[LoadResult]") -> None:
    from seaway.errors import Refused
    from seaway.load import verify as served_parity

    try:
        if stored := served_parity.store_evidence(source, results):
            typer.echo(f"evidence: {stored}", err=True)
    except Refused as error:  # the comparison itself may have succeeded
        typer.echo(error, err=True)


def _show(results: "Sequence[LoadResult]") -> None:
    from rich.console import Console
    from rich.table import Table

    from seaway.load import formatting
    from seaway.load.report import NOT_REPORTED
    from seaway.load.verify import replicas

    merged = replicas(results)
    table = Table("replica", "model version", "engine", "responses", "wrong", "max |Δ|")
    for replica in merged:
        table.add_row(
            replica.pod or NOT_REPORTED,
            formatting.shorten_identity(replica.model) or NOT_REPORTED,
            replica.backend or NOT_REPORTED,
            f"{replica.responses:,}",
            f"{replica.wrong:,}",
            formatting.format_distance(replica.max_abs),
        )
    console = Console()
    console.print(table)
    for result in results:
        console.print(
            f"{result.title}: {result.requests:,} requests, {result.wrong:,} wrong, {result.failed:,} failed, "
            f"max |Δ| {formatting.format_max_abs(result)}, p99 {formatting.format_latency(result.p99_ms, ' ms')}",
            highlight=False,
        )
    responses = sum(result.requests - result.failed for result in results)
    wrong = sum(result.wrong for result in results)
    max_abs = formatting.NOT_AVAILABLE
    if responses:
        max_abs = formatting.format_distance(formatting.max_distance([result.max_abs for result in results]))
    count = "1 replica" if len(merged) == 1 else f"{len(merged)} replicas"
    console.print(f"[bold]{responses:,} responses from {count}, {wrong:,} wrong, max |Δ| {max_abs}[/]", highlight=False)
    for text in formatting.describe_references(results):
        console.print(text, highlight=False)
