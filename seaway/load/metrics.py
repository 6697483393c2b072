"""The server's own metrics while it is loaded: its Prometheus page, read about once a second.

A panel is what a report draws together; its series are taken from what the page holds, and none where it holds none.
"""

import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from seaway.errors import InvalidInput, Unavailable

SECONDS = 1.0  # that a page may take
STAGES = ("read", "queue", "parse", "compute", "write")

Page = dict[str, float]  # sample's name, and its stage in brackets where it has one → sum over its other labels
Value = Callable[[Page, Page, float], float | None]  # of the page before, this one, and the seconds between


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    stacked: bool
    series: Mapping[str, Value]


def _gauge(name: str, scale: float = 1.0) -> Value:
    return lambda before, now, seconds: now[name] * scale if name in now else None


def _rate(name: str) -> Value:
    return lambda before, now, seconds: (now[name] - before.get(name, 0.0)) / seconds if name in now else None


def _mean(name: str, stage: str = "", scale: float = 1.0) -> Value:
    """Of what a histogram observed between the two pages."""
    end = f"[{stage}]" if stage else ""
    total, count = f"{name}_sum{end}", f"{name}_count{end}"

    def value(before: Page, now: Page, seconds: float) -> float | None:
        del seconds
        observed = now.get(count, 0.0) - before.get(count, 0.0)
        return (now[total] - before.get(total, 0.0)) / observed * scale if observed > 0 else None

    return value


PANELS = (
    Panel("in the server, mean ms", True, {s: _mean("seaway_request_seconds", s, 1000) for s in STAGES}),
    Panel(
        "requests",
        False,
        {
            "in the server": _gauge("seaway_requests_active"),
            "waiting to be computed": _gauge("seaway_queue_length"),
            "rows a batch": _mean("seaway_batch_rows"),
        },
    ),
    Panel(
        "the process that answers /metrics",
        False,
        {"cores": _rate("process_cpu_seconds_total"), "GB resident": _gauge("process_resident_memory_bytes", 1e-9)},
    ),
)


def read(url: str) -> Page:
    """The page at `url`. Raises InvalidInput for an address that is none, Unavailable where no such page is."""
    from prometheus_client.parser import text_string_to_metric_families

    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"--metrics {url!r}: give an address like http://127.0.0.1:8502/metrics")
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            text = answer.read().decode("utf-8", "replace")
        page: Page = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                stage = sample.labels.get("stage")
                name = f"{sample.name}[{stage}]" if stage else sample.name
                page[name] = page.get(name, 0.0) + sample.value
    except (OSError, ValueError) as error:
        raise Unavailable(f"{url}: no metrics for Prometheus there ({error}); what does --metrics name?") from None
    return page


def series(pages: Sequence[tuple[float, Page]]) -> dict[str, tuple[tuple[float, float], ...]]:
    """Panel and series, ": " between, → (second of the run, value); `pages`: those seconds, and what was read then."""
    found: dict[str, list[tuple[float, float]]] = {}
    for (earlier, before), (second, now) in pairwise(pages):
        for panel in PANELS:
            for name, value in panel.series.items():
                got = value(before, now, max(second - earlier, 1e-3))
                if got is not None:
                    found.setdefault(f"{panel.title}: {name}", []).append((round(second, 2), got))
    return {name: tuple(points) for name, points in found.items()}
