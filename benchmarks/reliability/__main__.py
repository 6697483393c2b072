"""What the model server survives, with every answer checked: a line a scenario; exit status 1 where one did not hold.

    python -m benchmarks.reliability                        about ten minutes
    python -m benchmarks.reliability --only swap kill --seconds 60

Each scenario has a server of its own, and clients of all three protocols whose every request has a number of its own.
Right: the answer to this very request, from the version that it names. Lost: no complete answer.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks import processes
from benchmarks.reliability import crowds, scenarios
from benchmarks.reliability.scenarios import Result, Scenario
from benchmarks.reliability.world import World
from benchmarks.tables import table

SCENARIOS: dict[str, Scenario] = {
    "new versions swapped in": scenarios.swapped,
    "corrupt version arrives": scenarios.corrupt,
    "volume vanishes and returns": scenarios.vanished,
    "worker killed -9 again and again": scenarios.killed,
    "a model that aborts": scenarios.aborting,
    "SIGTERM": scenarios.terminated,
    "batches of many callers": scenarios.batched,
    **crowds.CROWDS,
}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.reliability", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40, help="of load in each scenario (default 40)")
    parser.add_argument("--only", nargs="+", default=[], help="scenarios whose name holds one of these words")
    parser.add_argument("--out", type=Path, help="file for the table, besides standard output")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # ten thousand connections are as many files
    chosen = {n: s for n, s in SCENARIOS.items() if not given.only or any(w.lower() in n.lower() for w in given.only)}
    rows, held = [], True
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for name, scenario in chosen.items():
            world.fresh()
            result = asyncio.run(_bounded(scenario, world, given.seconds))
            rows.append(_row(name, result))
            held = held and result.held
            print(f"{name}: {'held' if result.held else 'DID NOT HOLD'}; {result.note}", file=sys.stderr, flush=True)
            for problem in result.tally.problems:
                print(f"    {problem}", file=sys.stderr)
    head = ["scenario", "requests", "right", "wrong", "lost", "refused", "failed", "held", "what else"]
    text = f"{processes.machine()}; {given.seconds:.0f} s of load each\n\n{table(head, rows)}"
    print(text)
    if given.out:
        given.out.write_text(text)
    sys.exit(0 if held else 1)


async def _bounded(scenario: Scenario, world: World, seconds: float) -> Result:
    async with asyncio.timeout(6 * seconds + 300):
        return await scenario(world, seconds)


def _row(name: str, result: Result) -> list[object]:
    tally = result.tally
    failed = ", ".join(f"{count} of {status}" for status, count in sorted(tally.failed.items())) or 0
    held = "yes" if result.held else "NO"
    return [name, tally.asked, tally.right, tally.wrong, tally.lost, tally.refused, failed, held, result.note]


if __name__ == "__main__":
    main()
