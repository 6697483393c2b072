"""The classic comparison of Flask and model servers: single images, and images a second at batch 1 and 128.

    make bench-article            about a quarter of an hour
    python -m benchmarks.article --seconds 10 --singles 200

Each server has the bundled model and one client on the same cores. Single images: mean and
standard deviation of so many requests, each on a connection of its own. Every answer is compared with PyTorch's.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.tables import table
from seaway.load import payloads
from seaway.load.client import Client
from seaway.load.run import Plan, run
from seaway.protocols import wire

MODEL = "characters"
VOLUME = processes.ROOT / "seaway" / "example"
VERSION = VOLUME / MODEL / "1"
ORIGINAL = [  # mkurovski/emnist_dl2prod, 2018; other hardware, another model
    ["TensorFlow Serving", "5.19", "", "207.7", "2,158.9"],
    ["GraphPipe", "8.34", "", "147.3", "6,126.9"],
    ["Flask", "8.00", "", "125.0", "1,371.7"],
]
ASKED = [("Flask", "tfs"), *(("Seaway", key) for key in ("tfs", "graphpipe", "oip", "oip-binary"))]


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.article", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--singles", type=int, default=1000, help="single requests each (default 1000)")
    parser.add_argument("--seconds", type=int, default=60, help="of each throughput (default 60)")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as held:
        for server, key in ASKED:
            with (_flask if server == "Flask" else _seaway)(Path(held)) as url:
                rows.append([f"{server}, {wire.named(key).title}", *_measured(url, key, given.singles, given.seconds)])
            print(rows[-1], file=sys.stderr, flush=True)
    head = [
        "server",
        "one image, new connection, ms",
        "one image, kept connection, ms",
        "images/s, batch 1",
        "images/s, batch 128",
    ]
    print(f"{processes.machine()}; {given.singles} single images, {given.seconds} s each\n\n{table(head, rows)}")
    print("The original's figures of 2018 (repository mkurovski/emnist_dl2prod), on other hardware:\n")
    print(table(head, ORIGINAL))


def _measured(url: str, key: str, singles: int, seconds: int) -> list[str]:
    cells = [_singles(url, key, singles, new) for new in (True, False)]
    for batch in (1, 128):
        got = run(url, VERSION, Plan(key, users=1, seconds=seconds, batch=batch, model=MODEL))
        if got.wrong or got.failed:
            raise SystemExit(f"{url}, {key}, batch {batch}: {got.wrong} wrong, {got.failed} failed: {got.errors}")
        cells.append(f"{got.requests_per_second * batch:,.1f}")
    return cells


def _singles(url: str, key: str, count: int, new: bool) -> str:
    """Mean ± standard deviation in milliseconds."""
    protocol, model = wire.named(key), payloads.read_model(VERSION)
    made, times = payloads.encode(model, protocol, 1), []
    client = Client(url)
    for i in range(count):
        payload = made[i % len(made)]
        if new:
            client.close()
        began = time.perf_counter()
        got, _ = client.ask(protocol, MODEL, payload.body, payload.headers, payload.output)
        times.append((time.perf_counter() - began) * 1000)
        if payload.expected is None or payload.allowed is None or (abs(got - payload.expected) > payload.allowed).any():
            raise SystemExit(f"{url}, {key}: an answer is not PyTorch's")
    client.close()
    return f"{statistics.mean(times):.2f} ± {statistics.stdev(times):.2f}"


@contextmanager
def _flask(held: Path) -> Iterator[str]:
    [port] = processes.free_ports(1)
    command = [sys.executable, "-m", "benchmarks.article.flask_app", str(VERSION), str(port)]
    with processes.Server(command, held / "flask.log", ours=False) as server:
        server.port = port
        server.wait_for("/")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _seaway(held: Path) -> Iterator[str]:
    with processes.seaway(VOLUME, held / "seaway.log") as server:
        yield f"http://127.0.0.1:{server.port}"


if __name__ == "__main__":
    main()
