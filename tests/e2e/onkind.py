"""kubectl, and a steady load, for the tests on kind."""

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from seaway.artifacts import model_repository
from seaway.client_tls import DEFAULT_TLS, ClientTls
from seaway.load.config import LoadConfig
from seaway.load.progress import Progress
from seaway.load.result import LoadResult
from seaway.load.run import run
from seaway.load.verify import problems, replicas, verify

ROOT = Path(__file__).resolve().parents[2]
NAME = "seaway"
WORKERS = (f"{NAME}-worker", f"{NAME}-worker2")
CONTEXT = f"kind-{NAME}"
NAMESPACE = "seaway"
HOST, CANARY = "http://127.0.0.1:30080", "http://127.0.0.1:30081"
MODEL = "characters"
EXAMPLE = ROOT / "seaway" / "example" / "characters" / "1"


def command(*words: object, timeout: float = 300, check: bool = True, stdin: str = "") -> str:
    """Returns stdout; raises AssertionError with all output on failure."""
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=timeout, input=stdin)
    assert done.returncode == 0 or not check, f"{words}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def kubectl(*words: object, timeout: float = 300, check: bool = True, stdin: str = "") -> str:
    own = ("kubectl", "--context", CONTEXT, "-n", NAMESPACE)
    return command(*own, *words, timeout=timeout, check=check, stdin=stdin)


def provide(*stages: str, nodes: Sequence[str] = WORKERS, needed_gb: int = 0) -> None:
    """Builds missing images of the stages and loads them into the nodes. Existing ones stay, because tags are
    immutable. Skips the test if they need `needed_gb` GB of disk and less is free."""
    command("make", "images", f"STAGE={' '.join(stages)}", timeout=3600)
    images = command(ROOT / ".venv/bin/python", "-m", "seaway.pipeline.images", *stages).split()
    present = [command("docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q") for node in nodes]
    missing = [image for image in images if not all(f"/{image}\n" in names for names in present)]
    if missing:
        free = shutil.disk_usage(command("docker", "info", "--format", "{{.DockerRootDir}}").strip()).free / 1e9
        if free < needed_gb:
            pytest.skip(f"{free:.0f} GB are free on Docker's disk; the node's images take {needed_gb}")
        load(missing, nodes)


def load(images: Sequence[str], nodes: Sequence[str]) -> None:
    """Does what `kind load docker-image` does, without a temporary file of all images."""
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
        assert saved.stdout
        into = [subprocess.Popen(["docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "-"],
                                 stdin=subprocess.PIPE) for node in nodes]  # fmt: skip
        for part in iter(lambda: saved.stdout.read(1 << 20), b""):
            for each in into:
                each.stdin.write(part)
        for each in into:
            each.communicate(timeout=1800)
    assert [one.returncode for one in (saved, *into)] == [0] * (1 + len(nodes)), (
        f"{images} were not loaded into {nodes}"
    )


def found(kind: str, name: str) -> dict:
    return json.loads(kubectl("get", kind, name, "-o", "json"))


def serving_pods(track: str) -> list[dict]:
    """Returns the pods of stable or canary, without terminating ones."""
    items = json.loads(kubectl("get", "pods", "-l", f"seaway.dev/track={track}", "-o", "json"))["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


def restarts(pod: str) -> int:
    return sum(one["restartCount"] for one in found("pod", pod)["status"]["containerStatuses"])


def rolled_out(deployment: str = "seaway") -> None:
    kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=240s", timeout=300)


def serving(deployment: str) -> dict[str, str]:
    """Returns the environment of the Deployment's template, which names the version."""
    [container] = found("deployment", deployment)["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def seaway(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seaway.cli.main", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)


def publish(repository: Path) -> int:
    """Publishes the example again, as the next version."""
    return model_repository.publish(
        repository, MODEL, lambda folder: shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    )


def no_pod_terminates() -> bool:
    """Whether every pod is to stay: `rollout status` does not wait for terminating ones, which serve until drained."""
    items = json.loads(kubectl("get", "pods", "-l", "seaway.dev/track", "-o", "json"))["items"]
    return not any("deletionTimestamp" in pod["metadata"] for pod in items)


def answered_by(url: str, *protocols: str, tls: ClientTls = DEFAULT_TLS) -> set[str]:
    """name/version of all that respond once the pods of an earlier rollout have ended, right answers only."""
    until(no_pod_terminates, 120)
    got = verify(url, EXAMPLE, LoadConfig(users=4, duration_s=2, warmup_s=0, model=MODEL, tls=tls), protocols)
    assert problems(got) == []
    assert all(replica.pod.startswith("seaway-") for replica in replicas(got))
    return {replica.model.partition("@")[0] for replica in replicas(got)}


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no success within {seconds:g} s: {kubectl('get', 'all,hpa', check=False)}"
        time.sleep(0.5)


def wait_for(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not respond"
            time.sleep(0.2)


@contextmanager
def forwarded(target: str, port: int) -> Iterator[str]:
    """Forwards a free port of this machine to a pod's or Service's; yields host:port."""
    own = ["kubectl", "--context", CONTEXT, "-n", NAMESPACE, "port-forward", target, f":{port}"]
    with subprocess.Popen(own, stdout=subprocess.PIPE, text=True) as forwarding:
        try:
            assert forwarding.stdout
            line = forwarding.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 8500
            assert line.startswith("Forwarding from "), line
            yield line.split()[2]
        finally:
            forwarding.terminate()


class Steady:
    """A steady load in the background, without retries. It ends with its block."""

    def __init__(self, url: str, rate: float = 100, seconds: int = 60, **more: Any) -> None:
        self.url = url
        self.result: LoadResult | None = None
        self.config = LoadConfig(
            rate=rate, users=32, duration_s=seconds, warmup_s=0, model=MODEL, request_timeout_s=20, **more
        )
        self.progress = Progress()
        self.started, self.stopping = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.result = run(self.url, EXAMPLE, self.config, self._on_progress)

    def _on_progress(self, progress: Progress) -> None:
        self.progress = progress
        self.started.set()
        if self.stopping.is_set():
            raise KeyboardInterrupt  # like Ctrl-C: the run ends early with its measurements so far

    def correct(self) -> int:
        """Correct responses so far."""
        counters = self.progress.total
        return counters.requests - counters.failed - counters.wrong

    def now(self) -> int:
        """Seconds since its start."""
        return int(self.progress.elapsed_s)

    def wait_for(self, responses: int, seconds: float = 120) -> None:
        until(lambda: self.correct() >= responses, seconds)

    def check_clean(self) -> None:
        """Asserts that no request failed and no response was wrong."""
        assert self.result is not None
        assert self.result.requests >= 500
        assert (self.result.failed, self.result.wrong) == (0, 0), self.result.errors

    def __enter__(self) -> "Steady":
        self.thread.start()
        assert self.started.wait(60), "the load did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(120)
