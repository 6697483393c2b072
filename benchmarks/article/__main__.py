"""The classic comparison of Flask and model servers: single images, and images per second at batch 1 and 128.

    make bench-article            about a quarter of an hour
    python -m benchmarks.article --seconds 10 --singles 200

Each server has the bundled model and one client on the same cores. Single images: mean and standard deviation of the
latency, with a new connection for each request and with one kept open. Every response is compared with PyTorch's.
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
from seaway.load import expected, payloads
from seaway.load.client import Client
from seaway.load.config import LoadConfig
from seaway.load.run import run
from seaway.protocols import client_codecs

MODEL = "characters"
REPOSITORY = processes.ROOT / "seaway" / "example"
VERSION = REPOSITORY / MODEL / "1"
ORIGINAL_ROWS = [  # mkurovski/emnist_dl2prod, 2018; other hardware, another model
    ["TensorFlow Serving", "5.19", "", "207.7", "2,158.9"],
    ["GraphPipe", "8.34", "", "147.3", "6,126.9"],
    ["Flask", "8.00", "", "125.0", "1,371.7"],
]
SERVERS = [("Flask", "tfs"), *(("Seaway", key) for key in ("tfs", "graphpipe", "oip", "oip-binary"))]


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.article", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--singles", type=int, default=1000, help="single images per server and protocol (default 1000)"
    )
    parser.add_argument("--seconds", type=int, default=60, help="duration of each throughput measurement (default 60)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for server, key in SERVERS:
            with (_flask if server == "Flask" else _seaway)(Path(folder)) as url:
                rows.append(
                    [f"{server}, {client_codecs.named(key).title}", *_measure(url, key, args.singles, args.seconds)]
                )
            print(rows[-1], file=sys.stderr, flush=True)
    head = [
        "server",
        "one image, new connection, ms",
        "one image, open connection, ms",
        "images/s, batch 1",
        "images/s, batch 128",
    ]
    print(f"{processes.machine()}; {args.singles} single images, {args.seconds} s each\n\n{table(head, rows)}")
    print("The original's figures of 2018 (repository mkurovski/emnist_dl2prod), on other hardware:\n")
    print(table(head, ORIGINAL_ROWS))


def _measure(url: str, key: str, singles: int, seconds: int) -> list[str]:
    cells = [_single_latency(url, key, singles, new_connections) for new_connections in (True, False)]
    for batch in (1, 128):
        result = run(url, VERSION, LoadConfig(key, users=1, duration_s=seconds, batch=batch, model=MODEL))
        if result.wrong or result.failed:
            counts = f"{result.wrong} wrong, {result.failed} failed"
            raise SystemExit(f"{url}, {key}, batch {batch}: {counts}: {result.errors}")
        cells.append(f"{result.requests_per_second * batch:,.1f}")
    return cells


def _single_latency(url: str, key: str, count: int, new_connections: bool) -> str:
    """Mean ± standard deviation in milliseconds."""
    protocol, model = client_codecs.named(key), payloads.read_model(VERSION)
    requests, latencies_ms = payloads.encode(model, protocol, 1), []
    client = Client(url)
    for i in range(count):
        payload = requests[i % len(requests)]
        if new_connections:
            client.close()
        started_at = time.perf_counter()
        arrays, _ = client.predict_encoded(protocol, MODEL, payload.body, payload.headers, payload.outputs)
        latencies_ms.append((time.perf_counter() - started_at) * 1000)
        if any(expected.compare(arrays[one.name], one)[1] for one in payload.expected):
            raise SystemExit(f"{url}, {key}: a response differs from PyTorch's output")
    client.close()
    return f"{statistics.mean(latencies_ms):.2f} ± {statistics.stdev(latencies_ms):.2f}"


@contextmanager
def _flask(folder: Path) -> Iterator[str]:
    [port] = processes.free_ports(1)
    command = [sys.executable, "-m", "benchmarks.article.flask_app", str(VERSION), str(port)]
    with processes.Server(command, folder / "flask.log", ours=False) as server:
        server.port = port
        server.wait_for("/")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _seaway(folder: Path) -> Iterator[str]:
    with processes.seaway(REPOSITORY, folder / "seaway.log") as server:
        yield f"http://127.0.0.1:{server.port}"


if __name__ == "__main__":
    main()
