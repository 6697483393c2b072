"""Fuzzes the decoders of the protocols with Atheris, in its own virtual environment, created by the first run.

    python -m benchmarks.fuzz                               10^6 inputs for each protocol
    python -m benchmarks.fuzz graphpipe --runs 5000000
    python -m benchmarks.fuzz oip --again FILE              one input, for example a finding's

Corpus and findings are kept in .seaway/bench/fuzz/<protocol>, and the next run continues from there. The exit status is
1 if it found anything.
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

TIMEOUT_S, MEMORY_LIMIT_MB, MAX_INPUT_BYTES = 5, 1024, 4096


@dataclass(frozen=True)
class Outcome:
    inputs: int
    duration_s: float
    peak_mb: int
    slowest_s: int
    log: str
    reproducer: Path | None


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("protocols", nargs="*", help="default: tfserving oip graphpipe tfs_grpc oip_grpc")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each protocol (default 1000000)")
    parser.add_argument("--max-seconds", type=int, default=3600, help="stop each protocol after this (default 3600)")
    parser.add_argument("--seed", type=int, default=0, help="random seed; 0: a new one each time")
    parser.add_argument("--again", type=Path, help="run this one input and report the result")
    options = parser.parse_args()
    if unknown := set(options.protocols) - set(WORDS):
        parser.error(f"unknown protocol {', '.join(unknown)}; choose from {', '.join(WORDS)}")
    rows, failed = [], False
    for protocol in options.protocols or WORDS:
        outcome = fuzz(protocol, options)
        failed = failed or outcome.reproducer is not None
        finding = "none"
        if outcome.reproducer is not None:
            finding = os.path.relpath(outcome.reproducer, processes.ROOT)
            print(outcome.log, file=sys.stderr)
        numbers = f"{outcome.inputs:,}", f"{outcome.duration_s:.0f}", outcome.peak_mb, outcome.slowest_s
        rows.append([protocol, *numbers, finding])
    limits = f"{MAX_INPUT_BYTES} bytes and {TIMEOUT_S} s an input, {MEMORY_LIMIT_MB} MB"
    print(f"{processes.machine()}; limits: {limits}\n")
    print(table(["protocol", "inputs", "duration s", "peak MB", "slowest input s", "finding"], rows))
    sys.exit(1 if failed else 0)


def fuzz(protocol: str, options: argparse.Namespace) -> Outcome:
    """Runs libFuzzer until it reaches the limits on inputs or time, or finds something."""
    home = venvs.HOME / "fuzz" / protocol
    corpus, start, findings = home / "corpus", home / "seeds", home / "found"
    shutil.rmtree(start, ignore_errors=True)
    for folder in (corpus, start, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(protocol)):
        (start / f"{number:03}").write_bytes(seed)
    dictionary = home / "words"
    dictionary.write_text("".join(f'"{_quoted(word)}"\n' for word in WORDS[protocol].split()))
    flags = {
        "runs": options.runs,
        "max_total_time": options.max_seconds,
        "timeout": TIMEOUT_S,
        "rss_limit_mb": MEMORY_LIMIT_MB,
        "max_len": MAX_INPUT_BYTES,
        "seed": options.seed,
        "dict": dictionary,
        "artifact_prefix": f"{findings}/",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    command = [str(venvs.python("bench")), "-m", "benchmarks.fuzz.harness", protocol]
    command += [f"-{name}={value}" for name, value in flags.items()]
    command += [str(options.again)] if options.again else [str(corpus), str(start)]
    started, before = time.monotonic(), set(findings.iterdir())
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, errors="replace")
    log = done.stderr + done.stdout
    new = sorted(set(findings.iterdir()) - before)
    reproducer = (new or [options.again or findings])[0] if done.returncode else None
    inputs, peak, slowest = (
        int(match[1]) if (match := re.search(rf"{name}:\s+(\d+)", log)) else 0
        for name in ("number_of_executed_units", "peak_rss_mb", "slowest_unit_time_sec")
    )
    return Outcome(inputs, time.monotonic() - started, peak, slowest, _tail(log), reproducer)


def _quoted(word: str) -> str:
    """A word in the syntax of libFuzzer's dictionaries; one that begins with a backslash is in it already."""
    return word if word.startswith("\\") else word.replace('"', '\\"')


def _tail(log: str) -> str:
    """The log's last lines, without those about progress."""
    kept = [line for line in log.splitlines() if not re.match(r"#\d+\s|INFO:|Dictionary|stat::|MS:|0x", line.strip())]
    return "\n".join(kept[-60:])


if __name__ == "__main__":
    main()
