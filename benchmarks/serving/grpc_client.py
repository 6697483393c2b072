"""The gRPC client as a function: repeats one request, in a closed loop or at Poisson arrivals, and returns the results.

It is written in Go (`grpc_client/main.go`), which Go builds at the first use. ghz 0.120, with the same request from a
file, took nearly as much CPU time a call as the constant servers, about twice what this does.
"""

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import venvs
from benchmarks.serving.cases import Case

SOURCE = Path(__file__).with_name("grpc_client")
END_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Run:
    requests: int  # that ended with status OK
    seconds: float
    bad: int
    error: str  # the first one
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float  # the client's own delay in an open loop
    cpu_s: float  # the client's
    models: Mapping[str, int]  # responses by the model and version that they name

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_ms(self) -> float:
        return self.cpu_s / max(1, self.requests) * 1e3


@functools.cache
def program() -> Path:
    """The built client; Go itself knows whether it must be built again."""
    if not shutil.which("go"):
        raise SystemExit("Go is not installed, and the gRPC client is written in it: see go.dev/doc/install")
    built = venvs.HOME / "bin" / "grpc_client"
    done = subprocess.run(["go", "build", "-o", str(built), "."], cwd=SOURCE, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the gRPC client could not be built:\n{done.stderr[-2000:]}")
    return built


def run(port: int, case: Case, connections: int, seconds: float, rate: float = 0.0, seed: int = 1) -> Run:
    """One call at a time on each connection; or, with a `rate`, calls at Poisson arrivals whatever is in flight."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body")
        body.write_bytes(case.bodies[0])
        command = [str(program()), "-target", f"127.0.0.1:{port}", "-method", case.path, "-body", str(body)]
        command += ["-connections", str(connections), "-seconds", str(seconds), "-rate", str(rate), "-seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + END_TIMEOUT_S)
    if done.returncode:
        raise SystemExit(f"the gRPC client failed:\n{done.stderr[-2000:]}")
    read = json.loads(done.stdout)
    return Run(
        read["requests"],
        read["seconds"],
        read["bad"],
        read["error"],
        read["p50_us"] / 1e3,
        read["p99_us"] / 1e3,
        read["lag_p99_us"] / 1e3,
        read["cpu_s"],
        read["models"],
    )
