"""Claim: PyTorch's operators, exported as Seaway does it, compute in ONNX Runtime what they compute in PyTorch.

    python -m benchmarks.operators                  all of them, and writes docs/operators.md
    python -m benchmarks.operators --only softmax   those again, with the other rows of the last run
    python -m benchmarks.operators --missing        those that an interrupted run did not reach

Each operator is exported at each element type by both exporters, runs on every kind of values at several batch sizes,
and is compared element by element; so is what Seaway's converter makes of the file that would be shipped.
cases.py declares the operators, values.py the values. The results are kept in .seaway/bench/operators.json.
"""

import argparse
import dataclasses
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from benchmarks import processes, venvs
from benchmarks.operators import harness, render
from benchmarks.operators.cases import cases
from benchmarks.operators.harness import EXPORTS, Measured, Outcome

RESULTS = venvs.HOME / "operators.json"
TABLE = processes.ROOT / "docs" / "operators.md"
ABORTED = "the process aborts"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.operators", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="measure the operators with this in their names")
    parser.add_argument("--missing", action="store_true", help="measure the operators without a result")
    options = parser.parse_args()
    results = _read() if options.only or options.missing else {}
    start = time.monotonic()
    for result in measure_all(options.only, set(results) if options.missing else set()):
        results[f"{result.name} {result.dtype}"] = result
        print(render.line(result), flush=True)
        _write(results)
    print(f"{time.monotonic() - start:.0f} s")
    TABLE.write_text(render.document(results.values()), encoding="utf-8")


def measure_all(only: str, done: set[str]) -> Iterator[Measured]:
    """Those with `only` in their names that are not done, in one process; if it dies, another continues."""
    pool: ProcessPoolExecutor | None = None
    for place, case in enumerate(cases()):
        for dtype in case.dtypes if only in case.name else ():
            if f"{case.name} {dtype}" in done:
                continue
            pool = pool or ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
            try:
                yield pool.submit(harness.measure, place, dtype).result()
            except BrokenProcessPool:
                pool = None
                aborted = {name: Outcome(harness.CANNOT, ABORTED) for name in EXPORTS}
                yield Measured(case.name, dtype, aborted)
    if pool:
        pool.shutdown()


def _read() -> dict[str, Measured]:
    if not RESULTS.exists():
        return {}
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {key: _measured(value) for key, value in stored.items()}


def _measured(value: dict[str, Any]) -> Measured:
    outcomes = {name: Outcome(**outcome) for name, outcome in value["exporters"].items()}
    saved_model = Outcome(**value["saved_model"]) if value["saved_model"] else None
    return Measured(value["name"], value["dtype"], outcomes, saved_model)


def _write(results: dict[str, Measured]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({key: dataclasses.asdict(value) for key, value in results.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()
