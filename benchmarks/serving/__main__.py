"""Throughput, CPU time and memory of the model server; peer: MLServer 1.7.1 with ONNX Runtime.

    python -m benchmarks.serving                            all tables, about an hour and a half
    python -m benchmarks.serving --parts speed --seconds 10 --rounds 5
    python -m benchmarks.serving --parts speed --only graphpipe --backends onnx
    python -m benchmarks.serving --parts memory --million   10^6 requests each
    python -m benchmarks.serving --parts grpc               beside constant gRPC servers and MLServer
    python -m benchmarks.serving --parts before             beside an earlier commit, 7 rounds
    python -m benchmarks.serving --parts swap               latency while resnet18 is replaced, half an hour
    python -m benchmarks.serving --parts unload             memory given back by versions that are unloaded

Model: conv32/pool/conv64/pool/dense128/62 on images of 28 by 28. Seaway's own stages make its ONNX file; its SavedModel
is written in TensorFlow with the same weights (`native`), as in others' measurements. The client is wrk, on the same
cores. Every kind of request is checked for correct responses before it is timed. The first run creates MLServer's
environment and the model in .seaway/bench; the later parts add further models, that commit with its environment, and a
gRPC client that is built with Go.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import processes
from benchmarks.serving import batches, before, grpc_speed, memory, prepare, scaling, speed, stages, swap, unload

PARTS = ("speed", "batches", "memory", "scaling", "stages", "grpc", "before", "swap", "unload")
ROUNDS, DURATION_S = 3, 5.0
MORE_ROUNDS = {"before": before.MIN_ROUNDS, "swap": swap.MIN_ROUNDS}  # what their verdicts need
LONGER_S = {"swap": float(swap.MIN_DURATION_S)}
TF_SERVING_NOTE = """\
TensorFlow Serving 2.20 is not measured here. An earlier measurement with the same MLServer on another machine with
two cores, as multiples of MLServer's requests/s at 8 and 32 connections: default settings 2.2 and 2.3;
with one intra-op and one inter-op thread 3.7 and 4.0. 32 images at one connection: 22 requests/s, 276 with
TCP_NODELAY.
"""


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--seconds", type=float, help="duration of each measurement, in whole seconds (default 5; 30 for `swap`)"
    )
    parser.add_argument(
        "--rounds", type=int, help="rounds, of which medians are taken (default 3; 7 for `before` and `swap`)"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], help="for `speed` and `grpc`: only protocols with one of these in their title"
    )
    parser.add_argument("--backends", nargs="+", choices=["savedmodel", "onnx"], default=["savedmodel", "onnx"])
    parser.add_argument(
        "--million", action="store_true", help="also measure memory after 10^6 requests: some ten minutes"
    )
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    models, texts = prepare.repository(), []
    for part in arguments.parts:
        texts.append(_heading(part, arguments) + _part(part, models, arguments))
        print(texts[-1], flush=True)
        if arguments.out:
            arguments.out.write_text("\n".join(texts))


def _heading(part: str, arguments: argparse.Namespace) -> str:
    rounds, seconds = _scale(part, arguments)
    rounds_text = "" if part in ("batches", "memory", "stages") else f"medians of {rounds} rounds"
    seconds_text = "" if part == "unload" else f"{seconds:.0f} s each"
    setup = " of ".join(filter(None, (rounds_text, seconds_text)))
    return f"\n### {part}\n{processes.machine()}; Python {sys.version.split()[0]}; {setup}\n\n"


def _scale(part: str, arguments: argparse.Namespace) -> tuple[int, float]:
    """Rounds and seconds, as given or the part's default."""
    rounds = arguments.rounds or MORE_ROUNDS.get(part, ROUNDS)
    return rounds, arguments.seconds or LONGER_S.get(part, DURATION_S)


def _part(part: str, models: Path, arguments: argparse.Namespace) -> str:
    backends, (rounds, seconds) = arguments.backends, _scale(part, arguments)
    if part == "speed":
        return speed.report(speed.measure(models, backends, rounds, seconds, arguments.only)) + "\n" + TF_SERVING_NOTE
    if part == "batches":
        return "\n".join(
            [
                "32 images as JSON, one connection:\n\n" + batches.thirty_two(models, backends, rounds, seconds),
                "128 images a request:\n\n" + batches.binary_against_json(models, backends, rounds, seconds),
                "Images per second by batch size:\n\n" + batches.sizes(models, backends, seconds),
            ]
        )
    if part == "grpc":
        return grpc_speed.report(grpc_speed.measure(models, backends, rounds, seconds, arguments.only))
    measures: dict[str, Callable[[], str]] = {
        "memory": lambda: memory.measure(models, backends, arguments.million),
        "scaling": lambda: scaling.measure(models, backends, rounds, seconds),
        "stages": lambda: stages.measure(models, backends, seconds),
        "before": lambda: before.measure(models, backends, rounds, seconds),
        "swap": lambda: swap.measure(models, backends, rounds, seconds),
        "unload": lambda: unload.measure(models, backends, rounds),
    }
    return measures[part]()


if __name__ == "__main__":
    main()
