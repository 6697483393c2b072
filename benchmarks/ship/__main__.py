"""Claim: how many real networks `seaway ship` carries from PyTorch to a published SavedModel, unchanged.

    python -m benchmarks.ship --list torchvision|timm|transformers|nets [--only NAME …] [--again CLASS …]
        [--inputs 200] [--budget 60] [--kind classification] [--rest] [--results FILE] [--summary]

Each network of the list (`lists.py`) has seeded random weights and runs in a process of its own, with a limit of memory
and time, through the functions behind `seaway ship`: export, convert, validate, publish. Then PyTorch is compared with
what was published, on inputs that the gate did not see, in batches of 1 to 8; `--rest` asks a server, too. A refused
network is tried without Seaway's exporter and gate, so that one that was exact nevertheless is found. Each result is a
line of benchmarks/ship/results/LIST.jsonl, with its commit, so a run can be interrupted and continued on another
machine; the last line of a network counts. `--again refused` repeats those of a class, `--summary` only prints the
table. The packages are in an environment of their own, in which this command starts itself if they are missing here.

exact      every output that depends on the input is within 1e-4 of its range
coarse     published, but not exact, and PyTorch's own float32 is as far from its float64
wrong      published, but one is not: the gate failed
constant   published, but no output depends on the input, or none is finite: proves nothing
refused    with the reason; "exact by itself" if PyTorch's own export and the converter give PyTorch's outputs
traceback  an error that is not one of Seaway's, or a process that died
limit      over the limit of time or memory
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks import venvs
from benchmarks.ship import lists, one
from benchmarks.tables import table

CLASSES = ("exact", "coarse", "wrong", "constant", "refused", "traceback", "limit")
PACKAGES = {  # a list's package, by which its environment is known
    "torchvision": "torchvision",
    "timm": "timm",
    "transformers": "transformers",
    "nets": "segmentation_models_pytorch",
}
TIMEOUT_S = 600  # of CPU time; of wall time WALL times as much, because other programs may use the cores
WALL = 4
MEMORY_BYTES = 16 << 30
POLL_INTERVAL_S = 0.5
MAX_REASON, MAX_KEPT = 160, 400
ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
KEPT = ("name", "class", "stage", "reason", "independent", "exporter", "inputs", "cpu_s", "peak_mb")
_NOISE = re.compile(r"/[^\s:'\"]*/|\x1b\[\d+m")  # folders of this machine, colors


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.ship")
    parser.add_argument("--list", required=True, choices=lists.LISTS)
    parser.add_argument("--results", type=Path, help="a file of results (default: the repository's)")
    parser.add_argument("--rest", action="store_true", help="ask a server, too")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    parser.add_argument("--only", nargs="+", help="names of networks, in this order")
    parser.add_argument("--kind", help="torchvision's: classification, segmentation or detection")
    parser.add_argument("--again", nargs="+", choices=CLASSES, default=[], help="repeat those with such a result")
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--budget", type=float, default=60, help="CPU seconds of the comparison, once it has 36 inputs")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="CPU seconds")
    arguments = parser.parse_args()
    if not arguments.summary and importlib.util.find_spec(PACKAGES[arguments.list]) is None:
        interpreter = str(venvs.python("ship", beside_project=True))
        os.execv(interpreter, [interpreter, "-m", "benchmarks.ship", *sys.argv[1:]])
    entries = [
        entry
        for entry in lists.read(arguments.list)
        if entry["name"] in (arguments.only or [entry["name"]]) and arguments.kind in (None, entry.get("kind"))
    ]
    unknown = {*(arguments.only or [])} - {entry["name"] for entry in entries}
    if unknown:
        parser.error(f"--only: not in the list: {', '.join(sorted(unknown))}")
    file = arguments.results or RESULTS / f"{arguments.list}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    results = read(file) if file.exists() else {}
    names = {entry["name"] for entry in entries}
    if arguments.summary:
        print(summary({name: result for name, result in results.items() if name in names}, len(entries)))
        return
    os.environ |= one.ENVIRONMENT  # before the processes start
    described = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    order = (arguments.only or []).index if arguments.only else None
    for entry in sorted(entries, key=lambda e: order(e["name"]) if order else int(e["parameters"])):  # small ones first
        if entry["name"] in results and results[entry["name"]]["class"] not in arguments.again:
            continue
        result = ship(
            arguments.list, entry["name"], arguments.inputs, arguments.budget, arguments.timeout, arguments.rest
        )
        print(*result.pop("trace", []), sep="\n", end="", file=sys.stderr)
        result = results[entry["name"]] = compact(result) | {"commit": commit}
        with file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(result) + "\n")
        said = [result["reason"]] if "reason" in result else []
        print(f"{entry['name']}: {result['class']}", *said, f"{result['cpu_s']} CPU s", file=sys.stderr, flush=True)
    print(summary({name: result for name, result in results.items() if name in names}, len(entries)))


def read(file: Path) -> dict[str, dict[str, Any]]:
    """Name → its last result."""
    return {result["name"]: result for result in map(json.loads, file.read_text(encoding="utf-8").splitlines())}


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """What the table needs: the outputs' worst share, and reasons without this machine's folders."""
    kept = {key: result[key] for key in KEPT if key in result}
    for key in ("reason", "independent"):
        if key in kept:
            kept[key] = " ".join(_NOISE.sub("", kept[key]).split())[:MAX_KEPT]
    if refused := result.get("refused_exporters"):
        kept["refused_exporters"] = {name: _NOISE.sub("", why)[:MAX_REASON] for name, why in refused.items()}
    if outputs := result.get("outputs"):
        kept["compared"] = sorted({runtime for output in outputs.values() for runtime in output["share"]})
        kept["share"] = max(max(output["share"].values()) for output in outputs.values())
    return kept


def ship(
    source: str, name: str, inputs: int, budget_s: float, timeout_s: float = TIMEOUT_S, rest: bool = False
) -> dict[str, Any]:
    """One network in a process of its own; its result, also if the process dies or takes too much."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([one.PRELOAD])
        process = context.Process(target=one.child, args=(source, name, folder, inputs, budget_s, rest))
        process.start()
        over, cpu_s = watch(process, timeout_s)
        lines = log.read_text(errors="replace").strip().splitlines()
        stages = [json.loads(line)["stage"] for line in lines if line.startswith('{"stage"')]
        result_file = Path(folder) / one.RESULT
        if result_file.exists():
            result = json.loads(result_file.read_text())
        else:
            ended = over or f"the process ended with status {process.exitcode}: {lines[-1] if lines else ''}"
            result = {"class": "limit" if over else "traceback", "stage": [*stages, "export"][-1], "reason": ended}
            result["trace"] = lines[-12:]
        return {"cpu_s": round(cpu_s, 1), "name": name} | result


