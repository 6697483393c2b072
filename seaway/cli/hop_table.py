"""The hop table: accuracy and distance from the first hop at every hop; speed and errors of the served hops."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from seaway.artifacts import model_repository


def print_hops(repository: Path, name: str, version: int) -> None:
    """Prints one row per hop, from the version's own parity.json and the newest load.json of its evidence."""
    digest = model_repository.read_metadata(repository, name, version).sha256
    parity = json.loads(
        (model_repository.path(repository, name, version) / model_repository.EXTRA / "parity.json").read_text()
    )
    loads = sorted(
        model_repository.evidence(repository, name, digest).rglob("load.json"), key=lambda p: p.stat().st_mtime
    )
    rows = parity["rows"] + (json.loads(loads[-1].read_text())["rows"] if loads else [])
    table = Table(title=f"{name}/{version} @{digest[:12]}")
    for heading in ("hop", "accuracy", "max |Δ|", "correct/s", "p50 ms", "p99 ms", "wrong", "failed"):
        table.add_column(heading, justify="left" if heading == "hop" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, compared=row is not rows[0]))
    console = Console()
    console.width = max(console.width, 100)  # where the output is a file, the table still needs its width
    console.print(table)


def _cells(row: dict[str, Any], compared: bool) -> list[str]:
    def number(key: str, form: str) -> str:
        return form.format(row[key]) if row.get(key) is not None else ""

    distance = row.get("max_abs")
    if isinstance(distance, dict):
        distance = max(distance.values(), default=None)
    return [
        row["hop"],
        number("accuracy", "{:.2%}"),
        "" if distance is None or not compared else f"{distance:.1e}",
        number("requests_per_second", "{:.0f}"),
        number("p50_ms", "{:.1f}"),
        number("p99_ms", "{:.1f}"),
        number("wrong", "{:d}") if compared else "",
        number("failed", "{:d}"),
    ]
