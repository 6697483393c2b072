"""One Locust run without its web page, in a process of its own, as a function that returns what was measured."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from loadtest import payloads, wire
from loadtest.client import Client
from loadtest.tally import Tally, percentile
from seaway.errors import InvalidInput, Unavailable

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the run, counted from its start, warm-up included: right answers, and their percentiles."""

    second: int
    right: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`requests`, `failed`, `wrong`, `max_abs` (None: beyond measure) are of the whole run; rates and latencies are of
    right answers after the warm-up. `requests` are those that ended; `served_by`: Seaway-Model header → 2xx answers.
    `telling`: the golden answers differ enough that a mixed-up answer would be noticed."""

    protocol: str
    url: str
    users: int
    batch: int
    seconds: float
    requests: int
    failed: int
    wrong: int
    requests_per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_abs: float | None
    telling: bool
    served_by: dict[str, int]
    errors: dict[str, int]
    percentiles: dict[str, float]
    over_time: tuple[Second, ...]


def run(
    url: str,
    golden: Path,
    protocol: str = "rest",
    seconds: int = 10,
    users: int = 8,
    batch: int = 1,
    model: str | None = None,
    version: int | None = None,
    warmup: int = 2,
    request_timeout: float = 30,
) -> LoadResult:
    """Loads the server at `url` for `warmup` + `seconds` seconds with `users` that each wait for their answer.

    `golden` is a published version's folder or an ONNX artifact. Raises Unavailable where no server answers or Locust
    fails, NotFound for a model it does not know, InvalidInput and CardError for what was given.
    """
    if users < 1 or seconds < 1 or warmup < 0:
        raise InvalidInput(f"a load test needs 1 user and 1 second at least, not {users} for {seconds} s")
    spoken = wire.named(protocol)
    card, examples = payloads.read_model(golden)
    name = model or card.name
    sent = payloads.encode(card, examples, spoken, batch)
    _probe(url, spoken, name, version, {t.name: examples.inputs[t.name][:1] for t in card.inputs}, card.outputs[0].name)
    options = [
        *("--host", url, "--users", users, "--spawn-rate", users, "--run-time", f"{warmup + seconds}s"),
        *("--stop-timeout", request_timeout + 1, "--request-timeout", request_timeout),
        *("--golden", golden, "--protocol", protocol, "--batch", batch, "--model", name),
        *("--model-version", version or 0),
    ]
    tally, elapsed = _locust([str(option) for option in options], protocol, warmup + seconds + request_timeout + 60)
    if elapsed < warmup + seconds - 0.5:
        raise Unavailable(f"Locust ran for {elapsed:.1f} s instead of {warmup + seconds} s; was it ended by someone?")
    return result(tally, elapsed, protocol, url, users, batch, seconds, warmup, payloads.distinct(sent))


def result(
    tally: Tally,
    elapsed: float,
    protocol: str,
    url: str,
    users: int,
    batch: int,
    seconds: int,
    warmup: int,
    telling: bool,
) -> LoadResult:
    """A run's counts as rates and percentiles; the warm-up and what came after the end count for correctness alone.

    `elapsed`: seconds until the users were told to stop; Locust may be early or late by some hundredths.
    """
    measured: Counter[int] = Counter()
    for second, bins in tally.seconds.items():
        if warmup <= second < warmup + seconds:
            measured.update(bins)
    return LoadResult(
        protocol=protocol,
        url=url,
        users=users,
        batch=batch,
        seconds=seconds,
        requests=tally.requests,
        failed=tally.failed,
        wrong=tally.wrong,
        requests_per_second=measured.total() / min(seconds, elapsed - warmup),
        p50_ms=percentile(measured, 0.5),
        p90_ms=percentile(measured, 0.9),
        p99_ms=percentile(measured, 0.99),
        max_abs=tally.max_abs if tally.max_abs != float("inf") else None,
        telling=telling,
        served_by=dict(tally.served_by),
        errors=dict(tally.errors),
        percentiles={f"{share:g}": percentile(measured, share) for share in SHARES},
        over_time=tuple(
            Second(s, bins.total(), percentile(bins, 0.5), percentile(bins, 0.99))
            for s, bins in sorted(tally.seconds.items())
            if s < warmup + seconds
        ),
    )


def _probe(
    url: str, protocol: wire.Protocol, model: str, version: int | None, inputs: payloads.Inputs, output: str
) -> None:
    """One request before the clock starts, so that a wrong address or name is one clear message."""
    with Client(url) as client:
        client.predict(protocol, model, inputs, output, version)


def _locust(options: list[str], protocol: str, limit: float) -> tuple[Tally, float]:
    """What was counted, and the seconds from the start of the test to the moment when users were told to stop."""
    with tempfile.TemporaryDirectory() as scratch:
        file, log = Path(scratch) / "result.json", Path(scratch) / "log"
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
        command += ["--loglevel", "WARNING", "--result", str(file), *options]
        with log.open("wb") as opened:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=opened, stderr=subprocess.STDOUT)
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):  # then there is no result, or a partial one
                    process.wait(limit)
            finally:
                end(process)
        try:
            counted = json.loads(file.read_bytes())
        except (FileNotFoundError, ValueError):
            said = log.read_text("utf-8", "replace").strip()[-1500:]
            raise Unavailable(f"Locust ended with status {process.returncode} and no result:\n{said}") from None
    return Tally.from_json(counted["tallies"][protocol]), counted["elapsed"]


def end(process: "subprocess.Popen[bytes]", grace: float = 10) -> None:
    """Ends a process we started, at the latest after `grace` seconds; does nothing to one that has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
