"""Memory that versions take, and that the server gives back once they are unloaded."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import venvs, verdicts
from benchmarks.processes import Server
from benchmarks.serving import grpc_client, prepare, versions
from benchmarks.serving.cases import Case, Cases
from benchmarks.tables import median_or_nan, table

NET = "large"
SMALL, CYCLES = 20, 2
SETTLE_S = 10.0  # after unloading
GIVEN_BACK = (0.9, 0.95)  # minimum and target, as shares of what loading took
NOTE = f"""\
Sum of PSS of all processes of the server, in MB: with conv alone, with further versions loaded and requested for a
second, and {SETTLE_S:.0f} s after they are unloaded; then the same again, which shows what is a cost of the first time
alone. Each row is of a server of its own, medians over the rounds. Given back: of what the first loading took.
"""


def measure(models: Path, backends: Sequence[str], rounds: int) -> str:
    conv, large = prepare.version(models), prepare.shipped(NET, "3x64x64")
    weights_mb = (large / "assets.extra" / "model.onnx").stat().st_size / 1e6
    small_mb = (conv / "assets.extra" / "model.onnx").stat().st_size / 1e6
    loads = (
        (f"1 version of {weights_mb:.0f} MB of weights", large, [NET], "output_0"),
        (f"{SMALL} versions of {small_mb:.1f} MB each", conv, [f"small{number}" for number in range(SMALL)], "scores"),
    )
    rows = []
    for backend in backends:
        for title, version, names, output in loads:
            measured = [_cycles(conv, version, names, output, backend) for _ in range(rounds)]
            medians = [median_or_nan(values) for values in zip(*measured, strict=True)]
            shares = [given_back(*one[:3]) for one in measured]
            share, again = median_or_nan(shares), median_or_nan(given_back(*one[2:]) for one in measured)
            each = f"{(medians[1] - medians[0]) / len(names) / 1e6:.1f}"
            row = [backend, title, *(f"{value / 1e6:.0f}" for value in medians), each]
            row += [f"{share:.0%}", f"{min(shares):.0%} to {max(shares):.0%}", verdicts.at_least(share, GIVEN_BACK)]
            rows.append([*row, f"{again:.0%}" if again == again else ""])
    head = ["backend", "loaded", "before", "loaded", "after", "loaded again", "after that", "MB a version"]
    head += ["given back", "of rounds", "verdict", "the second time"]
    return NOTE + "\n" + table(head, rows)


def given_back(before: float, loaded: float, after: float) -> float:
    """The share of what loading took that unloading gave back; NaN if it took nothing."""
    return (loaded - after) / (loaded - before) if loaded > before else float("nan")


def _cycles(conv: Path, version: Path, names: Sequence[str], output: str, backend: str) -> list[int]:
    """PSS in bytes before loading, loaded, after unloading, loaded again, and after unloading that."""
    with tempfile.TemporaryDirectory(dir=venvs.HOME) as folder:  # on the same disk, for hard links
        repository = Path(folder, "models")
        repository.mkdir()
        number = versions.publish(conv, repository, "conv")
        with versions.serve(repository, Path(folder), backend) as server:
            versions.wait_until_only(server, "conv", number)
            _request(server, Cases(conv).grpc_infer(), 1.0)
            measured = [server.pss_bytes()]
            for _ in range(CYCLES):
                for name in names:
                    versions.wait_until_only(server, name, versions.publish(version, repository, name))
                for name in names:
                    _request(server, Cases(version, name, output).grpc_infer(), 1.0 / len(names))
                measured.append(server.pss_bytes())
                for name in names:
                    versions.remove(repository, name)
                for name in names:
                    versions.wait_until_only(server, name, None)
                time.sleep(SETTLE_S)
                measured.append(server.pss_bytes())
            return measured


def _request(server: Server, case: Case, seconds: float) -> None:
    run = grpc_client.run(server.grpc_port, case, 8, seconds)
    if run.bad or not run.requests:
        raise SystemExit(f"{case.path}: {run.bad} of {run.bad + run.requests} requests failed: {run.error}")
