"""Reliability of the model server, every response checked: one row per scenario, exit status 1 if one fails.

    python -m benchmarks.reliability                        about ten minutes
    python -m benchmarks.reliability --only swap kill --seconds 60

Each scenario has its own server, and clients of all three protocols that send a unique number in every request.
Correct: the response belongs to this request and to the version that it names. Lost: no complete response.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks import processes
from benchmarks.reliability import overload, scenarios
from benchmarks.reliability.scenarios import Result, Scenario
from benchmarks.reliability.world import World
from benchmarks.tables import table

SCENARIOS: dict[str, Scenario] = {
    "new versions swapped in": scenarios.new_versions,
    "corrupt versions arrive": scenarios.corrupt_versions,
    "repository vanishes and returns": scenarios.repository_vanishes,
    "workers killed -9 repeatedly": scenarios.workers_killed,
    "a model that aborts": scenarios.model_aborts,
    "SIGTERM": scenarios.sigterm,
    "batches of many clients": scenarios.full_batches,
    **overload.SCENARIOS,
}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.reliability", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40, help="duration of the load in each scenario (default 40)")
    parser.add_argument("--only", nargs="+", default=[], help="only scenarios whose name contains one of these words")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # ten thousand connections need as many file descriptors
    selected = {
        n: s for n, s in SCENARIOS.items() if not arguments.only or any(w.lower() in n.lower() for w in arguments.only)
    }
    rows, passed = [], True
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for name, scenario in selected.items():
            world.reset()
            result = asyncio.run(_bounded(scenario, world, arguments.seconds))
            rows.append(_row(name, result))
            passed = passed and result.passed
            print(f"{name}: {'passed' if result.passed else 'FAILED'}; {result.note}", file=sys.stderr, flush=True)
            for problem in result.counters.problems:
                print(f"    {problem}", file=sys.stderr)
    head = ["scenario", "requests", "correct", "wrong", "lost", "rejected", "failed", "passed", "notes"]
    text = f"{processes.machine()}; {arguments.seconds:.0f} s of load each\n\n{table(head, rows)}"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    sys.exit(0 if passed else 1)


async def _bounded(scenario: Scenario, world: World, seconds: float) -> Result:
    async with asyncio.timeout(6 * seconds + 300):
        return await scenario(world, seconds)


def _row(name: str, result: Result) -> list[object]:
    counters = result.counters
    failed = ", ".join(f"{count} of {status}" for status, count in sorted(counters.failed.items())) or 0
    passed = "yes" if result.passed else "NO"
    return [
        name,
        counters.total,
        counters.correct,
        counters.wrong,
        counters.lost,
        counters.rejected,
        failed,
        passed,
        result.note,
    ]


if __name__ == "__main__":
    main()
