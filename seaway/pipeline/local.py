"""Runs a pipeline on this machine: kfp.local as the engine, a folder as the volume, the model server as a process.

Stages are processes too, or containers (containers.py).

ROOT/ (".seaway")
  artifacts/    what the tasks wrote, one folder a run
  kfp-cache/    which finished tasks can be picked up again
  data/ work/   downloads of data sources; training checkpoints to resume from
  models/       the volume
  reports/      the HTML reports of the last run
  run.log       all that the last run's tasks and kfp said
  server.log    the same of its server
"""

import contextlib
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seaway.artifacts import atomic
from seaway.errors import SeawayError, Unavailable
from seaway.pipeline import console
from seaway.platform import processes

VOLUME = "models"
START_SECONDS = 60


def run(pipeline: Any, arguments: dict[str, Any], root: Path, runner: Any = None) -> dict[str, Any]:
    """Runs a compiled KFP pipeline to its end and returns its outputs. Finished tasks of earlier runs are picked up.

    `runner` is one of kfp.local's; None: stages as processes. Raises SeawayError naming the failed stage; what it said
    stands above on stdout.
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
            f"the stage {' in '.join(stage) or error} failed: its reason stands above, all that it said in {log}; "
            "mend that and run the same command again: finished stages are not repeated"
        ) from None
    return outputs


@contextmanager
def server(volume: Path, port: int, log: Path) -> Iterator[tuple[str, str]]:
    """The model server on 127.0.0.1:`port` over `volume`, as a process that ends with the caller. Yields its URL and
    that of its metrics."""
    atomic.make_folder(volume)
    command = [sys.executable, "-m", "seaway.serve", "--volume", str(volume), "--port", str(port)]
    command += ["--admin-port", "0"]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as opened:
        process = subprocess.Popen(command, stdout=opened, stderr=opened, preexec_fn=processes.end_with_parent)
    try:
        _wait_until_alive(process, url, log)
        admin = re.search(r" admin (http://\S+)/$", log.read_text("utf-8", "replace"), re.MULTILINE)
        yield url, f"{admin[1]}/metrics" if admin else ""
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_alive(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = log.read_text("utf-8", "replace").strip()[-1000:]
            raise Unavailable(f"the server did not start: {said or f'it could not write {log}; is the disk full?'}")
        with contextlib.suppress(OSError):
            if f" at {url}/" in log.read_text("utf-8", "replace"):  # else another's server may answer at that port
                with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                    return
        time.sleep(0.1)
    raise Unavailable(f"the server at {url} did not answer /healthz within {START_SECONDS} s")


def collect_reports(outputs: dict[str, Any], root: Path) -> list[Path]:
    """Copies the run's HTML reports to ROOT/reports/<stage>.html, as the pipeline's output <stage>_report is named."""
    from kfp import dsl

    found = []
    (root / "reports").mkdir(exist_ok=True)
    for name, artifact in outputs.items():
        if isinstance(artifact, dsl.HTML) and Path(artifact.path).exists():
            found.append(root / "reports" / f"{name.removesuffix('_report')}.html")
            shutil.copyfile(artifact.path, found[-1])
    return found
