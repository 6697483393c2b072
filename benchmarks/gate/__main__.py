"""Claim: how many wrong conversions the gate refuses: a mutation score.

    python -m benchmarks.gate [--seed 1] [--only NET …] [--again CLASS …] [--summary]
    python -m benchmarks.gate --generate --seed 1

A mutant is a network whose converter got one operator wrong (`kinds.py`): another epsilon, align_corners, the other
GELU, a pad on the wrong side. `--generate` makes the list of a seed from `nets.py`, from nothing else; the list of
seed 1 was committed before anything was measured, that of another seed is made when it is asked for. Each network has
a process of its own with limits of memory and time, in which it is exported, converted and validated unchanged, and
then each mutant's SavedModel is given to `validate` with the network's own ONNX file, weights and golden examples.
Results are lines of benchmarks/gate/results/, so a run can be interrupted and continued; the last line of a mutant
counts. `--again survived` repeats those of a class, `--summary` only prints the tables.

killed           the gate refuses it; the result names the checks
survived         it does not, and a search apart from it finds an input at which an output is out of tolerance
below tolerance  it does not, and the search finds none; counted apart
equivalent       it computes the same, for the reason in equivalent.json; counted apart
not converted    the converter refuses the mutant itself, so that the gate never sees it; counted apart

"Right node named": of the killed, those whose refusal names the node that was changed.

Score: killed / (killed + survived). "Without the test of weights": only what other checks refuse is killed.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gate import judge, score
from benchmarks.ship import one
from benchmarks.ship.__main__ import watch

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
TIMEOUT_S = 1800  # of CPU time, for a network with all its mutants
PRELOAD = one.PRELOAD
DIED = "process died"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gate")
    parser.add_argument("--seed", type=int, default=1, help="of the list of mutants")
    parser.add_argument("--generate", action="store_true", help="make the list, and run nothing")
    parser.add_argument("--only", nargs="+", help="networks")
    parser.add_argument("--again", nargs="+", choices=score.CLASSES, default=[], help="repeat those with such a result")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    from benchmarks.gate import mutants

    listed = mutants.file(arguments.seed)
    if arguments.generate or not listed.exists():
        listed.write_text(mutants.text(mutants.generate(arguments.seed)), encoding="utf-8")
        print(f"{len(mutants.read(arguments.seed))} mutants in {listed.name}", file=sys.stderr)
        if arguments.generate:
            return
    entries = mutants.read(arguments.seed)
    networks = list(dict.fromkeys(sorted(entry["net"] for entry in entries)))
    if unknown := {*(arguments.only or [])} - {*networks}:
        parser.error(f"--only: not in the list: {', '.join(sorted(unknown))}")
    file = RESULTS / f"seed{arguments.seed}.jsonl"
    if not arguments.summary:
        file.parent.mkdir(exist_ok=True)
        os.environ |= one.ENVIRONMENT  # before the processes start
        for net in arguments.only or networks:
            own = [entry for entry in entries if entry["net"] == net]
            _run(net, own, file, arguments.again)
    results = read(file)
    print(score.summary([*results.values()], len(entries), score.equivalents()))


def _run(net: str, mutants: list[dict[str, Any]], file: Path, again: list[str]) -> None:
    """Runs what has no result yet, or one of those classes; one that crashes the process is refused so."""
    done = read(file)
    pending = [m for m in mutants if m["id"] not in done or done[m["id"]]["class"] in again]
    commit = _commit()
    while pending:
        with tempfile.TemporaryDirectory() as folder:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([PRELOAD])
            process = context.Process(target=judge.child, args=(net, pending, folder, str(file), commit))
            process.start()
            over, cpu_s = watch(process, TIMEOUT_S)
            begun = Path(folder) / judge.BEGUN
            if (Path(folder) / judge.DONE).exists():
                pending = []
            elif begun.exists() and process.exitcode < 0 and not over:
                died = next(m for m in pending if m["id"] == begun.read_text(encoding="utf-8"))
                kept = {key: died[key] for key in ("id", "net", "kind", "operator", "weight")}
                reason = f"status {process.exitcode}"
                result = kept | score.verdict([DIED], None) | {"checks": [DIED], "reason": reason, "cpu_s": 0.0}
                with file.open("a", encoding="utf-8") as opened:
                    opened.write(json.dumps(result | {"commit": commit}, ensure_ascii=False) + "\n")
                pending = pending[pending.index(died) + 1 :]
            else:
                log = (Path(folder) / judge.LOG).read_text(errors="replace").strip().splitlines()
                ended = over or f"the process ended with status {process.exitcode}"
                sys.exit("\n".join([f"{net}: {ended}", *log[-20:]]))
        results = read(file)
        counts = [sum(results.get(m["id"], {}).get("class") == each for m in mutants) for each in score.CLASSES]
        said = ", ".join(f"{n} {each}" for n, each in zip(counts, score.CLASSES, strict=True) if n)
        print(f"{net}: {results[net]['class']} unchanged; {said}; {cpu_s:.0f} CPU s", file=sys.stderr, flush=True)


def read(file: Path) -> dict[str, dict[str, Any]]:
    """Mutant, or network, → its last result."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {result["id"]: result for result in map(json.loads, lines)}


def _commit() -> str:
    """The commit, "-dirty" if anything but results has changed."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    status = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{RESULTS.relative_to(ROOT)}"]
    changed = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return told.stdout.strip() + ("-dirty" if changed else "")


if __name__ == "__main__":
    main()
