"""The server's own metrics, for Prometheus.

Counters are plain integers in lists: counting costs about 3 µs per request, and needs no lock because only the event
loop's thread changes them. Rendering is hand-written, because prometheus_client takes 19 µs per line and would block
the event loop for 70 ms with ten versions. Its collectors of process metrics are used unchanged.

Clients cannot create series: unknown model names are counted as "", and so is everything new past MAX_SERIES.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

DURATION_BUCKETS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
SIZE_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
STAGES = ("read", "queue", "parse", "compute", "write")
MAX_SERIES = 500  # of (protocol, model, version), and of (model, version)
TLS = "seaway_tls_"  # families that exist only with TLS
OPENMETRICS = "application/openmetrics-text"

FAMILIES = {  # name: (type, help), in the order of the exposition
    "seaway_requests_total": (
        "counter",
        "Responses to requests of the three protocols, and to unreadable ones, by HTTP status.",
    ),
    "seaway_request_duration_seconds": ("histogram", "Time from a request's first byte to its response."),
    "seaway_request_seconds": ("histogram", "Time a request spent in each stage: read, queue, parse, compute, write."),
    "seaway_batch_requests": ("histogram", "Requests in one batch."),
    "seaway_batch_rows": ("histogram", "Rows in one batch."),
    "seaway_batch_seconds": ("histogram", "Time that the model took for one batch."),
    "seaway_loads_total": ("counter", "Attempts to load a version, by result."),
    "seaway_load_seconds": ("gauge", "Time that the last attempt to load this version took."),
    "seaway_model_available": ("gauge", "1 if the version accepts requests, 0 if it is known but does not."),
    "seaway_worker_deaths_total": ("counter", "Workers that exited unexpectedly, by cause."),
    "seaway_queue_length": ("gauge", "Requests waiting for a worker."),
    "seaway_requests_active": ("gauge", "Requests that have no response yet."),
    "seaway_connections": ("gauge", "Open connections to the data port."),
    "seaway_workers_alive": ("gauge", "Workers that can accept requests."),
    "seaway_body_bytes_held": ("gauge", "Bytes of request bodies in memory."),
    "seaway_tls_certificate_expiry_timestamp_seconds": (
        "gauge",
        "When the certificate in use expires, in seconds since 1970; absent without TLS.",
    ),
    "seaway_tls_last_reload_successful": ("gauge", "1 if the certificate's files are in use, 0 if they cannot be."),
    "seaway_tls_handshake_failures_total": ("counter", "TLS handshakes at the data port that failed or timed out."),
}

Key = tuple[str, ...]
Series = TypeVar("Series")
Availability = tuple[str, str, str, str, bool]  # model, version, identity, labels joined by commas, available


class _Histogram:
    """`counts` has an entry per bound, and one for values above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Requests:
    """Counters of one (protocol, model, version)."""

    __slots__ = ("codes", "duration", "stages")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.duration = _Histogram(DURATION_BUCKETS_S)
        self.stages = tuple(_Histogram(DURATION_BUCKETS_S) for _ in STAGES)


class _Batches:
    """Counters of one (model, version)."""

    __slots__ = ("requests", "rows", "seconds")

    def __init__(self) -> None:
        self.requests, self.rows, self.seconds = (
            _Histogram(SIZE_BUCKETS),
            _Histogram(SIZE_BUCKETS),
            _Histogram(DURATION_BUCKETS_S),
        )


class _Loads:
    """Counters of one (model, version)."""

    __slots__ = ("failed", "ok", "seconds")

    def __init__(self) -> None:
        self.ok, self.failed, self.seconds = 0, 0, 0.0


