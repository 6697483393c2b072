"""What the server counts of itself, for Prometheus.

Counting is on every request's way, so it is plain integers in plain lists, about three microseconds a request, by the
event loop's thread alone. Rendering is plain too: prometheus_client takes 19 microseconds a line, and the event loop
would stand still for 70 ms where ten versions are served. Its collectors of process figures are used as they are.

No client can make a series: names that no model has are counted as "", and past MOST_SERIES everything new is.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
STAGES = ("read", "queue", "parse", "compute", "write")
MOST_SERIES = 500  # of (protocol, model, version), and of (model, version)
OPENMETRICS = "application/openmetrics-text"

FAMILIES = {  # name: (type, help), in the order of the exposition
    "seaway_requests_total": ("counter", "Requests answered, by HTTP status."),
    "seaway_request_duration_seconds": ("histogram", "Time from a request's first byte to its answer's last."),
    "seaway_request_seconds": ("histogram", "Time a request spent in each stage: read, queue, parse, compute, write."),
    "seaway_batch_requests": ("histogram", "Requests that one call of a model answered together."),
    "seaway_batch_rows": ("histogram", "Rows that one call of a model computed together."),
    "seaway_batch_seconds": ("histogram", "Time of one call of a model."),
    "seaway_loads_total": ("counter", "Versions that were loaded, or that would not load, by result."),
    "seaway_load_seconds": ("gauge", "Time that the last attempt to load this version took."),
    "seaway_model_available": ("gauge", "1 where the version answers requests, 0 where it is known and does not."),
    "seaway_worker_deaths_total": ("counter", "Workers that ended without being told to, by cause."),
    "seaway_queue_length": ("gauge", "Requests that wait to be computed."),
    "seaway_requests_active": ("gauge", "Requests that have begun and are not answered yet."),
    "seaway_connections": ("gauge", "Open connections to the data port."),
    "seaway_workers_alive": ("gauge", "Workers that can take requests."),
    "seaway_body_bytes_held": ("gauge", "Bytes of request bodies that are held in memory now."),
}

Key = tuple[str, ...]
Series = TypeVar("Series")
Availability = tuple[str, str, str, str, bool]  # model, version, identity, labels joined by commas, available


class _Histogram:
    """`counts` has a place for each bound and one for what is above them all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Requests:
    """What is counted for one (protocol, model, version)."""

    __slots__ = ("codes", "duration", "stages")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.duration = _Histogram(SECONDS)
        self.stages = tuple(_Histogram(SECONDS) for _ in STAGES)


class _Batches:
    """What is counted for one (model, version)."""

    __slots__ = ("requests", "rows", "seconds")

    def __init__(self) -> None:
        self.requests, self.rows, self.seconds = _Histogram(SIZES), _Histogram(SIZES), _Histogram(SECONDS)


class _Loads:
    """What is counted for one (model, version)."""

    __slots__ = ("failed", "ok", "seconds")

    def __init__(self) -> None:
        self.ok, self.failed, self.seconds = 0, 0, 0.0


class Metrics:
    """`gauges`: by family, what tells its value when it is asked for, at each scrape; so does `available` for versions.

    `causes` of worker deaths are shown as 0 from the start, since an alert cannot see a counter that begins at 1.
    """

    def __init__(
        self,
        gauges: Mapping[str, Callable[[], float]] | None = None,
        available: Callable[[], Iterable[Availability]] = tuple,
        causes: Iterable[str] = (),
    ) -> None:
        if unknown := set(gauges or ()) - FAMILIES.keys():
            raise ValueError(f"no such gauges: {sorted(unknown)}; describe them in FAMILIES")
        self._gauges, self._available = dict(gauges or {}), available
        self._requests: dict[Key, _Requests] = {}
        self._batches: dict[Key, _Batches] = {}
        self._loads: dict[Key, _Loads] = {}
        self._deaths: dict[Key, int] = {(cause,): 0 for cause in causes}
        self._process = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    # ---- counting

    def answered(self, protocol: str, model: str, version: str, status: int, seconds: float) -> None:
        """One request; `model` and `version` are "" where the request named none that is served."""
        series = self._requests.get((protocol, model, version)) or self._new_requests(protocol, model, version)
        series.codes[status] = series.codes.get(status, 0) + 1
        series.duration.observe(seconds)

    def staged(
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
        """Where one request's time went, in seconds."""
        series = self._requests.get((protocol, model, version)) or self._new_requests(protocol, model, version)
        for histogram, seconds in zip(series.stages, (read, queue, parse, compute, write), strict=True):
            histogram.counts[bisect_left(SECONDS, seconds)] += 1
            histogram.total += seconds

    def batched(self, model: str, version: str, requests: int, rows: int, seconds: float) -> None:
        """One call of a model."""
        series = self._batches.get((model, version)) or _new(self._batches, (model, version), _Batches)
        series.requests.observe(requests)
        series.rows.observe(rows)
        series.seconds.observe(seconds)

    def loaded(self, model: str, version: str, seconds: float, ok: bool) -> None:
        """One attempt to load a version."""
        series = self._loads.get((model, version)) or _new(self._loads, (model, version), _Loads)
        series.ok += ok
        series.failed += not ok
        series.seconds = seconds

    def worker_ended(self, cause: str) -> None:
        """A worker ended that should not have."""
        key = (cause,) if (cause,) in self._deaths or len(self._deaths) < MOST_SERIES else ("",)
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
        """The whole page and its content type: OpenMetrics where `accept` names it, else Prometheus's text format."""
        wants_openmetrics = OPENMETRICS in accept.lower()
        samples = self._samples()
        lines: list[str] = []
        for name, (kind, help_) in FAMILIES.items():
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
        for name, value in self._gauges.items():
            sample(name, "", value())
        return out


def _new(known: dict[Key, Series], key: Key, make: Callable[[], Series]) -> Series:
    """A new series; past MOST_SERIES one without a model's name, which all that is new shares."""
    if len(known) >= MOST_SERIES:
        key = (*key[:-2], "", "")
    return known.setdefault(key, make())


def _labels(**values: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _buckets(out: dict[str, list[str]], name: str, labels: str, histogram: _Histogram) -> None:
    """A histogram's lines, none where nothing was observed: le is cumulative, and includes its bound."""
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
