"""Runs one headless Locust process and returns the requests/s that Locust itself counted."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT
from seaway.load import payloads
from seaway.protocols import client_codecs

CORE = 0
USERS = 8


def rate(name: str, url: str, source: Path, seconds: int) -> float:
    """Requests/s of `bare` or of `ours`, both started as users start them."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body")
        body.write_bytes(payloads.encode(payloads.read_model(source), client_codecs.TFS, 1)[0].body)
        arguments = [str(ROOT / "benchmarks" / "loadgen" / "bare_locustfile.py")]
        if name == "ours":
            arguments = [str(ROOT / "loadtest" / "locustfile.py"), "--golden", str(source), "--protocol", "tfs"]
            arguments += ["--model", "trivial", "--counts", str(Path(folder, "counts"))]
        command = [
            "taskset",
            "-c",
            str(CORE),
            sys.executable,
            "-m",
            "locust",
            "-f",
            *arguments,
            "--headless",
            "--host",
            url,
        ]
        command += ["--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", f"{seconds}s", "--only-summary"]
        environment = os.environ | {"BODY": str(body), "PYTHONPATH": str(ROOT)}
        command += ["--json", "--loglevel", "ERROR"]
        completed = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    [row] = json.loads(completed.stdout)
    if row["num_failures"] or not row["num_requests"]:
        raise SystemExit(f"{name}: {row['num_failures']} of {row['num_requests']} requests failed\n{completed.stderr}")
    return float(row["num_requests"]) / seconds
