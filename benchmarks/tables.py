"""Markdown tables, and the medians that stand in them."""

from collections.abc import Iterable, Sequence
from statistics import median


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def middle(values: Iterable[float]) -> float:
    """The median; NaN of nothing."""
    listed = list(values)
    return median(listed) if listed else float("nan")


def spread(values: Iterable[float]) -> str:
    """Smallest to largest, as a reader wants them beside a median."""
    listed = list(values)
    return f"{min(listed):.0f} to {max(listed):.0f}" if listed else ""
