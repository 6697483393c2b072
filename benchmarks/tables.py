"""Markdown tables, and the medians and ranges in them."""

from collections.abc import Iterable, Sequence
from statistics import median


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def median_or_nan(values: Iterable[float]) -> float:
    """The median; NaN without any value."""
    listed = list(values)
    return median(listed) if listed else float("nan")


def value_range(values: Iterable[float]) -> str:
    """Smallest to largest, to stand beside a median; "" without any value."""
    listed = list(values)
    return f"{min(listed):.0f} to {max(listed):.0f}" if listed else ""
