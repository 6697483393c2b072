"""Cost and accuracy of the load generator, and the verdicts of its gate on equal and unequal servers.

    python -m benchmarks.loadgen                          cost and accuracy, five minutes
    python -m benchmarks.loadgen --parts gate --runs 40   an hour

cost      requests/s of one Locust process of ours, every response checked, against a bare FastHttpUser that posts the
          same body; peer and responder are `bare_locustfile` and `responder`, on a core each, in alternating rounds
rate      requests/s sent in an open loop against the requested rate
accuracy  reported percentiles against a responder with known latencies
queue     reported percentiles of Poisson arrivals at a responder that serves one request at a time, at 50, 80 and 95 %
          of its capacity, against Lindley's recursion on the same arrivals; and that recursion against theory (M/D/1)
peers     `verify` of our server and of MLServer with the same model: responses, errors and distances
gate      verdicts of repeated comparisons of two equal versions, and of a version with one that is 50 % slower
"""

import argparse
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import processes
from benchmarks.loadgen import locust, queueing, responder
from benchmarks.serving import cases, prepare
from benchmarks.tables import median_or_nan, table
from seaway.artifacts import model_repository
from seaway.load import gate, verify
from seaway.load.config import LoadConfig
from seaway.load.formatting import format_latency, format_max_abs
from seaway.load.gate import Target
from seaway.load.run import run

PARTS = ("cost", "rate", "accuracy", "queue", "peers", "gate")
LATENCIES_MS = (20.0, 0.35)  # median and sigma of a log-normal distribution
SERVICE_MS = 10.0  # of the queue
QUEUE_DURATION_S = 60
ARRIVALS = 10_000_000  # of the recursion against theory, service time 1
LOADS = (0.5, 0.8, 0.95)
MODEL = "trivial"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.loadgen", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:5])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument(
        "--pairs",
        nargs="+",
        choices=("equal", "slower"),
        default=("equal", "slower"),
        help="which comparisons `gate` runs",
    )
    parser.add_argument(
        "--runs", type=int, default=40, help="comparisons of `gate`, each with five or more rounds of both servers"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "one.npz")
        np.savez(source, image=np.random.default_rng(0).random((1, 28, 28, 1)).round(4).astype(np.float32))
        print(f"{processes.machine()}\n", flush=True)
        for part in args.parts:
            print(f"### {part}\n\n{globals()[f'_{part}'](source, args)}", flush=True)


def _cost(source: Path, args: argparse.Namespace) -> str:
    """Requests/s of both, and the median of the ratios of each round."""
    rates: dict[str, list[float]] = defaultdict(list)
    with responder.serving() as url:
        for _ in range(args.rounds):
            for name in ("bare", "ours"):
                rates[name].append(locust.rate(name, url, source, args.seconds))
    ratios = [ours / bare for ours, bare in zip(rates["ours"], rates["bare"], strict=True)]
    ratio = median_or_nan(ratios)
    bar = "0.9 met" if ratio >= 0.9 else "0.75 met, 0.9 MISSED" if ratio >= 0.75 else "0.75 MISSED"
    rows = [
        ["bare FastHttpUser", f"{median_or_nan(rates['bare']):.0f}", "1", ""],
        ["ours, every response checked", f"{median_or_nan(rates['ours']):.0f}", f"{ratio:.2f}", bar],
    ]
    return table(["one process, 8 users", "requests/s", "ratio, median of rounds", "bar: 0.75 checked, 0.9 not"], rows)


def _rate(source: Path, args: argparse.Namespace) -> str:
    rows = []
    with responder.serving() as url:
        for rate in (50, 200, 500, 1000, 1500):
            result = run(url, source, LoadConfig(rate=rate, duration_s=args.seconds, warmup_s=1, model=MODEL))
            due, responses, stats = result.due_per_second, result.requests_per_second, result.generator
            cells = [rate, f"{due:.1f}", f"{responses:.1f}", f"{responses / due - 1:+.2%}", f"{stats.cpu:.0%}"]
            rows.append([*cells, format_latency(stats.lag_p99_ms), stats.bottleneck])
    head = ["--rate", "requests/s due", "responses/s", "error", "CPU of a core", "generator lag p99 ms", "bottleneck"]
    return table(head, rows)


def _accuracy(source: Path, args: argparse.Namespace) -> str:
    median, sigma = LATENCIES_MS
    rows = []
    with responder.serving(median, sigma) as url:
        for name, load in (("closed, 8 users", {"users": 8}), ("open, 100/s", {"rate": 100})):
            responder.take_recorded(url)
            result = run(url, source, LoadConfig(duration_s=20, warmup_s=0, model=MODEL, **load))
            injected = np.array(responder.take_recorded(url)[1:])  # the first was the probe's
            for percent, reported in ((50, result.p50_ms), (95, result.p95_ms), (99, result.p99_ms)):
                true = float(np.percentile(injected, percent))
                error = (reported or np.inf) / true - 1
                met = "met" if abs(error) < 0.05 else "MISSED"
                rows.append([name, f"p{percent}", f"{true:.2f}", format_latency(reported), f"{error:+.1%}", met])
    return table(["loop", "", "injected ms", "reported ms", "error", "within 5 %"], rows)