class Metrics:
    """`gauges`: by family, a function that returns its value, called at each scrape; `available` does so for versions.

    `causes` of worker deaths start at 0, because an alert cannot see the increase of a counter that starts at 1.
    """

    def __init__(
        self,
        gauges: Mapping[str, Callable[[], float]] | None = None,
        available: Callable[[], Iterable[Availability]] = tuple,
        causes: Iterable[str] = (),
    ) -> None:
        if unknown := set(gauges or ()) - FAMILIES.keys():
            raise ValueError(f"no such gauges: {sorted(unknown)}; describe them in FAMILIES")
        self.gauges, self._available = dict(gauges or {}), available
        self._requests: dict[Key, _Requests] = {}
        self._batches: dict[Key, _Batches] = {}
        self._loads: dict[Key, _Loads] = {}
        self._deaths: dict[Key, int] = {(cause,): 0 for cause in causes}
        self._process = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    # ---- counting

    def count_response(self, protocol: str, model: str, version: str, status: int, seconds: float) -> None:
        """Counts one response; `model` and `version` are "" if the request named none that is served."""
        series = self._requests.get((protocol, model, version)) or self._new_requests(protocol, model, version)
        series.codes[status] = series.codes.get(status, 0) + 1
        series.duration.observe(seconds)

    def observe_stages(
        self,
        protocol: str,
        model: str,
        version: str,
        read: float,
        queue: float,
        parse: float,
        compute: float,
        write: float,
    ) -> None:
        """Records the stages of one request, in seconds."""
        series = self._requests.get((protocol, model, version)) or self._new_requests(protocol, model, version)
        for histogram, seconds in zip(series.stages, (read, queue, parse, compute, write), strict=True):
            histogram.counts[bisect_left(DURATION_BUCKETS_S, seconds)] += 1
            histogram.total += seconds

    def observe_batch(self, model: str, version: str, requests: int, rows: int, seconds: float) -> None:
        """Records one call of a model."""
        series = self._batches.get((model, version)) or _new(self._batches, (model, version), _Batches)
        series.requests.observe(requests)
        series.rows.observe(rows)
        series.seconds.observe(seconds)

    def count_load(self, model: str, version: str, seconds: float, ok: bool) -> None:
        """Counts one attempt to load a version."""
        series = self._loads.get((model, version)) or _new(self._loads, (model, version), _Loads)
        series.ok += ok
        series.failed += not ok
        series.seconds = seconds

    def count_death(self, cause: str) -> None:
        """Counts one unexpected exit of a worker."""
        key = (cause,) if (cause,) in self._deaths or len(self._deaths) < MAX_SERIES else ("",)
        self._deaths[key] = self._deaths.get(key, 0) + 1

    def forget(self, model: str, version: str) -> None:
        """Drops the series of a version that is no longer served."""
        every: tuple[dict[Key, Any], ...] = (self._requests, self._batches, self._loads)
        for series in every:
            for key in [key for key in series if key[-2:] == (model, version)]:
                del series[key]

    def _new_requests(self, protocol: str, model: str, version: str) -> _Requests:
        return _new(self._requests, (protocol, model, version), _Requests)

    # ---- exposition

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics if `accept` names it, else Prometheus's text format."""
        wants_openmetrics = OPENMETRICS in accept.lower()
        samples = self._samples()
        lines: list[str] = []
        for name, (kind, help_) in FAMILIES.items():
            if name.startswith(TLS) and name not in self.gauges:
                continue
            family = name.removesuffix("_total") if wants_openmetrics else name
            lines += [f"# HELP {family} {help_}\n", f"# TYPE {family} {kind}\n", *samples.get(name, ())]
        ours = "".join(lines).encode()
        if wants_openmetrics:
            process = openmetrics.generate_latest(self._process)  # type: ignore[no-untyped-call]
            return ours + process, openmetrics.CONTENT_TYPE_LATEST
        return ours + generate_latest(self._process), CONTENT_TYPE_PLAIN_0_0_4

    def _samples(self) -> dict[str, list[str]]:
        """Lines by family."""
        out: dict[str, list[str]] = {name: [] for name in FAMILIES}

        def sample(name: str, labels: str, value: float) -> None:
            out[name].append(f"{name}{{{labels}}} {value}\n" if labels else f"{name} {value}\n")

        for (protocol, model, version), requests in self._requests.items():
            labels = _labels(protocol=protocol, model=model, version=version)
            for code, count in requests.codes.items():
                sample("seaway_requests_total", f'{labels},code="{code}"', count)
            _buckets(out, "seaway_request_duration_seconds", labels, requests.duration)
            for stage, histogram in zip(STAGES, requests.stages, strict=True):
                _buckets(out, "seaway_request_seconds", f'{labels},stage="{stage}"', histogram)
        for (model, version), batches in self._batches.items():
            labels = _labels(model=model, version=version)
            _buckets(out, "seaway_batch_requests", labels, batches.requests)
            _buckets(out, "seaway_batch_rows", labels, batches.rows)
            _buckets(out, "seaway_batch_seconds", labels, batches.seconds)
        for (model, version), loads in self._loads.items():
            labels = _labels(model=model, version=version)
            sample("seaway_loads_total", f'{labels},result="ok"', loads.ok)
            sample("seaway_loads_total", f'{labels},result="failed"', loads.failed)
            sample("seaway_load_seconds", labels, loads.seconds)
        for model, version, identity, names, available in self._available():
            labels = _labels(model=model, version=version, identity=identity, labels=names)
            sample("seaway_model_available", labels, int(available))
        for (cause,), count in self._deaths.items():
            sample("seaway_worker_deaths_total", _labels(cause=cause), count)
        for name, value in self.gauges.items():
            sample(name, "", value())
        return out


def _new(known: dict[Key, Series], key: Key, make: Callable[[], Series]) -> Series:
    """A new series; past MAX_SERIES the one without a model's name, which all new names share."""
    if len(known) >= MAX_SERIES:
        key = (*key[:-2], "", "")
    return known.setdefault(key, make())


def _labels(**values: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _buckets(out: dict[str, list[str]], name: str, labels: str, histogram: _Histogram) -> None:
    """A histogram's lines, none if it is empty: le is cumulative, and includes its bound."""
    counts = list(accumulate(histogram.counts))
    if not counts[-1]:
        return
    start = f'{name}_bucket{{{labels},le="'
    out[name] += [f'{start}{bound}"}} {count}\n' for bound, count in zip(histogram.bounds, counts, strict=False)]
    out[name] += [
        f'{start}+Inf"}} {counts[-1]}\n',
        f"{name}_sum{{{labels}}} {histogram.total}\n",
        f"{name}_count{{{labels}}} {counts[-1]}\n",
    ]
