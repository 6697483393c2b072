"""Memory (PSS) of the process tree after start and after many requests, compared with the model alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import Server
from benchmarks.serving import batches, cases, prepare, wrk
from benchmarks.serving.cases import Case, Cases
from benchmarks.tables import table

FEW, MANY = 10_000, 1_000_000
PIECE_S, MAX_PIECES = 5.0, 400  # wrk runs for a time, not for a number of requests
FLAT = 1.05  # a larger ratio between 10^4 and 10^6 requests counts as growth


def measure(models: Path, backends: Sequence[str], many: bool) -> str:
    """`many`: continues to 10^6 requests."""
    version, rows = prepare.version(models), []
    made = Cases(version)
    mixed = [made.tfserving(), made.graphpipe(), made.oip_binary()]
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            alone = batches.bare("tensorflow" if backend == "savedmodel" else backend, version, 1, 1)["pss"]
            with prepare.ours(models, Path(folder), backend) as server:
                for case in mixed:
                    cases.check(server.port, case)
                start = server.pss_bytes()
                done = _send(server, mixed, FEW)
                few = server.pss_bytes()
                last = _send(server, mixed, MANY - done) and server.pss_bytes() if many else None
                parts = " + ".join(f"{_mb(one)}" for one in server.pss_by_process())
            flat = "" if last is None else "flat" if last <= FLAT * few else "GROWS"
            ratio = f"{(last or few) / alone:.2f}"
            rows.append([backend, *map(_mb, (alone, start, few)), _mb(last) if last else "", flat, ratio, parts])
        with prepare.mlserver(models, Path(folder), 0) as peer:
            cases.check(peer.port, made.oip_json())
            start = peer.pss_bytes()
            _send(peer, [made.oip_json()], FEW)
            rows.append(["MLServer, workers 0", "", _mb(start), _mb(peer.pss_bytes()), "", "", "", ""])
    head = ["server", "model alone", "after start", "after 10⁴", "after 10⁶", "growth", "÷ alone", "by process"]
    return (
        "PSS in MB; alone: TensorFlow (savedmodel) or ONNX Runtime (onnx) with the model loaded and run.\n\n"
        + table(head, rows)
    )


def _send(server: Server, mixed: Sequence[Case], wanted: int) -> int:
    """Sends at least `wanted` requests, alternating the cases, over 32 connections. Returns their number."""
    done = 0
    for number in range(MAX_PIECES):
        seconds = 1.0 if wanted < 10 * FEW else PIECE_S
        done += wrk.run(server.port, mixed[number % len(mixed)], 32, seconds).requests
        if done >= wanted:
            return done
    raise SystemExit(f"only {done} of {wanted} requests within the time limit")


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f}"
