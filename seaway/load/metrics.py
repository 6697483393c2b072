"""The server's own metrics during the load: its Prometheus page, read about once per second.

A series whose metric is not on the page is left out.
"""

import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from seaway.client_tls import DEFAULT_TLS, ClientTls, is_tls
from seaway.errors import InvalidInput, Unavailable

TIMEOUT_S = 1.0
IN_SERVER = "in the server, mean ms"  # the panel of the stages
STAGES = ("read", "queue", "parse", "compute", "write")

Page = dict[str, float]  # sample's name, followed by its stage in brackets if it has one → sum over its other labels
Value = Callable[[Page, Page, float], float | None]  # of the previous page, this one, and the seconds between them


@dataclass(frozen=True, slots=True)
class Panel:
    """`key` and the keys of `series` are those of load.json, joined by ": "."""

    key: str
    series: Mapping[str, Value]


def _gauge(name: str, scale: float = 1.0) -> Value:
    return lambda previous, page, seconds: page[name] * scale if name in page else None


def _rate(name: str) -> Value:
    return lambda previous, page, seconds: (page[name] - previous.get(name, 0.0)) / seconds if name in page else None


def _mean(name: str, stage: str = "", scale: float = 1.0) -> Value:
    """The mean of a histogram's observations between the two pages."""
    suffix = f"[{stage}]" if stage else ""
    total, count = f"{name}_sum{suffix}", f"{name}_count{suffix}"

    def value(previous: Page, page: Page, seconds: float) -> float | None:
        del seconds
        observed = page.get(count, 0.0) - previous.get(count, 0.0)
        return (page[total] - previous.get(total, 0.0)) / observed * scale if observed > 0 else None

    return value


PANELS = (
    Panel(IN_SERVER, {stage: _mean("seaway_request_seconds", stage, 1000) for stage in STAGES}),
    Panel(
        "requests",
        {
            "in the server": _gauge("seaway_requests_active"),
            "waiting to be computed": _gauge("seaway_queue_length"),
            "rows a batch": _mean("seaway_batch_rows"),
        },
    ),
    Panel(
        "the process that answers /metrics",
        {"cores": _rate("process_cpu_seconds_total"), "GB resident": _gauge("process_resident_memory_bytes", 1e-9)},
    ),
)
HEADINGS = {  # of the series that are not stages
    "requests: in the server": "requests in flight",
    "requests: waiting to be computed": "queued",
    "requests: rows a batch": "rows per batch",
    "the process that answers /metrics: cores": "CPU cores",
    "the process that answers /metrics: GB resident": "resident memory, GB",
}


def read(url: str, tls: ClientTls = DEFAULT_TLS) -> Page:
    """The page at `url`; `tls`: for https://. Raises InvalidInput for an invalid URL or unusable files, Unavailable if
    there is no Prometheus page."""
    from prometheus_client.parser import text_string_to_metric_families

    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"--metrics {url!r} is not a URL; give one like http://127.0.0.1:8502/metrics")
    try:
        context = tls.ssl_context() if is_tls(url) else None
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as response:
            text = response.read().decode("utf-8", "replace")
        page: Page = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                stage = sample.labels.get("stage")
                name = f"{sample.name}[{stage}]" if stage else sample.name
                page[name] = page.get(name, 0.0) + sample.value
    except (OSError, ValueError) as error:
        if is_tls(url) and (advice := tls.advice(str(error))):
            raise Unavailable(f"{url}: {advice}") from None
        raise Unavailable(f"{url}: not a Prometheus page ({error}); check --metrics") from None
    return page


def series(pages: Sequence[tuple[float, Page]]) -> dict[str, tuple[tuple[float, float], ...]]:
    """ "<panel>: <series>" → (second of the run, value); `pages`: (second of the run, page)."""
    collected: dict[str, list[tuple[float, float]]] = {}
    for (earlier, previous), (second, page) in pairwise(pages):
        for panel in PANELS:
            for name, evaluate in panel.series.items():
                value = evaluate(previous, page, max(second - earlier, 1e-3))
                if value is not None:
                    collected.setdefault(f"{panel.key}: {name}", []).append((round(second, 2), value))
    return {name: tuple(points) for name, points in collected.items()}
