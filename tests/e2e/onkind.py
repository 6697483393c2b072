"""kubectl, and a steady load, for the tests on kind."""

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from seaway.artifacts import store
from seaway.load.run import LoadResult, Plan, Progress, run
from seaway.load.verify import faults, replicas, verify

ROOT = Path(__file__).resolve().parents[2]
NAME = "seaway"
WORKERS = (f"{NAME}-worker", f"{NAME}-worker2")
CONTEXT = f"kind-{NAME}"
NAMESPACE = "seaway"
HOST, CANARY = "http://127.0.0.1:30080", "http://127.0.0.1:30081"
MODEL = "characters"
EXAMPLE = ROOT / "seaway" / "example" / "characters" / "1"


def command(*words: object, timeout: float = 300, check: bool = True, stdin: str = "") -> str:
    """stdout; on failure an AssertionError with all that was said."""
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=timeout, input=stdin)
    assert done.returncode == 0 or not check, f"{words}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def kubectl(*words: object, timeout: float = 300, check: bool = True, stdin: str = "") -> str:
    own = ("kubectl", "--context", CONTEXT, "-n", NAMESPACE)
    return command(*own, *words, timeout=timeout, check=check, stdin=stdin)


def provide(*stages: str, nodes: Sequence[str] = WORKERS, gigabytes: int = 0) -> None:
    """Has the nodes hold the stages' images, which are built where they are missing. What is there is left alone, since
    a tag never changes what it means. Skips the test where `gigabytes` are needed for them and not there."""
    command("make", "images", f"STAGE={' '.join(stages)}", timeout=3600)
    images = command(ROOT / ".venv/bin/python", "-m", "seaway.pipeline.images", *stages).split()
    held = [command("docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q") for node in nodes]
    missing = [image for image in images if not all(f"/{image}\n" in names for names in held)]
    if missing:
        free = shutil.disk_usage(command("docker", "info", "--format", "{{.DockerRootDir}}").strip()).free / 1e9
        if free < gigabytes:
            pytest.skip(f"{free:.0f} GB are free where Docker keeps its own; the node's images take {gigabytes}")
        load(missing, nodes)


def load(images: Sequence[str], nodes: Sequence[str]) -> None:
    """What `kind load docker-image` does, without a file of all images between."""
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
        assert saved.stdout
        into = [subprocess.Popen(["docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "-"],
                                 stdin=subprocess.PIPE) for node in nodes]  # fmt: skip
        for part in iter(lambda: saved.stdout.read(1 << 20), b""):
            for each in into:
                each.stdin.write(part)
        for each in into:
            each.communicate(timeout=1800)
    assert [one.returncode for one in (saved, *into)] == [0] * (1 + len(nodes)), f"{images} did not come to {nodes}"


def found(kind: str, name: str) -> dict:
    return json.loads(kubectl("get", kind, name, "-o", "json"))


def serving_pods(track: str) -> list[dict]:
    """The pods of stable or of the canary, but those that are about to end."""
    items = json.loads(kubectl("get", "pods", "-l", f"seaway.dev/track={track}", "-o", "json"))["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


def restarts(pod: str) -> int:
    return sum(one["restartCount"] for one in found("pod", pod)["status"]["containerStatuses"])


def rolled_out(deployment: str = "seaway") -> None:
    kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=240s", timeout=300)


def serving(deployment: str) -> dict[str, str]:
    """What kubectl shows of the version: the template's environment."""
    [container] = found("deployment", deployment)["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def seaway(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seaway.cli.main", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)


def publish(volume: Path) -> int:
    """The example once more, as the next version."""
    return store.publish(volume, MODEL, lambda folder: shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True))


def answered_by(url: str, *protocols: str) -> set[str]:
    """name/version of all that answer, right answers only."""
    got = verify(url, EXAMPLE, Plan(users=4, seconds=2, warmup=0, model=MODEL), protocols)
    assert faults(got) == []
    assert all(replica.pod.startswith("seaway-") for replica in replicas(got))
    return {replica.model.partition("@")[0] for replica in replicas(got)}


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {kubectl('get', 'all,hpa', check=False)}"
        time.sleep(0.5)


def wait_for(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)


class Steady:
    """A steady load in the background, whose requests are never tried again. It ends with its block."""

    def __init__(self, url: str, rate: float = 100, seconds: int = 60, **more: Any) -> None:
        self.url = url
        self.result: LoadResult | None = None
        self.plan = Plan(rate=rate, users=32, seconds=seconds, warmup=0, model=MODEL, request_timeout=20, **more)
        self.progress = Progress()
        self.begun, self.ending = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.result = run(self.url, EXAMPLE, self.plan, self._told)

    def _told(self, progress: Progress) -> None:
        self.progress = progress
        self.begun.set()
        if self.ending.is_set():
            raise KeyboardInterrupt  # as Ctrl-C does: the run ends early, with what was measured

    def right(self) -> int:
        """Right answers so far."""
        tally = self.progress.total
        return tally.requests - tally.failed - tally.wrong

    def now(self) -> int:
        """Seconds since its start."""
        return int(self.progress.elapsed)

    def wait_for(self, answers: int, seconds: float = 120) -> None:
        until(lambda: self.right() >= answers, seconds)

    def check_clean(self) -> None:
        """No request failed, no answer was wrong."""
        assert self.result is not None
        assert self.result.requests >= 500
        assert (self.result.failed, self.result.wrong) == (0, 0), self.result.errors

    def __enter__(self) -> "Steady":
        self.thread.start()
        assert self.begun.wait(60), "the load did not begin"
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.thread.join(120)
