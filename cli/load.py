"""`seaway load`: Locust against a running server, every answer compared with PyTorch's; capacity and comparisons."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli import options

if TYPE_CHECKING:
    from loadtest import gate
    from loadtest.gate import Limits, Line
    from loadtest.run import LoadResult, Plan

DEFAULT = "run"
UNNAMED = ("tfs", "graphpipe")  # protocols that are asked where none is named
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
    help="Loads a running server and compares every answer with PyTorch's: `seaway load URL` [options of `run`].",
)

Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol", help="tfs, graphpipe, oip, oip-binary or png; repeat for more (default: tfs, graphpipe)."
    ),
]
Users = Annotated[
    int, typer.Option(help="Users at a time; 0: 8, or with --rate as many as it takes, up to 256.", min=0)
]
Rate = Annotated[
    float, typer.Option(help="Requests a second, due at fixed times; 0: each user waits for its answer.", min=0)
]
Time = Annotated[int, typer.Option("--time", help="Seconds a protocol, after the warm-up.", min=1)]
Warmup = Annotated[int, typer.Option(help="Seconds before that whose latencies do not count.", min=0)]
Batch = Annotated[int, typer.Option(help="Examples a request.", min=1)]
Processes = Annotated[int, typer.Option(help="Processes that send.", min=1)]
Timeout = Annotated[float, typer.Option(help="Seconds after which a request has failed.")]
NewConnections = Annotated[bool, typer.Option("--new-connections", help="Open one for every request.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Accept any certificate.")]
Version = Annotated[int, typer.Option(help="Which version to ask; 0: with --volume the one that is stable.")]
Golden = Annotated[
    Path | None,
    typer.Option(
        "--golden", "--data", exists=True,
        help="A version's folder, an ONNX artifact, or an .npz file of examples, instead of --volume.",
    ),
]  # fmt: skip
LimitsFile = Annotated[
    Path | None, typer.Option("--limits", exists=True, dir_okay=False, help="A YAML file of limits.")
]
Limit = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE: failed, wrong (shares, default 0), p50_ms … p99_ms, rate, slower; repeat for more."),
]


@app.command(DEFAULT)
def load(
    url: Annotated[str, typer.Argument(help="Address of a running server.")] = options.DEFAULT_URL,
    protocol: Protocols = None,
    users: Users = 0,
    rate: Rate = 0,
    seconds: Time = 10,
    warmup: Warmup = 2,
    batch: Batch = 1,
    shape: Annotated[
        str, typer.Option(help="constant, step, ramp, spike or soak: the load over the time.")
    ] = "constant",
    processes: Processes = 1,
    new_connections: NewConnections = False,
    timeout: Timeout = 30,
    insecure: Insecure = False,
    name: Annotated[str, typer.Option(help="The model's name on the server.")] = "",
    version: Version = 0,
    volume: options.Volume = options.DEFAULT_VOLUME,
    golden: Golden = None,
    limits: LimitsFile = None,
    limit: Limit = None,
    baseline: Annotated[
        str, typer.Option(help="Address of a server to be compared with, in turn (needs --rate).")
    ] = "",
    baseline_version: Annotated[int, typer.Option(help="The version to be compared with; 0: whichever answers.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Folder for load.html, load.json and load.md.")] = None,
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

    from loadtest import gate, wire

    plan = _plan(users, rate, seconds, warmup, batch, shape, processes, new_connections, timeout, insecure)
    wanted = _limits(limits, limit)
    source, plan = _source(golden, volume, name, version, plan)
    results: list[LoadResult] = []
    lines: list[Line] = []
    for key in protocol or UNNAMED:
        one = replace(plan, protocol=key)
        if baseline or baseline_version:
            target = gate.Target(url, source, plan.version)
            slower = wanted.slower if wanted.slower is not None else SLOWER
            pairs = _rounds(gate.Target(baseline or url, source, baseline_version or None), target, one, slower)
            lines += [
                *gate.against(pairs, slower),
                *(li for _, own in pairs for li in gate.judge(own, wanted) if li.state != "pass"),
            ]
            results += [own for _, own in pairs]
            continue
        results.append(_run(url, source, one))
        several = f"{wire.named(key).title}, " if len(protocol or UNNAMED) > 1 else ""
        lines += [replace(line, limit=several + line.limit) for line in gate.judge(results[-1], wanted)]
    _show(results, lines, report)
    raise typer.Exit(gate.EXIT[gate.verdict(lines)])


def _plan(users: int, rate: float, seconds: int, warmup: int, batch: int, shape: str, processes: int,
          new_connections: bool, timeout: float, insecure: bool) -> "Plan":  # fmt: skip
    from loadtest.run import Plan

    plan = Plan(
        users=users, rate=rate, seconds=seconds, warmup=warmup, batch=batch, shape=shape, processes=processes,
        new_connections=new_connections, request_timeout=timeout, insecure=insecure,
    )  # fmt: skip
    plan.check()
    return plan


def _source(golden: Path | None, volume: Path, name: str, version: int, plan: "Plan") -> "tuple[Path, Plan]":
    """Where the examples are, and the plan with the model's name and version."""
    from dataclasses import replace

    from seaway import store
    from seaway.errors import NotFound

    if golden is not None:
        return golden, replace(plan, model=name, version=version or None)
    name = name or options.DEFAULT_NAME
    available = store.versions(volume, name)
    if not available:
        raise NotFound(f"{volume} holds no model {name!r}: give --volume and --name, or --golden")
    version = version or store.labels(volume, name).get("stable", available[-1])
    return store.existing(volume, name, version), replace(plan, model=name, version=version)