def watch(process: Any, timeout_s: float) -> tuple[str, float]:
    """Waits for the process, and ends it with its children if it takes too much: what it was, and its CPU seconds."""
    deadline, cpu_s, over = time.monotonic() + WALL * timeout_s, 0.0, ""
    while process.is_alive():
        try:
            own = psutil.Process(process.pid)
            tree = [own, *own.children(recursive=True)]
            times = own.cpu_times()
            cpu_s = times.user + times.system + times.children_user + times.children_system
            used = sum(each.memory_info().rss - each.memory_info().shared for each in tree)
        except psutil.NoSuchProcess:
            continue
        if cpu_s > timeout_s:
            over = f"not done after {timeout_s:.0f} CPU s"
        elif time.monotonic() > deadline:
            over = f"not done after {WALL * timeout_s:.0f} s"
        elif used > MEMORY_BYTES:
            over = f"takes more than {MEMORY_BYTES >> 30} GiB"
        if over:
            for each in reversed(tree):
                each.kill()
            break
        process.join(POLL_INTERVAL_S)
    process.join()
    return over, cpu_s


def summary(results: dict[str, dict[str, Any]], of: int) -> str:
    """The counts, then every network that is not exact; `of`: how many there are in all."""
    total, cpu_s = len(results), sum(result["cpu_s"] for result in results.values())
    counts = {name: sum(result["class"] == name for result in results.values()) for name in CLASSES}
    head = [[name, number, f"{number / max(total, 1):.1%}"] for name, number in counts.items()]
    others = []
    for name, result in results.items():
        if result["class"] != "exact":
            independent = "exact by itself" if result.get("independent") == "exact" else result.get("independent", "")
            reason = result.get("reason", "")[:MAX_REASON] or f"|Δ| / range {result.get('share')}"
            others.append([name, result["class"], result.get("stage", ""), reason, independent[:MAX_REASON]])
    fewer = [name for name, result in results.items() if result.get("inputs", 200) < 200]
    commits = sorted({result["commit"] for result in results.values()})
    text = f"{counts['exact']} of {total} exact, {of - total} not run; {cpu_s:.0f} CPU s; commits {', '.join(commits)}"
    text += "\n\n" + table(["result", "networks", "share"], head)
    if others:
        text += "\n" + table(["network", "result", "stage", "reason", "by itself"], others)
    return text + (f"\nfewer than 200 inputs, to save time: {', '.join(fewer)}\n" if fewer else "")


if __name__ == "__main__":
    main()