def _queue(source: Path, args: argparse.Namespace) -> str:
    """Reported percentiles against the recursion on the due and on the actual arrivals; only the difference from the
    latter is an error of the measurement."""
    rows: list[list[object]] = []
    service = SERVICE_MS / 1000
    with responder.serving(SERVICE_MS, "queue") as url:
        for number, load in enumerate(LOADS):
            responder.take_recorded(url)
            config = LoadConfig(rate=load / service, duration_s=QUEUE_DURATION_S, warmup_s=0, model=MODEL, seed=number)
            result = run(url, source, config)
            schedule = config.schedule()
            assert schedule
            due = queueing.lindley(np.concatenate(list(schedule.due_times())), service) * 1000
            actual = queueing.lindley(np.array(responder.take_recorded(url)[1:]), SERVICE_MS)  # the first: the probe
            for percent, reported in ((50, result.p50_ms), (99, result.p99_ms)):
                cells = _compare_percentile(reported, due, actual, percent)
                rows.append([f"{load:.0%}", f"p{percent}", *cells, result.generator.bottleneck])
    head = ["load", "", "due arrivals, ms", "actual arrivals, ms", "reported, ms", "error", "5 % or 1 ms", "bottleneck"]
    theory_rows = []
    for load in LOADS:
        mean, standard_error, idle = queueing.simulate_mean_wait(load, ARRIVALS, seed=1)
        theory = queueing.mean_wait(load, 1.0)
        met = "met" if abs(mean - theory) < 4 * standard_error else "MISSED"
        cells = [f"{value:.3f}" for value in (theory, mean, standard_error)]
        theory_rows.append([f"{load:.0%}", *cells, met, f"{idle:.3f}"])
    theory_head = ["load", "mean wait, theory", "recursion", "standard error", "within 4 of them", "found it idle"]
    return f"{table(head, rows)}\n{table(theory_head, theory_rows)}"


def _compare_percentile(reported: float | None, due: np.ndarray, actual: np.ndarray, percent: int) -> list[str]:
    of_due, of_actual = float(np.percentile(due, percent)), float(np.percentile(actual, percent))
    if reported is None:
        return [f"{of_due:.2f}", f"{of_actual:.2f}", "n/a", "", "MISSED"]
    error = reported - of_actual
    met = "met" if abs(error) <= max(1.0, 0.05 * of_actual) else "MISSED"
    return [f"{of_due:.2f}", f"{of_actual:.2f}", f"{reported:.2f}", f"{error:+.2f} ms, {error / of_actual:+.1%}", met]


def _peers(source: Path, args: argparse.Namespace) -> str:
    """Each server over every protocol that it supports, four users, a new connection for every request."""
    del source
    rows = []
    config = LoadConfig(users=4, duration_s=args.seconds, warmup_s=0, model=cases.MODEL)
    models = prepare.repository()
    with tempfile.TemporaryDirectory() as folder:
        starts = {
            "Seaway, ONNX": lambda: prepare.ours(models, Path(folder), "onnx"),
            "MLServer 1.7.1, ONNX": lambda: prepare.mlserver(models, Path(folder), 0),
        }
        for name, start in starts.items():
            with start() as server:
                for result in verify.verify(f"http://127.0.0.1:{server.port}", prepare.version(models), config):
                    cells = [result.requests, result.wrong, result.failed]
                    rows.append([name, result.title, *cells, format_max_abs(result), format_latency(result.p99_ms)])
    return table(["server", "protocol", "requests", "wrong", "failed", "max |Δ|", "p99 ms"], rows)


def _gate(source: Path, args: argparse.Namespace) -> str:
    """Two versions of one model on our server; two servers with a random latency for each request, 1.5 times as long on
    one of them."""
    median, sigma = LATENCIES_MS
    with (
        responder.serving(median, sigma) as base,
        responder.serving(1.5 * median, sigma) as slow,
        _two_versions() as (url, folder),
    ):
        pairs = {
            "equal": ("two versions of one model", Target(url, folder, 1), Target(url, folder, 2)),
            "slower": ("known latency, 50 % slower", Target(base, source), Target(slow, source)),
        }
        rows = [_count_verdicts(*pairs[pair], args.runs) for pair in args.pairs]
    return table(["candidate", "comparisons", "pass", "inconclusive", "fail"], rows)


def _count_verdicts(name: str, base: Target, candidate: Target, runs: int) -> list[object]:
    model = "" if base.version else MODEL
    config = LoadConfig(rate=50, users=32, duration_s=2, warmup_s=1, model=model)
    verdicts = Counter[str]()
    for _ in range(runs):
        pairs = gate.run_rounds(base, candidate, config, 0.2)
        verdicts[gate.verdict(gate.compare_with_baseline(pairs, 0.2))] += 1
        print(f"{name}: {dict(verdicts)}", file=sys.stderr, flush=True)
    return [name, runs, verdicts["pass"], verdicts["inconclusive"], verdicts["fail"]]


@contextmanager
def _two_versions() -> Iterator[tuple[str, Path]]:
    """Our server over a model repository with the example model twice; its address and a version's folder."""
    example = processes.ROOT / "seaway" / "example" / "characters"
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder, "models")
        for label, version in (("stable", 1), ("canary", 2)):  # labelled versions are served
            shutil.copytree(example / "1", repository / "characters" / str(version))
            model_repository.set_label(repository, "characters", label, version)
        with processes.seaway(repository, Path(folder, "log")) as server:
            for version in (1, 2):
                server.wait_for(f"/v2/models/characters/versions/{version}/ready")
            yield f"http://127.0.0.1:{server.port}", example / "1"


if __name__ == "__main__":
    main()