def _limits(file: Path | None, given: list[str] | None) -> "Limits":
    from loadtest import gate
    from seaway.errors import InvalidInput

    values = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"--limit {text!r}: give NAME=VALUE, as p99_ms=50")
        values[name.strip()] = value
    if file is None:
        return gate.limits(values, "--limit")
    from dataclasses import asdict

    known = {name: value for name, value in asdict(gate.read(file)).items() if value is not None}
    return gate.limits({**known, **values}, f"{file} and --limit")


def _run(url: str, source: Path, plan: "Plan") -> "LoadResult":
    from cli.live import watching
    from loadtest import run, wire

    with watching(wire.named(plan.protocol).title) as told:
        return run.run(url, source, plan, told)


def _rounds(baseline: "gate.Target", candidate: "gate.Target", plan: "Plan", slower: float) -> "list[gate.Pair]":
    from cli.live import watching
    from loadtest import gate, wire

    with watching(wire.named(plan.protocol).title) as told:
        return gate.rounds(baseline, candidate, plan, slower, lambda _, progress: told(progress))


def _show(results: "list[LoadResult]", lines: "list[Line]", report: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from loadtest import results as written
    from loadtest import wire

    table = Table("protocol", "req/s", "p50 ms", "p95 ms", "p99 ms", "max |Δ|", "wrong", "failed", "answered by")
    for result in results:
        table.add_row(
            wire.named(result.protocol).title,
            f"{result.requests_per_second:.0f}",
            *(f"{ms:.1f}" for ms in (result.p50_ms, result.p95_ms, result.p99_ms)),
            written.distance(result.max_abs),
            str(result.wrong),
            str(result.failed),
            "\n".join(result.served_by),
        )
        for kind, count in result.errors.items():
            typer.echo(f"{wire.named(result.protocol).title}: {count} times {kind}", err=True)
    console = Console()
    console.print(table)
    for line in lines:
        colour = {"pass": "green", "fail": "red", "inconclusive": "yellow"}[line.state]
        console.print(f"[{colour}]{line.state:12}[/] {line.limit}: {line.text}", highlight=False)
    for result in results:
        if result.generator.bottleneck:
            console.print(f"[bold yellow]the load generator:[/] {result.generator.bottleneck}", highlight=False)
    if report:
        write_report(report, results, lines)


def write_report(folder: Path, results: "list[LoadResult]", lines: "list[Line]") -> None:
    from loadtest import report
    from loadtest import results as written
    from seaway import atomic

    folder.mkdir(parents=True, exist_ok=True)
    title = f"Load test of {results[0].url}" if results else "Load test"
    written.write_json(folder / written.JSON, results, lines)
    with atomic.file(folder / written.MARKDOWN) as part:
        part.write_text(written.markdown(title, results, lines), encoding="utf-8")
    with atomic.file(folder / written.HTML) as part:
        part.write_text(report.load_page(title, results, lines), encoding="utf-8")
    typer.echo(f"written: {folder / written.HTML}, {written.JSON}, {written.MARKDOWN}", err=True)


@app.command()
def capacity(
    url: Annotated[str, typer.Argument(help="Address of a running server.")] = options.DEFAULT_URL,
    protocol: Annotated[str, typer.Option(help="tfs, graphpipe, oip, oip-binary or png.")] = "tfs",
    rate: Annotated[float, typer.Option(help="Where the search begins, requests a second.", min=0)] = 0,
    seconds: Time = 10,
    warmup: Warmup = 2,
    batch: Batch = 1,
    processes: Processes = 1,
    timeout: Timeout = 30,
    insecure: Insecure = False,
    name: Annotated[str, typer.Option(help="The model's name on the server.")] = "",
    version: Version = 0,
    volume: options.Volume = options.DEFAULT_VOLUME,
    golden: Golden = None,
    limits: LimitsFile = None,
    limit: Limit = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for load.html, load.json and load.md of all trials.")
    ] = None,
) -> None:
    """Finds the highest rate of requests at which the server keeps its limits, and says how sure that is.

    [bold]Example[/bold]

      seaway load capacity http://127.0.0.1:8501 --limit p99_ms=50
    """
    from dataclasses import replace

    from cli.live import watching
    from loadtest import capacity as search

    plan = _plan(0, rate, seconds, warmup, batch, "constant", processes, False, timeout, insecure)
    source, plan = _source(golden, volume, name, version, plan)
    with watching("capacity") as told:
        found = search.capacity(
            url, source, replace(plan, protocol=protocol), _limits(limits, limit), lambda _, progress: told(progress)
        )
    for trial in found.trials:
        typer.echo(f"{trial.rate:8.0f}/s  {'held' if trial.held else 'not held: ' + trial.why}")
    typer.echo(f"capacity: {found.text}")
    if report:
        write_report(report, [trial.result for trial in found.trials], [])
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
    from loadtest import results

    typer.echo(results.compare(results.read_json(before), results.read_json(after)), nl=False)
