"""REST with JSON, this commit against an earlier one, in alternating rounds on the same model folders."""

import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks import processes, venvs, verdicts
from benchmarks.processes import Server
from benchmarks.serving import batches, cases, prepare, speed, wrk
from benchmarks.serving.cases import Cases
from benchmarks.serving.speed import Sample
from benchmarks.tables import median_or_nan, table
from benchmarks.verdicts import Ratio

COMMIT = "d38a8fe"
LOCKS = ("serve.txt", "serve-onnx.txt")  # that commit's, of its server with each runtime
NOW, BEFORE = "now", COMMIT
MIN_ROUNDS = 7
# Minimum and target of this commit's requests/s, as multiples of that one's; they count at the interval's lower end
TARGETS = {
    ("onnx", 1): (1.15, 1.5),
    ("onnx", 8): (1.15, 1.5),
    ("onnx", 32): (1.1, 1.5),
    ("savedmodel", 1): (1.5, 1.8),
    ("savedmodel", 8): (1.3, 1.6),
    ("savedmodel", 32): (1.1, 1.3),
}
NOTE = f"""\
TensorFlow Serving's REST, one image as JSON. Ratio: median ÷ median and its 95 % interval, a bootstrap over the rounds;
verdicts are of the interval's lower end, and need {MIN_ROUNDS} rounds. Model alone ÷ CPU: the time of the model's call
without a server (`bare`, one thread), for batches of half the connections, per image, ÷ CPU of a request.
"""


def measure(models: Path, backends: Sequence[str], rounds: int, seconds: float) -> str:
    """Both servers start anew each round, one at a time; which one is first alternates."""
    case = Cases(prepare.version(models)).tfserving()
    samples: dict[tuple[str, str, int], list[Sample]] = defaultdict(list)
    alone: dict[tuple[str, int], list[float]] = defaultdict(list)
    home = checkout()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for backend in backends:
                for which in (NOW, BEFORE) if number % 2 else (BEFORE, NOW):
                    with _start(which, home, models, Path(folder), backend) as server:
                        cases.check(server.port, case)
                        wrk.run(server.port, case, 8, speed.WARM_UP_S)
                        for connections in speed.CONNECTIONS:
                            sample = speed.sample(server, case, connections, seconds)
                            samples[backend, which, connections].append(sample)
                            print(
                                f"round {number + 1}: {backend}, {which}, {connections}: {sample.rate:.0f}/s",
                                flush=True,
                            )
                for connections in speed.CONNECTIONS:
                    rows = max(1, connections // 2)
                    run = batches.bare(backend, prepare.version(models), rows, 1)
                    alone[backend, connections].append(run["p50_us"] / rows / 1e3)
    return NOTE + "\n" + _report(backends, samples, alone)


def _report(
    backends: Sequence[str],
    samples: dict[tuple[str, str, int], list[Sample]],
    alone: dict[tuple[str, int], list[float]],
) -> str:
    rows = []
    for backend in backends:
        for connections in speed.CONNECTIONS:
            now, before = (samples[backend, which, connections] for which in (NOW, BEFORE))
            ratio = verdicts.ratio([one.rate for one in now], [one.rate for one in before])
            cpu_now, cpu_before = (median_or_nan(one.cpu_ms for one in listed) for listed in (now, before))
            model = median_or_nan(alone[backend, connections])
            rates = [f"{median_or_nan(one.rate for one in listed):.0f}" for listed in (before, now)]
            verdict = _verdict(ratio, TARGETS[backend, connections], len(now))
            cells = [f"{value:.3f}" for value in (cpu_before, cpu_now, cpu_now / cpu_before, model)]
            p99 = [f"{median_or_nan(one.p99_ms for one in listed):.2f}" for listed in (before, now)]
            bad = sum(one.bad for one in (*now, *before))
            rows.append(
                [backend, connections, *rates, ratio, verdict, *cells, f"{model / cpu_now:.0%}", " / ".join(p99), bad]
            )
    head = ["backend", "connections", f"requests/s, {BEFORE}", "requests/s, now", "ratio", "verdict"]
    head += [f"CPU ms, {BEFORE}", "CPU ms, now", "ratio", "model alone, ms", "model alone ÷ CPU", "p99 ms", "not 2xx"]
    return table(head, rows)


def _verdict(ratio: Ratio, limits: tuple[float, float], rounds: int) -> str:
    return verdicts.at_least(ratio.low, limits) if rounds >= MIN_ROUNDS else f"needs {MIN_ROUNDS} rounds"


def _start(which: str, home: Path, models: Path, folder: Path, backend: str) -> Server:
    if which == NOW:
        return prepare.ours(models, folder, backend)
    command = [str(home / ".venv" / "bin" / "python"), "-m", "components.serve", "--backend", backend]
    command += ["--port", "0", "--admin-port", "0"]
    environment = {"PYTHONPATH": str(home), "SEAWAY_VOLUME": str(models)}
    server = Server(command, folder / f"before-{backend}.log", environment, home)
    deadline = time.monotonic() + processes.START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        if ports := re.search(processes.ADDRESSES, server.log.read_text(), re.MULTILINE):
            server.port = int(ports[1])
            server.wait_for("/readyz")
            return server
        time.sleep(0.02)
    server.__exit__()
    raise SystemExit(f"the server of {COMMIT} did not print its addresses:\n{server.tail_log()}")


def checkout() -> Path:
    """That commit's files with an environment from its own locks, in .seaway/bench; made once."""
    home = venvs.HOME / COMMIT
    ready = home / ".venv" / ".ready"
    if ready.exists():
        return home
    print(f"creating {home} with its environment", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    archive = subprocess.run(["git", "archive", COMMIT], cwd=processes.ROOT, capture_output=True)
    if archive.returncode:
        raise SystemExit(f"{COMMIT} is needed, with its history: {archive.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as opened:
        opened.extractall(home, filter="data")
    uv, interpreter = str(Path(sys.executable).with_name("uv")), str(home / ".venv" / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home / ".venv")], check=True)
    locks = [str(home / "requirements" / lock) for lock in LOCKS]
    subprocess.run([uv, "pip", "sync", "--quiet", "--python", interpreter, "--require-hashes", *locks], check=True)
    compiled = [interpreter, "-m", "compileall", "-q", str(home / "components"), str(home / "seaway")]
    subprocess.run(compiled, check=True)
    ready.touch()
    return home
