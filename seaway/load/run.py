"""One Locust run without its web page, in a process of its own, as a function that returns what was measured."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from seaway import extras
from seaway.errors import InvalidInput, Unavailable
from seaway.load import metrics, payloads, schedule
from seaway.load.client import Client
from seaway.load.metrics import Page
from seaway.load.tally import Answers, Tally, finite, milliseconds_of, percentile, pooled
from seaway.protocols import wire

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
OPEN_USERS = 256  # of an open loop: so many requests may be under way before new ones wait for a user
BUSY = 0.9  # of a core: a process that takes more cannot send on time
LATE_MS = 5.0  # p99 of what the load generator itself adds, above which it says so
LOOK_SECONDS = 0.1
PRECISE_RATE = 500.0  # requests a second of one process


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load a server. `rate` 0: a closed loop, in which each user sends when it was answered; else requests a
    second, due as `arrivals` and `seed` have it (`schedule.Schedule`), which `users` (0: enough) send. The warm-up
    comes before `seconds`, at the same load."""

    protocol: str = "tfs"
    users: int = 0
    rate: float = 0.0
    seconds: int = 10
    warmup: int = 2
    batch: int = 1
    shape: str = "constant"
    processes: int = 1
    new_connections: bool = False
    request_timeout: float = 30.0
    model: str = ""  # "": as on the card
    version: int | None = None
    insecure: bool = False
    metrics: str = ""  # address of the server's Prometheus page, "": none
    arrivals: str = schedule.POISSON
    seed: int = 0

    @property
    def user_count(self) -> int:
        return self.users or (OPEN_USERS if self.rate else 8)

    def check(self) -> None:
        """Raises InvalidInput for what contradicts itself."""
        if self.users < 0 or self.seconds < 1 or self.warmup < 0 or self.processes < 1:
            raise InvalidInput(
                f"a load test needs 1 user, 1 process and 1 second at least, not {self.users} users and "
                f"{self.processes} processes for {self.seconds} s"
            )
        if self.rate < 0 or not math.isfinite(self.rate):
            raise InvalidInput(f"--rate must be above 0 requests a second, not {self.rate:g}")
        if self.request_timeout <= 0:
            raise InvalidInput(f"--timeout must be above 0 seconds, not {self.request_timeout:g}")
        if self.user_count < self.processes:
            raise InvalidInput(f"{self.processes} processes need as many users at least, not {self.user_count}")
        schedule.Schedule(self.rate or 1.0, 1, self.shape, arrivals=self.arrivals, seed=self.seed)
        wire.named(self.protocol)

    def schedule(self) -> schedule.Schedule | None:
        """When requests are due, None in a closed loop. Raises InvalidInput."""
        if not self.rate:
            return None
        seconds = self.warmup + self.seconds
        return schedule.Schedule(self.rate, seconds, self.shape, arrivals=self.arrivals, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the run, counted from its start, warm-up included: right answers and faults that came in it, and
    the percentiles of requests that were due in it (sent, in a closed loop), None where none was answered rightly."""

    second: int
    right: int
    p50_ms: float | None
    p99_ms: float | None
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """Who answered: its `pod` and `model` (name/version@digest), "" where it does not say. `max_abs` None: beyond
    measure."""

    pod: str
    model: str
    answers: int
    wrong: int
    max_abs: float | None


@dataclass(frozen=True, slots=True)
class Generator:
    """What the load generator did to the measurement. `late_p99_ms` is its own delay after the warm-up (None: nothing
    was due while a user was free), `cpu` the cores that each of its processes took, `unready` the requests that were
    due before any user was free, `unsent` those that never were sent. `bottleneck` says in words what came between;
    `starved`: that was the generator's own lack of CPU, so its latencies are not the server's."""

    processes: int = 1
    cpu: float = 0.0
    late_p99_ms: float | None = None
    unready: int = 0
    unsent: int = 0
    bottleneck: str = ""
    starved: bool = False


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`requests`, `failed`, `wrong`, `max_abs` (None: beyond measure) are of the whole run. `requests` are those that
    ended. `requests_per_second`: right answers that came after the warm-up and before the end. Latencies (None: no
    right answer) are of right answers to the requests that were due in that time (sent, in a closed loop), whenever
    they came. `due_per_second` and `expected_per_second` (0 in a closed loop): how many were due in that time, and
    would be on average. `reference`: what answers were compared with, a key of `payloads.REFERENCES`. `telling`: the
    expected answers differ enough that a mixed-up answer would be noticed. `partial`: the run was ended before its
    time. `spread_ms`: [from, answers] of bins 1 % wide. `faults`: kind → [second, times]. `server`: its own metrics, as
    `metrics.series` gives them."""

    protocol: str
    url: str
    users: int
    rate: float
    shape: str
    batch: int
    new_connections: bool
    seconds: float
    warmup: int
    requests: int
    failed: int
    wrong: int
    requests_per_second: float
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_abs: float | None
    telling: bool
    partial: bool
    replicas: tuple[Replica, ...]
    generator: Generator
    errors: dict[str, int]
    faults: dict[str, tuple[tuple[int, int], ...]]
    percentiles: dict[str, float | None]
    spread_ms: tuple[tuple[float, int], ...]
    over_time: tuple[Second, ...]
    server: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    arrivals: str = ""  # "" in a closed loop
    seed: int = 0
    due_per_second: float = 0.0
    expected_per_second: float = 0.0
    reference: str = payloads.PYTORCH

    @property
    def title(self) -> str:
        """The protocol's name in reports."""
        return wire.named(self.protocol).title

    @property
    def served_by(self) -> dict[str, int]:
        """Seaway-Model header → 2xx answers."""
        counts: Counter[str] = Counter()
        for replica in self.replicas:
            counts[replica.model] += replica.answers
        return dict(counts)


@dataclass(slots=True)
class Progress:
    """What is known while a run goes on; `last` is of the last second or so."""

    elapsed: float = 0.0
    users: int = 0
    processes: int = 1
    total: Tally = field(default_factory=Tally)
    last: Tally = field(default_factory=Tally)
    pages: list[tuple[float, Page]] = field(default_factory=list)


Told = Callable[[Progress], None]


def run(url: str, source: Path, plan: Plan, told: Told | None = None) -> LoadResult:
    """Loads the server at `url` as planned; `told` hears of it every second or so.

    `source`: a published version's folder, an ONNX artifact or an .npz file (`payloads.read_model`). A run that is
    interrupted (Ctrl-C) ends early, with what was measured until then. Raises Unavailable where no server answers or
    Locust fails, NotFound for a model it does not know, InvalidInput, CardError and DataError for what was given.
    """
    extras.require("locust")
    plan.check()
    model, protocol = payloads.read_model(source), wire.named(plan.protocol)
    sent = payloads.encode(model, protocol, plan.batch)
    name = name_of(plan, model)
    probe(url, protocol, name, plan, sent[0])
    if plan.metrics:
        metrics.read(plan.metrics)  # so that a wrong address is told before the load
    progress = _locust(url, source, name, plan, told or (lambda progress: None))
    partial = progress.elapsed < plan.warmup + plan.seconds - 0.5
    return result(progress, url, plan, payloads.distinct(sent), partial, model.reference)


def result(
    progress: Progress,
    url: str,
    plan: Plan,
    telling: bool = True,
    partial: bool = False,
    reference: str = payloads.PYTORCH,
) -> LoadResult:
    """A run's counts as rates and percentiles; the warm-up counts for correctness alone.

    `progress.elapsed`: seconds until the users were told to stop; Locust may be early or late by some hundredths.
    """
    tally, elapsed, warmup = progress.total, progress.elapsed, plan.warmup
    if elapsed <= warmup:  # ended while it warmed up: better these seconds than none
        warmup = 0
    end = warmup + plan.seconds
    measured = pooled(tally.seconds, warmup, end)
    over = max(min(plan.seconds, elapsed - warmup), 1e-3)
    times = plan.schedule()
    due, expected = (times.count(warmup, warmup + over), times.expected(warmup, warmup + over)) if times else (0, 0.0)
    return LoadResult(
        protocol=plan.protocol,
        url=url,
        users=plan.user_count,
        rate=plan.rate,
        shape=plan.shape,
        batch=plan.batch,
        new_connections=plan.new_connections,
        seconds=plan.seconds,
        warmup=plan.warmup,
        requests=tally.requests,
        failed=tally.failed,
        wrong=tally.wrong,
        requests_per_second=sum(n for second, n in tally.came.items() if warmup <= second < end) / over,
        p50_ms=percentile(measured, 0.5),
        p90_ms=percentile(measured, 0.9),
        p95_ms=percentile(measured, 0.95),
        p99_ms=percentile(measured, 0.99),
        max_abs=finite(tally.max_abs),
        telling=telling,
        partial=partial,
        replicas=tuple(_replica(name, found) for name, found in sorted(tally.replicas.items())),
        generator=_generator(progress, plan, warmup),
        errors={kind: seconds.total() for kind, seconds in tally.faults.items()},
        faults={kind: tuple(sorted(seconds.items())) for kind, seconds in tally.faults.items()},
        percentiles={f"{share:g}": percentile(measured, share) for share in SHARES},
        spread_ms=tuple((milliseconds_of(number), measured[number]) for number in sorted(measured)),
        over_time=tuple(_second(tally, second) for second in range(_seconds(tally, warmup + plan.seconds))),
        server=metrics.series(progress.pages),
        arrivals=plan.arrivals if times else "",
        seed=plan.seed,
        due_per_second=due / over,
        expected_per_second=expected / over,
        reference=reference,
    )


def _seconds(tally: Tally, most: int) -> int:
    return min(most, 1 + max((*tally.came, *chain(*tally.faults.values())), default=-1))


def _second(tally: Tally, second: int) -> Second:
    bins = tally.seconds.get(second, Counter())
    faults = sum(seconds[second] for seconds in tally.faults.values())
    return Second(second, tally.came[second], percentile(bins, 0.5), percentile(bins, 0.99), faults)


def _replica(name: str, found: Answers) -> Replica:
    pod, _, model = name.partition(" ")
    return Replica(pod, model, found.answers, found.wrong, finite(found.max_abs))


def _generator(progress: Progress, plan: Plan, warmup: int) -> Generator:
    tally, elapsed = progress.total, max(progress.elapsed, 1e-3)
    cpu = tally.cpu / elapsed / progress.processes
    late = percentile(pooled(tally.late, warmup, warmup + plan.seconds), 0.99)
    times = plan.schedule()
    sent = sum(bins.total() for bins in tally.late.values()) + tally.unready
    unsent = max(0, times.count(0, elapsed) - sent) if times else 0
    starved = _starved(cpu, late, plan)
    said = starved or _behind(unsent + tally.unready, plan)
    return Generator(progress.processes, cpu, late, tally.unready, unsent, said, bool(starved))


def _starved(cpu: float, late_ms: float | None, plan: Plan) -> str:
    if cpu > BUSY:
        return (
            f"each sending process took {cpu:.0%} of a core: the load generator, not the server, is the bottleneck; "
            "use more --processes, or another machine"
        )
    if late_ms is not None and late_ms > LATE_MS:
        return (
            f"the load generator sent requests up to {late_ms:.0f} ms late (p99) although users were free: it, not the "
            "server, is short of CPU; use more --processes, or another machine"
        )
    return ""


def _behind(unready: int, plan: Plan) -> str:
    if unready > 0.01 * plan.rate * (plan.warmup + plan.seconds):
        return (
            f"{unready:,} requests were due while all {plan.user_count} users waited for answers: the server is slower "
            f"than this rate{', or --users are too few' if plan.users else ''}"
        )
    return ""


def name_of(plan: Plan, model: payloads.Model) -> str:
    """What the server calls the model. Raises InvalidInput where nothing says so."""
    name = plan.model or model.name
    if not name:
        raise InvalidInput("--name is missing: a file of examples does not say what the model is called")
    return name


def probe(url: str, protocol: wire.Protocol, model: str, plan: Plan, payload: payloads.Payload) -> None:
    """One request before the clock starts, so that a wrong address or name is one clear message. Raises as Client."""
    with Client(url, plan.request_timeout, plan.insecure) as client:
        client.ask(protocol, model, payload.body, payload.headers, payload.output, plan.version)


def _locust(url: str, source: Path, model: str, plan: Plan, told: Told) -> Progress:
    seconds = plan.warmup + plan.seconds
    with tempfile.TemporaryDirectory() as scratch:
        counts, log = Path(scratch) / "counts", Path(scratch) / "log"
        counts.touch()
        options = [
            *("--host", url, "--users", plan.user_count, "--spawn-rate", plan.user_count, "--run-time", f"{seconds}s"),
            *("--stop-timeout", math.ceil(plan.request_timeout) + 1, "--request-timeout", plan.request_timeout),
            *("--golden", source.absolute(), "--protocol", plan.protocol, "--batch", plan.batch, "--model", model),
            *("--model-version", plan.version or 0, "--rate", plan.rate, "--shape", plan.shape, "--counts", counts),
            *("--arrivals", plan.arrivals, "--seed", plan.seed),
            *(["--new-connections"] if plan.new_connections else []),
            *(["--insecure"] if plan.insecure else []),
            *(["--processes", plan.processes] if plan.processes > 1 else []),
        ]
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
        command += ["--loglevel", "WARNING", *map(str, options)]
        with log.open("wb") as opened:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=opened, stderr=subprocess.STDOUT, env=_environment(plan)
            )
            try:
                progress = _follow(process, counts, told, plan.metrics, seconds + plan.request_timeout + 60)
                overdue = process.poll() is None
            finally:
                end(process)
        if not progress.elapsed:
            said = log.read_text("utf-8", "replace").strip()[-1500:]
            ended = f"{_how_ended(process.returncode, overdue)}, and measured nothing"
            raise Unavailable(f"{ended}:\n{said}" if said else ended)
        return progress


