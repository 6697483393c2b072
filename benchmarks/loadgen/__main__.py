"""What the load generator costs, how right it is, and what its gate makes of equal and unequal servers.

    python -m benchmarks.loadgen                          cost and accuracy, five minutes
    python -m benchmarks.loadgen --parts gate --runs 40   an hour

cost      requests/s of one Locust process of ours, every answer checked, against a bare FastHttpUser that posts the
          same body; peer and responder are `bare_locustfile` and `responder`, on a core each, in alternating rounds
rate      requests/s sent in an open loop against those asked for
accuracy  reported percentiles against a responder whose latencies are known
queue     reported percentiles of Poisson arrivals at a responder that serves one after the other, at 50, 80 and 95 % of
          what it can, against Lindley's recursion on the same arrivals; and that recursion against theory (M/D/1)
peers     `verify` of our server and of MLServer, of the same model in each: who answers what, and how wrong
gate      of so many comparisons of two equal versions, and of one that is 50 % slower, how many were judged slower
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
from benchmarks.tables import middle, table
from seaway.artifacts import store
from seaway.load import gate, verify
from seaway.load.gate import Target
from seaway.load.results import farthest, latency
from seaway.load.run import Plan, run

PARTS = ("cost", "rate", "accuracy", "queue", "peers", "gate")
LATENCIES_MS = (20.0, 0.35)  # median, and sigma of a log-normal spread
SERVICE_MS = 10.0  # of the queue
QUEUE_SECONDS = 60
ARRIVALS = 10_000_000  # of the recursion against theory, service time 1
LOADS = (0.5, 0.8, 0.95)
MODEL = "trivial"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.loadgen", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:5])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument(
        "--pairs", nargs="+", choices=("equal", "slower"), default=("equal", "slower"), help="of `gate`"
    )
    parser.add_argument("--runs", type=int, default=40, help="of `gate`, each of five rounds of both servers or more")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as held:
        source = Path(held, "one.npz")
        np.savez(source, image=np.random.default_rng(0).random((1, 28, 28, 1)).round(4).astype(np.float32))
        print(f"{processes.machine()}\n", flush=True)
        for part in given.parts:
            print(f"### {part}\n\n{globals()[f'_{part}'](source, given)}", flush=True)


def _cost(source: Path, given: argparse.Namespace) -> str:
    """Requests/s of both, and their ratio round by round."""
    rates: dict[str, list[float]] = defaultdict(list)
    with responder.serving() as url:
        for _ in range(given.rounds):
            for name in ("bare", "ours"):
                rates[name].append(locust.rate(name, url, source, given.seconds))
    ratios = [ours / bare for ours, bare in zip(rates["ours"], rates["bare"], strict=True)]
    bar = "0.9 met" if middle(ratios) >= 0.9 else "0.75 met, 0.9 MISSED" if middle(ratios) >= 0.75 else "0.75 MISSED"
    rows = [
        ["bare FastHttpUser", f"{middle(rates['bare']):.0f}", "1", ""],
        ["ours, every answer checked", f"{middle(rates['ours']):.0f}", f"{middle(ratios):.2f}", bar],
    ]
    return table(["one process, 8 users", "requests/s", "ratio, median of rounds", "bar: 0.75 checked, 0.9 not"], rows)


def _rate(source: Path, given: argparse.Namespace) -> str:
    rows = []
    with responder.serving() as url:
        for asked in (50, 200, 500, 1000, 1500):
            got = run(url, source, Plan(rate=asked, seconds=given.seconds, warmup=1, model=MODEL))
            off = got.requests_per_second / got.due_per_second - 1
            g = got.generator
            cells = [
                asked,
                f"{got.due_per_second:.1f}",
                f"{got.requests_per_second:.1f}",
                f"{off:+.2%}",
                f"{g.cpu:.0%}",
            ]
            rows.append([*cells, latency(g.late_p99_ms), g.bottleneck])
    return table(
        ["asked, requests/s", "due, by chance", "answered", "off", "CPU of a core", "own delay p99 ms", "it says"], rows
    )


def _accuracy(source: Path, given: argparse.Namespace) -> str:
    median, sigma = LATENCIES_MS
    rows = []
    with responder.serving(median, sigma) as url:
        for name, plan in (("closed, 8 users", Plan(users=8)), ("open, 100/s", Plan(rate=100))):
            responder.seen(url)
            got = run(url, source, Plan(users=plan.users, rate=plan.rate, seconds=20, warmup=0, model=MODEL))
            known = np.array(responder.seen(url)[1:])  # the first was asked before the clock started
            for share, reported in ((50, got.p50_ms), (95, got.p95_ms), (99, got.p99_ms)):
                true = float(np.percentile(known, share))
                off = (reported or np.inf) / true - 1
                met = "met" if abs(off) < 0.05 else "MISSED"
                rows.append([name, f"p{share}", f"{true:.2f}", latency(reported), f"{off:+.1%}", met])
    return table(["loop", "", "injected ms", "reported ms", "off", "within 5 %"], rows)


def _queue(source: Path, given: argparse.Namespace) -> str:
    """As the arrivals were due, and as they came: what is off from the latter is the measurement's fault."""
    rows: list[list[object]] = []
    service = SERVICE_MS / 1000
    with responder.serving(SERVICE_MS, "queue") as url:
        for number, load in enumerate(LOADS):
            responder.seen(url)
            plan = Plan(rate=load / service, seconds=QUEUE_SECONDS, warmup=0, model=MODEL, seed=number)
            got = run(url, source, plan)
            times = plan.schedule()
            assert times
            due = queueing.lindley(np.concatenate(list(times.due())), service) * 1000
            came = queueing.lindley(np.array(responder.seen(url)[1:]), SERVICE_MS)  # the first is the probe
            for share, reported in ((50, got.p50_ms), (99, got.p99_ms)):
                rows.append([f"{load:.0%}", f"p{share}", *_off(reported, due, came, share), got.generator.bottleneck])
    head = ["load", "", "as due, ms", "as came, ms", "reported, ms", "off, as came", "5 % or 1 ms", "it says"]
    theory = []
    for load in LOADS:
        waited, error, idle = queueing.averaged(load, ARRIVALS, seed=1)
        known = queueing.mean_wait(load, 1.0)
        met = "met" if abs(waited - known) < 4 * error else "MISSED"
        theory.append([f"{load:.0%}", *(f"{value:.3f}" for value in (known, waited, error)), met, f"{idle:.3f}"])
    known_head = ["load", "mean wait, theory", "recursion", "standard error", "within 4", "found it idle"]
    return f"{table(head, rows)}\n{table(known_head, theory)}"


