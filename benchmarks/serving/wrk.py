"""wrk as a function: repeats one request over several connections, and returns the results."""

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
    bad: int  # responses other than 2xx, and socket errors
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return (self.requests - self.bad) / self.seconds


def run(port: int, case: Case, connections: int, seconds: float, cpus: str = "") -> Run:
    """Runs wrk with one thread. It formats its request once, so it takes little CPU time from the server."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk, or see its website for other systems")
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "post.lua")
        body.write_bytes(case.bodies[0])
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in case.headers.items())
        script.write_text(SCRIPT.format(body=body, headers=headers))
        command = ["taskset", "-c", cpus] if cpus else []
        command += ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{max(1, round(seconds))}s"]
        command += ["--timeout", "10s", "--latency", "--script", str(script), f"http://127.0.0.1:{port}{case.path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not results:
        raise SystemExit(f"wrk failed:\n{done.stdout}{done.stderr}")
    result = json.loads(results[0].removeprefix("RESULT "))
    bad = result["non_2xx"] + result["socket"]
    return Run(result["requests"], result["us"] / 1e6, bad, result["p50_us"] / 1e3, result["p99_us"] / 1e3)
