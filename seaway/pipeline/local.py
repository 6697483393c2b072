"""Runs a pipeline on this machine: kfp.local as engine, a folder as model repository, the model server as a process.

Stages are processes too, or containers (containers.py).

ROOT/ (".seaway")
  artifacts/    outputs of tasks, one folder a run
  kfp-cache/    kfp's cache of finished tasks
  data/ work/   downloaded data; training checkpoints to resume from
  models/       the model repository
  reports/      the HTML reports of the last run
  run.log       all output of the last run's tasks and of kfp
  server.log    all output of its server
"""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from seaway.artifacts import atomic
from seaway.errors import SeawayError, Unavailable
from seaway.pipeline import console
from seaway.platform import processes

REPOSITORY = "models"
START_TIMEOUT_S = 60
_LISTENING = re.compile(r" admin (http://\S+)/ gRPC (\S+)$", re.MULTILINE)  # in the server's first line


def run(pipeline: Any, arguments: dict[str, Any], root: Path, runner: Any = None) -> dict[str, Any]:
    """Runs a compiled KFP pipeline to its end and returns its outputs. Reuses finished tasks of earlier runs.

    `runner`: one of kfp.local's; None runs each stage as a new process. Raises SeawayError naming the failed stage,
    whose own output is already on stdout.
    """
    from kfp import local

    (root / "artifacts").mkdir(parents=True, exist_ok=True)
    local.init(
        runner=runner or local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root / "artifacts"),
        enable_caching=True,
        cache_root=str(root / "kfp-cache"),
    )
    log = root / "run.log"
    try:
        with console.tidy(log):
            outputs: dict[str, Any] = pipeline(**arguments).outputs
    except RuntimeError as error:
        stage = str(error).rpartition("failed:")[2].split("'")[1::2]
        raise SeawayError(
            f"the stage {' in '.join(stage) or error} failed: see its error above, and its whole output in {log}; "
            "correct what it names and run it again: finished stages are not repeated"
        ) from None
    return outputs


class ServerAddresses(NamedTuple):
    """URLs of a local server, of its metrics, and its gRPC address; all "" if there is none."""

    url: str = ""
    metrics: str = ""
    grpc_url: str = ""


@contextmanager
def server(repository: Path, port: int, log: Path) -> Iterator[ServerAddresses]:
    """Runs the model server on 127.0.0.1:`port` over `repository`, as a process that ends with the caller.

    It listens for gRPC, too, at a port that is free.
    """
    atomic.make_folder(repository)
    command = [sys.executable, "-m", "seaway.serve", "--model-repository", str(repository), "--port", str(port)]
    command += ["--admin-port", "0", "--grpc-port", "0"]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as opened:
        process = start_process(command, processes.die_with_parent, stdout=opened, stderr=opened)
    try:
        _wait_until_alive(process, url, log)
        listening = _LISTENING.search(log.read_text("utf-8", "replace"))
        yield ServerAddresses(url, *(f"{listening[1]}/metrics", f"grpc://{listening[2]}") if listening else ())
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_process(command: Sequence[str], prepare: Callable[[], None], **options: Any) -> "subprocess.Popen[bytes]":
    """Starts a process in which `prepare` runs before the program. Ctrl-C waits for that: Python runs hooks when it
    forks, logging has one, and a KeyboardInterrupt that is raised in such a hook is lost."""

    def prepared() -> None:
        prepare()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, preexec_fn=prepared, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_until_alive(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            output = log.read_text("utf-8", "replace").strip()[-1000:]
            raise Unavailable(f"the server did not start: {output or f'it could not write {log}; is the disk full?'}")
        with contextlib.suppress(OSError):
            if f" at {url}/" in log.read_text("utf-8", "replace"):  # else another server may use that port
                with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                    return
        time.sleep(0.1)
    raise Unavailable(f"the server at {url} did not respond at /healthz within {START_TIMEOUT_S} s")


def collect_reports(root: Path, since: float, outputs: Mapping[str, Any] | None = None) -> list[Path]:
    """Copies reports to ROOT/reports/<stage>.html, and returns the copies.

    They are the reports that stages wrote after `since` (Unix seconds), also in a run that failed, and those of the
    pipeline's `outputs`, which stages of an earlier run may have written.
    """
    from kfp import dsl

    written = ((path.stat().st_mtime, path) for path in (root / "artifacts").glob("*/*/report") if path.is_file())
    reports = {path.parent.name: path for time_s, path in sorted(written) if time_s >= since}
    artifacts = {name: output for name, output in (outputs or {}).items() if isinstance(output, dsl.HTML)}
    reports |= {name.removesuffix("_report"): Path(output.path) for name, output in artifacts.items()}
    copies = []
    for stage, report in reports.items():
        if report.is_file():
            copies.append(root / "reports" / f"{stage}.html")
            atomic.make_folder(copies[-1].parent)
            shutil.copyfile(report, copies[-1])
    return copies
