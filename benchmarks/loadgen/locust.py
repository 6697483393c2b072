"""One headless Locust process, and the requests/s that Locust itself counted."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT
from seaway.load import payloads
from seaway.protocols import wire

CORE = 0
USERS = 8


def rate(name: str, url: str, source: Path, seconds: int) -> float:
    """Of `bare` or of `ours`, both as users start them."""
    with tempfile.TemporaryDirectory() as held:
        body = Path(held, "body")
        body.write_bytes(payloads.encode(payloads.read_model(source), wire.TFS, 1)[0].body)
        own = [str(ROOT / "benchmarks" / "loadgen" / "bare_locustfile.py")]
        if name == "ours":
            own = [str(ROOT / "loadtest" / "locustfile.py"), "--golden", str(source), "--protocol", "tfs"]
            own += ["--model", "trivial", "--counts", str(Path(held, "counts"))]
        command = ["taskset", "-c", str(CORE), sys.executable, "-m", "locust", "-f", *own, "--headless", "--host", url]
        command += ["--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", f"{seconds}s", "--only-summary"]
        environment = os.environ | {"BODY": str(body), "PYTHONPATH": str(ROOT)}
        command += ["--json", "--loglevel", "ERROR"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=held)
    [row] = json.loads(done.stdout)
    if row["num_failures"] or not row["num_requests"]:
        raise SystemExit(f"{name}: {row['num_failures']} of {row['num_requests']} requests failed\n{done.stderr}")
    return float(row["num_requests"]) / seconds
