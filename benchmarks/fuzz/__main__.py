"""Fuzzes the readers of the three protocols with Atheris, in an environment of its own, made at the first run.

    python -m benchmarks.fuzz                               10^6 inputs for each protocol
    python -m benchmarks.fuzz graphpipe --runs 5000000
    python -m benchmarks.fuzz oip --again FILE              one input, for instance a finding's

What it learns and finds is kept in .seaway/bench/fuzz/<protocol>, and it goes on from there. The exit status is 1 if it
found anything.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes, venvs
from benchmarks.fuzz.seeds import WORDS, seeds
from benchmarks.tables import table

SLOW_SECONDS, MEMORY_MB, LARGEST = 5, 1024, 4096


@dataclass(frozen=True)
class Outcome:
    inputs: int
    seconds: float
    peak_mb: int
    slowest_s: int
    said: str
    reproducer: Path | None


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("protocols", nargs="*", help="default: tfserving oip graphpipe")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs a protocol (default 1000000)")
    parser.add_argument("--most-seconds", type=int, default=3600, help="end a protocol after so long (default 3600)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; 0: another each time")
    parser.add_argument("--again", type=Path, help="run this one input, and tell what it does")
    given = parser.parse_args()
    if unknown := set(given.protocols) - set(WORDS):
        parser.error(f"no protocol is called {', '.join(unknown)}; there are {', '.join(WORDS)}")
    rows, failed = [], False
    for protocol in given.protocols or WORDS:
        outcome = fuzz(protocol, given)
        failed = failed or outcome.reproducer is not None
        found = "none"
        if outcome.reproducer is not None:
            found = os.path.relpath(outcome.reproducer, processes.ROOT)
            print(outcome.said, file=sys.stderr)
        numbers = f"{outcome.inputs:,}", f"{outcome.seconds:.0f}", outcome.peak_mb, outcome.slowest_s
        rows.append([protocol, *numbers, found])
    print(f"{processes.machine()}; inputs of at most {LARGEST} bytes, {MEMORY_MB} MB, {SLOW_SECONDS} s an input\n")
    print(table(["protocol", "inputs", "seconds", "peak MB", "slowest input s", "findings"], rows))
    sys.exit(1 if failed else 0)


def fuzz(protocol: str, given: argparse.Namespace) -> Outcome:
    """Runs libFuzzer until it has tried so many inputs, or has found something."""
    home = venvs.HOME / "fuzz" / protocol
    corpus, start, found = home / "corpus", home / "seeds", home / "found"
    shutil.rmtree(start, ignore_errors=True)
    for folder in (corpus, start, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(protocol)):
        (start / f"{number:03}").write_bytes(seed)
    words = home / "words"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in WORDS[protocol].split()))
    options = {
        "runs": given.runs,
        "max_total_time": given.most_seconds,
        "timeout": SLOW_SECONDS,
        "rss_limit_mb": MEMORY_MB,
        "max_len": LARGEST,
        "seed": given.seed,
        "dict": words,
        "artifact_prefix": f"{found}/",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    command = [str(venvs.python("bench")), "-m", "benchmarks.fuzz.harness", protocol]
    command += [f"-{name}={value}" for name, value in options.items()]
    command += [str(given.again)] if given.again else [str(corpus), str(start)]
    began, before = time.monotonic(), set(found.iterdir())
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, errors="replace")
    said = done.stderr + done.stdout
    new = sorted(set(found.iterdir()) - before)
    reproducer = (new or [given.again or found])[0] if done.returncode else None
    inputs, peak, slowest = (
        int(match[1]) if (match := re.search(rf"{name}:\s+(\d+)", said)) else 0
        for name in ("number_of_executed_units", "peak_rss_mb", "slowest_unit_time_sec")
    )
    return Outcome(inputs, time.monotonic() - began, peak, slowest, _end(said), reproducer)


def _quoted(word: str) -> str:
    """As libFuzzer's dictionaries have them; what begins with a backslash is in that form already."""
    return word if word.startswith("\\") else word.replace('"', '\\"')


def _end(said: str) -> str:
    """Without the lines about progress."""
    kept = [line for line in said.splitlines() if not re.match(r"#\d+\s|INFO:|Dictionary|stat::|MS:|0x", line.strip())]
    return "\n".join(kept[-60:])


if __name__ == "__main__":
    main()
