"""`seaway load`: Locust against a running server, every answer compared with PyTorch's."""

from pathlib import Path
from typing import Annotated

import typer

from cli import options


def load(
    url: Annotated[str, typer.Argument(help="Address of a running server.")] = options.DEFAULT_URL,
    protocol: Annotated[
        list[str] | None, typer.Option(help="'rest' or 'graphpipe'; repeat for more (default: both).")
    ] = None,
    users: Annotated[int, typer.Option(help="Users at the same time, each waiting for its answer.", min=1)] = 8,
    batch: Annotated[int, typer.Option(help="Examples a request.", min=1)] = 1,
    seconds: Annotated[int, typer.Option("--time", help="Seconds a protocol, after a warm-up of two.", min=1)] = 10,
    name: options.Name = options.DEFAULT_NAME,
    version: Annotated[int, typer.Option(help="Which version to load; 0: the one that is stable.")] = 0,
    volume: options.Volume = options.DEFAULT_VOLUME,
    golden: Annotated[
        Path | None, typer.Option(help="A version's folder with golden examples, instead of --volume.", exists=True)
    ] = None,
) -> None:
    """Loads a running server with Locust and compares every answer with PyTorch's.

    The exit status is 1 if any answer was wrong or any request failed.

    [bold]Examples[/bold]

      seaway load http://127.0.0.1:8501

      seaway load http://127.0.0.1:8501 --protocol graphpipe --batch 128 --users 2 --time 60
    """
    from rich.console import Console
    from rich.table import Table

    from loadtest import report, run, wire
    from seaway import store
    from seaway.errors import NotFound

    if golden is None:
        available = store.versions(volume, name)
        if not available:
            raise NotFound(f"{volume} holds no model {name!r}: give --volume and --name, or --golden")
        version = version or store.labels(volume, name).get("stable", available[-1])
        golden = store.existing(volume, name, version)
    table = Table("protocol", "req/s", "p50 ms", "p90 ms", "p99 ms", "max |Δ|", "wrong", "failed", "answered by")
    good = True
    for key in protocol or list(wire.PROTOCOLS):
        spoken = wire.named(key)
        with Console(stderr=True).status(f"{spoken.title}: {users} users for {seconds} s"):
            result = run.run(url, golden, key, seconds, users, batch, model=name, version=version or None)
        good = good and not result.wrong and not result.failed
        table.add_row(
            spoken.title,
            f"{result.requests_per_second:.0f}",
            *(f"{ms:.1f}" for ms in (result.p50_ms, result.p90_ms, result.p99_ms)),
            report.distance(result.max_abs),
            str(result.wrong),
            str(result.failed),
            "\n".join(result.served_by),
        )
        for kind, count in result.errors.items():
            typer.echo(f"{spoken.title}: {count} times {kind}", err=True)
    Console().print(table)
    if not good:
        raise typer.Exit(1)
