"""`seaway load`: Locust against a running server, every response checked; capacity and comparisons."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seaway.cli import load_options, options

if TYPE_CHECKING:
    from seaway.load.config import LoadConfig
    from seaway.load.formatting import Pair
    from seaway.load.gate import LimitResult, Limits, Target
    from seaway.load.result import LoadResult

DEFAULT_COMMAND = "run"
DEFAULT_SLOWER = 0.2  # than a baseline, without a limit `slower`
MIN_WIDTH = 100  # columns; where the output is a file, the tables still need their width


class DefaultCommandGroup(options.Group):
    """Makes `seaway load URL` mean `seaway load run URL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="load",
    cls=DefaultCommandGroup,
    rich_markup_mode="rich",
    help="Load-tests a running server and compares every response with the recorded outputs. `seaway load URL` is "
    "short for `seaway load run URL`; `seaway load run --help` lists its options.",
)


@app.command(DEFAULT_COMMAND, cls=options.Command)
def load(
    url: Annotated[str, typer.Argument(help="URL of a running server.", metavar="URL")] = options.DEFAULT_URL,
    protocol: load_options.Protocols = None,
    users: load_options.Users = None,
    rate: load_options.Rate = 0,
    arrivals: load_options.Arrivals = "poisson",
    seed: load_options.Seed = 0,
    duration_s: load_options.Time = 10,
    warmup: load_options.Warmup = 2,
    batch: load_options.Batch = 1,
    shape: Annotated[
        str,
        typer.Option(
            help="Load over time, in percent of --rate (or --users), which is the peak: constant, step (25, 50, 75, "
            "100%), ramp (5 to 100%), spike (20%, and 100% in the middle fifth) or soak (short ramp, then 100%)."
        ),
    ] = "constant",
    processes: load_options.Processes = 1,
    new_connections: Annotated[
        bool, typer.Option("--new-connections", help="Open a new connection for every request.")
    ] = False,
    timeout: load_options.Timeout = 30,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    name: load_options.Name = "",
    version: load_options.Version = None,
    repository: options.Repository = options.DEFAULT_REPOSITORY,
    golden: load_options.Golden = None,
    limits: load_options.LimitsFile = None,
    limit: load_options.Limit = None,
    baseline: Annotated[
        str,
        typer.Option(
            help="URL of a server to compare with, in alternating rounds; needs --rate. The limit slower is 20% unless "
            "set.",
            metavar="URL",
        ),
    ] = "",
    baseline_version: Annotated[
        int | None,
        typer.Option(help="The version to compare with. Default: the server's default.", min=1, show_default=False),
    ] = None,
    judge_profile: Annotated[
        bool,
        typer.Option(
            "--judge-profile",
            help="Compare with the baseline although it uses another engine: the serving profile is what is judged.",
        ),
    ] = False,
    metrics: load_options.Metrics = "",
    report: load_options.Report = None,
) -> None:
    """Load-tests a running server with Locust, compares every output of every response with the recorded one, and
    checks limits.

    The exit status is 0 if every limit is met, 1 if one is violated, and 3 if the result is inconclusive. By default no
    response may be wrong and no request may fail.

    [bold]Examples[/bold]

      seaway load http://127.0.0.1:8501

      seaway load http://127.0.0.1:8501 --rate 200 --time 60 --limit p99_ms=50 --report load/

      seaway load --protocol graphpipe --batch 128 --users 2

      seaway load --rate 100 --version 2 --baseline http://127.0.0.1:8501 --baseline-version 1 --limit slower=20%
    """
    from dataclasses import replace

    from seaway.errors import InvalidInput
    from seaway.load import gate
    from seaway.load.config import LoadConfig
    from seaway.protocols import client_codecs

    load_options.check_extra(report)
    config = LoadConfig(
        users=users or 0, rate=rate, duration_s=duration_s, warmup_s=warmup, batch=batch, shape=shape,
        processes=processes, new_connections=new_connections, request_timeout_s=timeout,
        tls=options.tls(tls_ca, tls_cert, tls_key, insecure, url, baseline, metrics),
        metrics_url=metrics, arrivals=arrivals, seed=seed,
    )  # fmt: skip
    config.check()
    parsed_limits = load_options.parse_limits(limits, limit)
    gate.check_feasible(parsed_limits, config)
    if parsed_limits.slower is not None and not (baseline or baseline_version):
        raise InvalidInput("limit slower needs a baseline: add --baseline URL or --baseline-version N")
    if baseline or baseline_version:
        gate.check_comparison(config)
    for key in protocol or ():
        replace(config, protocol=key).check()
    for each in filter(None, (url, baseline)):
        load_options.check_server(each, config)
    source, config = load_options.find_examples(golden, repository, name, version, config)
    results: list[LoadResult] = []
    pairs: list[Pair] = []
    limit_results: list[LimitResult] = []
    keys = load_options.select_protocols(protocol, url, source, config)
    for key in keys:
        protocol_config = replace(config, protocol=key)
        if baseline or baseline_version:
            baseline_target = gate.Target(baseline or url, source, baseline_version)
            candidate = gate.Target(url, source, config.version)
            rounds, evaluated = _compare(baseline_target, candidate, protocol_config, parsed_limits, judge_profile)
            own, pairs = [result for _, result in rounds], pairs + rounds
        else:
            own = [load_options.run(url, source, protocol_config)]
            evaluated = gate.evaluate_limits(own[0], parsed_limits)
        prefix = f"{client_codecs.named(key).title}, " if len(keys) > 1 else ""
        results += own
        limit_results += [replace(one, limit=prefix + one.limit) for one in evaluated]
        if own[-1].partial:
            break
    _show(results, limit_results, report, pairs)
    raise typer.Exit(gate.EXIT_STATUS[gate.verdict(limit_results)])


def _compare(
    baseline: "Target", candidate: "Target", config: "LoadConfig", limits: "Limits", judge_profile: bool
) -> "tuple[list[Pair], list[LimitResult]]":
    """The rounds of baseline and candidate, the evaluated comparison, and the candidate's other limits that a round did
    not pass."""
    from dataclasses import replace

    from seaway.cli.live import show_progress
    from seaway.load import gate
    from seaway.protocols import client_codecs

    slower = DEFAULT_SLOWER if limits.slower is None else limits.slower
    with show_progress(client_codecs.named(config.protocol).title) as on_progress:
        pairs = gate.run_rounds(baseline, candidate, config, slower, on_progress, judge_profile=judge_profile)
    not_passed = [
        replace(one, limit=f"round {number}, {one.limit}")
        for number, (_, result) in enumerate(pairs, 1)
        for one in gate.evaluate_limits(result, limits)
        if one.state != "pass"
    ]
    return pairs, [*gate.compare_with_baseline(pairs, slower), *not_passed]


def _show(
    results: "list[LoadResult]", limit_results: "list[LimitResult]", report: Path | None, pairs: "list[Pair]"
) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from seaway.load import formatting, gate

    table = Table(
        Column("run", no_wrap=True),
        "correct/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max |Δ|",
        "wrong",
        "failed",
        "served by",
    )
    for name, result in formatting.shown_runs(results, pairs).items():
        table.add_row(
            name,
            f"{result.requests_per_second:.0f}",
            *map(formatting.format_latency, (result.p50_ms, result.p95_ms, result.p99_ms)),
            formatting.format_max_abs(result),
            f"{result.wrong:,}",
            f"{result.failed:,}",
            "\n".join(formatting.shorten_identity(model) for model in result.served_by),
        )
        for kind, count in result.errors.items():
            typer.echo(f"{name}: {kind} ({count:,} times)", err=True)
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    console.print(table)
    for one in limit_results:
        colour = {"pass": "green", "fail": "red", "inconclusive": "yellow"}[one.state]
        console.print(f"[{colour}]{one.state:12}[/] {one.limit}: {one.text}", highlight=False)
    for text in (*gate.describe_rounds(pairs), *formatting.describe_references(results)):
        console.print(text, highlight=False)
    for text in formatting.notes([result for pair in pairs for result in pair] or results):
        console.print(f"[bold yellow]note:[/] {text}", highlight=False)
    if report:
        load_options.write_report(report, results, limit_results, pairs=pairs)


@app.command(cls=options.Command)
def capacity(
    url: Annotated[str, typer.Argument(help="URL of a running server.", metavar="URL")] = options.DEFAULT_URL,
    protocol: load_options.Protocol = "",
    rate: Annotated[
        float, typer.Option(help="Requests per second of the first trial. Default: 20.", min=0, show_default=False)
    ] = 0,
    arrivals: load_options.Arrivals = "poisson",
    seed: load_options.Seed = 0,
    duration_s: Annotated[int, load_options.time_option("Measured time per trial, after the warm-up")] = 10,
    warmup: load_options.Warmup = 2,
    batch: load_options.Batch = 1,
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
    limits: load_options.LimitsFile = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="A maximum, e.g. p99_ms=50; repeat for more. Latency: p50_ms, p90_ms, p95_ms, p99_ms (at least one); "
            "failed, wrong (fraction of requests; default 0).",
            metavar="NAME=VALUE",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder to write load.html, load.json and load.md of all trials to.", metavar="DIR"),
    ] = None,
) -> None:
    """Finds the highest rate of requests at which the server meets its limits, and confirms it with further runs.

    Needs a latency limit, e.g. --limit p99_ms=50. The exit status is 1 if not even the first rate met the limits.

    [bold]Example[/bold]

      seaway load capacity http://127.0.0.1:8501 --limit p99_ms=50
    """
    from dataclasses import replace

    from seaway.cli.live import show_progress
    from seaway.load import capacity as search
    from seaway.load import formatting
    from seaway.load.config import LoadConfig
    from seaway.protocols import client_codecs

    load_options.check_extra(report)
    config = LoadConfig(
        rate=rate, duration_s=duration_s, warmup_s=warmup, batch=batch, processes=processes, request_timeout_s=timeout,
        tls=options.tls(tls_ca, tls_cert, tls_key, insecure, url), arrivals=arrivals, seed=seed,
    )  # fmt: skip
    if protocol:
        config = replace(config, protocol=protocol)
    replace(config, rate=rate or search.FIRST_RATE).check()
    parsed_limits = load_options.parse_limits(limits, limit)
    search.check_limits(parsed_limits)
    load_options.check_server(url, config)
    source, config = load_options.find_examples(golden, repository, name, version, config)
    if not protocol:
        config = replace(config, protocol=load_options.select_protocols(None, url, source, config)[0])
    with show_progress("capacity") as on_progress:
        result = search.capacity(url, source, config, parsed_limits, on_progress)
    for trial in result.trials:
        typer.echo(f"{trial.rate:8.0f} requests/s  {'passed' if trial.passed else 'failed: ' + trial.reason}")
    title = client_codecs.named(config.protocol).title
    conclusion = f"capacity over {title}, {arrivals} arrivals: {result.summary}"
    typer.echo(conclusion)
    for text in formatting.notes([trial.result for trial in result.trials if not trial.result.generator.busy]):
        typer.echo(f"note: {text}")
    if report:
        load_options.write_report(report, [trial.result for trial in result.trials], conclusion=conclusion)
    if not result.rate:
        raise typer.Exit(1)


@app.command(cls=options.Command)
def compare(
    before: Annotated[Path, typer.Argument(help="load.json of one run.", exists=True, dir_okay=False)],
    after: Annotated[Path, typer.Argument(help="load.json of a later run.", exists=True, dir_okay=False)],
) -> None:
    """Compares two load.json files side by side, as a Markdown table.

    [bold]Example[/bold]

      seaway load compare monday/load.json tuesday/load.json
    """
    from seaway.load import result_files

    typer.echo(result_files.compare(result_files.read_json(before), result_files.read_json(after)), nl=False)
