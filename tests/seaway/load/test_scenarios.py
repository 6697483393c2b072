"""The locustfiles of loadtest/, which users copy: by themselves, and as master and worker."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.artifacts import store
from seaway.load.tally import Tally

ROOT = Path(__file__).resolve().parents[3]
SCENARIOS = sorted((ROOT / "loadtest").glob("*.py"))
SHORTER = {
    "think_time.py": ("FROM, TO = 0.5, 2.0", "FROM, TO = 0.3, 0.4"),
    "steps.py": ("SECONDS = 30.0", "SECONDS = 0.4"),
}


def copied(file: Path, folder: Path) -> Path:
    """A copy, as a user makes one, of which a number was changed."""
    text = file.read_text()
    if file.name in SHORTER:
        before, after = SHORTER[file.name]
        assert text.count(before) == 1
        text = text.replace(before, after)
    (folder / file.name).write_text(text)
    return folder / file.name


def started(folder, *arguments):
    command = [sys.executable, "-m", "locust", "--headless", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(processes):
    said = []
    for process in processes:
        try:
            said.append(process.communicate(timeout=120)[0])
        finally:
            process.kill()
    return processes[0].returncode, "\n".join(said)


def options(server, folder, file):
    own = ["--host", server.url, "--golden", store.path(server.volume, "toy", 1), "--protocol", "oip"]
    length = [] if file.name == "steps.py" else ["--users", 2, "--spawn-rate", 2, "--run-time", "2s"]
    return ["-f", file, *own, *length, "--counts", folder / "counts", "--stop-timeout", 9]


def counted(folder):
    """(answers as counted, the most users at a time)"""
    lines = [json.loads(line) for line in (folder / "counts").read_text().splitlines()]
    total = Tally()
    for line in lines:
        total.merge(Tally.from_json(line["tallies"]["oip"]))
    return total, max(line["users"] for line in lines)


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_a_scenario(server, tmp_path, file):
    status, said = ended([started(tmp_path, *options(server, tmp_path, copied(file, tmp_path)))])
    assert (status, "Traceback" in said) == (0, False), said
    total, users = counted(tmp_path)
    assert total.requests == next(server.counter) > 0
    assert (total.failed, total.wrong) == (0, 0)
    if file.name == "think_time.py":
        assert total.requests <= 2 * (1 + 2.0 / 0.3) + 2, "two users who wait for 0.3 s or more after each answer"
    if file.name == "steps.py":
        assert users > 2, "there were more of them with every step"


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_a_scenario_on_several_machines(server, tmp_path, file):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    own = copied(file, tmp_path)
    master = ["--master", "--master-bind-port", port, "--expect-workers", 1, "--expect-workers-max-wait", 60]
    worker = ["-f", own, "--worker", "--master-port", port]
    status, said = ended([started(tmp_path, *options(server, tmp_path, own), *master), started(tmp_path, *worker)])
    assert (status, "Traceback" in said) == (0, False), said
    total, _ = counted(tmp_path)
    assert total.requests == next(server.counter) > 0
    assert (total.failed, total.wrong) == (0, 0)