def _how_ended(status: int, overdue: bool) -> str:
    if overdue:
        return "Locust did not end in time and was stopped"
    if status < 0:
        return f"Locust was killed by {signal.Signals(-status).name}"
    return f"Locust ended with exit status {status}"


def _environment(plan: Plan) -> dict[str, str]:
    """epoll rounds every timer up to a millisecond, by which requests would be sent late; select does not, but takes
    longer for each event, which only a high rate feels."""
    precise = 0 < plan.rate / plan.processes <= PRECISE_RATE
    return os.environ | ({"GEVENT_BACKEND": "select"} if precise else {})


def _follow(process: "subprocess.Popen[bytes]", counts: Path, told: Told, page: str, limit: float) -> Progress:
    """Reads what Locust tells until it has ended, and the server's metrics as often; Ctrl-C, which Locust hears as
    well, ends it early. Raises KeyboardInterrupt where that came before anything was measured."""
    progress = Progress()
    deadline = time.monotonic() + limit
    with counts.open("rb") as opened:
        lines = _lines(opened)
        try:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
                if _read(progress, lines, told) and page:
                    with contextlib.suppress(Unavailable):  # it may be too busy, or gone for a while
                        progress.pages.append((progress.elapsed, metrics.read(page)))
        except KeyboardInterrupt:
            end(process)
            _read(progress, lines, lambda progress: None)  # its last counts; who has interrupted hears no more
            if not progress.elapsed:
                raise  # nothing was measured that could be reported
        else:
            _read(progress, lines, told)
    return progress


def _lines(opened: object) -> Iterator[bytes]:
    """Complete lines; "" where there are none yet."""
    pending = b""
    while True:
        pending += opened.read()  # type: ignore[attr-defined]
        *complete, pending = pending.split(b"\n")
        yield from complete
        yield b""


def _read(progress: Progress, lines: Iterator[bytes], told: Told) -> bool:
    """Takes what is there; whether there was something."""
    found = False
    for line in iter(lambda: next(lines), b""):
        raw = json.loads(line)
        progress.elapsed, progress.users, progress.processes = raw["elapsed"], raw["users"], raw["processes"]
        progress.last = Tally()
        for tally in raw["tallies"].values():
            progress.last.merge(Tally.from_json(tally))
        progress.total.merge(progress.last)
        told(progress)
        found = True
    return found


def end(process: "subprocess.Popen[bytes]", grace: float = 10) -> None:
    """Ends a process we started, at the latest after `grace` seconds; does nothing to one that has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