def _off(reported: float | None, due: np.ndarray, came: np.ndarray, share: int) -> list[str]:
    asked, known = float(np.percentile(due, share)), float(np.percentile(came, share))
    if reported is None:
        return [f"{asked:.2f}", f"{known:.2f}", "n/a", "", "MISSED"]
    off = reported - known
    met = "met" if abs(off) <= max(1.0, 0.05 * known) else "MISSED"
    return [f"{asked:.2f}", f"{known:.2f}", f"{reported:.2f}", f"{off:+.2f} ms, {off / known:+.1%}", met]


def _peers(source: Path, given: argparse.Namespace) -> str:
    """Each server over every protocol that it speaks, four users on a new connection for every request."""
    del source
    rows = []
    plan = Plan(users=4, seconds=given.seconds, warmup=0, model=cases.MODEL)
    models = prepare.volume()
    with tempfile.TemporaryDirectory() as held:
        starts = {
            "Seaway, ONNX": lambda: prepare.ours(models, Path(held), "onnx"),
            "MLServer 1.7.1, ONNX": lambda: prepare.mlserver(models, Path(held), 0),
        }
        for name, start in starts.items():
            with start() as server:
                for got in verify.verify(f"http://127.0.0.1:{server.port}", prepare.version(models), plan):
                    cells = [got.requests, got.wrong, got.failed, farthest(got), latency(got.p99_ms)]
                    rows.append([name, got.title, *cells])
    return table(["server", "protocol", "answers", "wrong", "failed", "max abs Δ", "p99 ms"], rows)


def _gate(source: Path, given: argparse.Namespace) -> str:
    """Two versions of one model on our server; two servers whose latency is drawn anew for each request, of which one's
    are 1.5 times as long."""
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
        rows = [_compared(*pairs[which], given.runs) for which in given.pairs]
    return table(["candidate", "comparisons", "pass", "inconclusive", "fail"], rows)


def _compared(name: str, base: Target, candidate: Target, runs: int) -> list[object]:
    model = "" if base.version else MODEL
    plan = Plan(rate=50, users=32, seconds=2, warmup=1, model=model)
    found = Counter[str]()
    for _ in range(runs):
        pairs = gate.rounds(base, candidate, plan, 0.2)
        found[gate.verdict(gate.against(pairs, 0.2))] += 1
        print(f"{name}: {dict(found)}", file=sys.stderr, flush=True)
    return [name, runs, found["pass"], found["inconclusive"], found["fail"]]


@contextmanager
def _two_versions() -> Iterator[tuple[str, Path]]:
    """Our server over a volume with the example model twice; its address and a version's folder."""
    example = processes.ROOT / "seaway" / "example" / "characters"
    with tempfile.TemporaryDirectory() as held:
        volume = Path(held, "models")
        for label, version in (("stable", 1), ("canary", 2)):  # labelled versions are served
            shutil.copytree(example / "1", volume / "characters" / str(version))
            store.set_label(volume, "characters", label, version)
        with processes.seaway(volume, Path(held, "log")) as server:
            for version in (1, 2):
                server.wait_for(f"/v2/models/characters/versions/{version}/ready")
            yield f"http://127.0.0.1:{server.port}", example / "1"


if __name__ == "__main__":
    main()
