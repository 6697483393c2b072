"""wrk as a function: one request, sent over and over by so many connections, and what came of it."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.cases import Case

SCRIPT = """
local body = assert(io.open("{body}", "rb"))
wrk.method, wrk.body = "POST", body:read("*a")
body:close()
{headers}
done = function(summary, latency, requests)
    local e = summary.errors
    local form = '\\nRESULT {{"requests": %d, "us": %d, "non_2xx": %d, "socket": %d, "p50_us": %d, "p99_us": %d}}\\n'
    io.write(string.format(form,
        summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Run:
    requests: int
    seconds: float
    bad: int  # answers that were not 2xx, and sockets that failed
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return (self.requests - self.bad) / self.seconds


def run(port: int, case: Case, connections: int, seconds: float, cpus: str = "") -> Run:
    """One thread of wrk: its request is formatted once, so it costs the cores that it shares with the server little."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk, or see its project for other systems")
    with tempfile.TemporaryDirectory() as held:
        body, script = Path(held, "body"), Path(held, "post.lua")
        body.write_bytes(case.bodies[0])
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in case.headers.items())
        script.write_text(SCRIPT.format(body=body, headers=headers))
        command = ["taskset", "-c", cpus] if cpus else []
        command += [
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(connections),
            "--duration",
            f"{max(1, round(seconds))}s",
        ]
        command += ["--timeout", "10s", "--latency", "--script", str(script), f"http://127.0.0.1:{port}{case.path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise SystemExit(f"wrk failed:\n{done.stdout}{done.stderr}")
    result = json.loads(found[0].removeprefix("RESULT "))
    bad = result["non_2xx"] + result["socket"]
    return Run(result["requests"], result["us"] / 1e6, bad, result["p50_us"] / 1e3, result["p99_us"] / 1e3)
