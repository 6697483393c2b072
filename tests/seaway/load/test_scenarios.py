"""The locustfiles of loadtest/, which users copy: in one process, and as master and worker."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.artifacts import model_repository
from seaway.load.counters import Counters

ROOT = Path(__file__).resolve().parents[3]
SCENARIOS = sorted((ROOT / "loadtest").glob("*.py"))
SHORTER = {  # file → (text, its replacement)
    "think_time.py": ("MIN_S, MAX_S = 0.5, 2.0", "MIN_S, MAX_S = 0.3, 0.4"),
    "steps.py": ("STEP_S = 30.0", "STEP_S = 0.4"),
}


def copy_shortened(file: Path, folder: Path) -> Path:
    """A copy with shorter times, as a user would change it."""
    text = file.read_text()
    if file.name in SHORTER:
        before, after = SHORTER[file.name]
        assert text.count(before) == 1
        text = text.replace(before, after)
    (folder / file.name).write_text(text)
    return folder / file.name


def start_locust(folder, *arguments):
    command = [sys.executable, "-m", "locust", "--headless", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(processes):
    """(exit status of the first process, output of all)."""
    outputs = []
    for process in processes:
        try:
            outputs.append(process.communicate(timeout=120)[0])
        finally:
            process.kill()
    return processes[0].returncode, "\n".join(outputs)


def options(server, folder, file):
    target = ["--host", server.url, "--golden", model_repository.path(server.repository, "toy", 1), "--protocol", "oip"]
    length = [] if file.name == "steps.py" else ["--users", 2, "--spawn-rate", 2, "--run-time", "2s"]
    return ["-f", file, *target, *length, "--counts", folder / "counts", "--stop-timeout", 9]


def read_counters(folder):
    """(total counters, the highest number of users)."""
    lines = [json.loads(line) for line in (folder / "counts").read_text().splitlines()]
    total = Counters()
    for line in lines:
        total.merge(Counters.from_json(line["counters"]["oip"]))
    return total, max(line["users"] for line in lines)


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_a_scenario(server, tmp_path, file):
    status, output = wait_for([start_locust(tmp_path, *options(server, tmp_path, copy_shortened(file, tmp_path)))])
    assert (status, "Traceback" in output) == (0, False), output
    total, users = read_counters(tmp_path)
    assert total.requests == next(server.counter) > 0
    assert (total.failed, total.wrong) == (0, 0)
    if file.name == "think_time.py":
        assert total.requests <= 2 * (1 + 2.0 / 0.3) + 2, "two users that pause for 0.3 s or more after each response"
    if file.name == "steps.py":
        assert users > 2, "their number grows with every step"


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_a_scenario_on_several_machines(server, tmp_path, file):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    locustfile = copy_shortened(file, tmp_path)
    master = ["--master", "--master-bind-port", port, "--expect-workers", 1, "--expect-workers-max-wait", 60]
    worker = ["-f", locustfile, "--worker", "--master-port", port]
    status, output = wait_for(
        [start_locust(tmp_path, *options(server, tmp_path, locustfile), *master), start_locust(tmp_path, *worker)]
    )
    assert (status, "Traceback" in output) == (0, False), output
    total, _ = read_counters(tmp_path)
    assert total.requests == next(server.counter) > 0
    assert (total.failed, total.wrong) == (0, 0)
