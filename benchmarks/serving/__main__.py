"""How fast the model server is, what it costs and what it holds; peer: MLServer 1.7.1 with ONNX Runtime.

    python -m benchmarks.serving                            all tables, about half an hour
    python -m benchmarks.serving --parts speed --seconds 10 --rounds 5
    python -m benchmarks.serving --parts speed --only graphpipe --backends onnx
    python -m benchmarks.serving --parts memory --million   10^6 requests each

Model: conv32/pool/conv64/pool/dense128/62 on images of 28 by 28. Its ONNX file is made by our own stages; its
SavedModel is written for TensorFlow from the same weights (`native`), as others' figures are. The client is wrk, on the
same cores. Every kind of request is checked for right answers before it is timed. MLServer's environment and the model
are made at the first run and kept in .seaway/bench.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import processes
from benchmarks.serving import batches, memory, prepare, scaling, speed, where

PARTS = ("speed", "batches", "memory", "scaling", "where")
ELSEWHERE = """TensorFlow Serving 2.20 is not measured here. Measured elsewhere, with the same MLServer beside it on
another machine of two cores, as multiples of MLServer's requests/s at 8 and 32 connections: as shipped 2.2 and 2.3;
with one intra-op and one inter-op thread 3.7 and 4.0. 32 images at one connection: 22 requests/s, 276 with
TCP_NODELAY.
"""


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--where", action="store_true", help="only the stages of a request: as --parts where")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement, whole ones (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="alternations; medians are of these (default 3)")
    parser.add_argument(
        "--only", nargs="+", default=[], help="of `speed`, protocols whose title holds one of these words"
    )
    parser.add_argument("--backends", nargs="+", choices=["savedmodel", "onnx"], default=["savedmodel", "onnx"])
    parser.add_argument("--million", action="store_true", help="memory after 10^6 requests too: some ten minutes")
    parser.add_argument("--out", type=Path, help="file for the tables, besides standard output")
    given = parser.parse_args()
    models, texts = prepare.volume(), []
    for part in ["where"] if given.where else given.parts:
        texts.append(_heading(part, given) + _part(part, models, given))
        print(texts[-1], flush=True)
        if given.out:
            given.out.write_text("\n".join(texts))


def _heading(part: str, given: argparse.Namespace) -> str:
    rounds = f"medians of {given.rounds} rounds of " if part in ("speed", "scaling") else ""
    how = f"Python {sys.version.split()[0]}; {rounds}{given.seconds:.0f} s each"
    return f"\n### {part}\n{processes.machine()}; {how}\n\n"


def _part(part: str, models: Path, given: argparse.Namespace) -> str:
    backends, rounds, seconds = given.backends, given.rounds, given.seconds
    if part == "speed":
        return speed.report(speed.measure(models, backends, rounds, seconds, given.only)) + "\n" + ELSEWHERE
    if part == "batches":
        return "\n".join(
            [
                "32 images as JSON, one connection:\n\n" + batches.thirty_two(models, backends, rounds, seconds),
                "128 images a request:\n\n" + batches.binary_against_json(models, backends, rounds, seconds),
                "Images a second against the batch's size:\n\n" + batches.sizes(models, backends, seconds),
            ]
        )
    if part == "memory":
        return memory.measure(models, backends, given.million)
    if part == "scaling":
        return scaling.measure(models, backends, rounds, seconds)
    return where.measure(models, backends, seconds)


if __name__ == "__main__":
    main()
