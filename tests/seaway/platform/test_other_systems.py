"""Seaway on a simulated non-Linux system: each module can be imported, and the example can be served."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
import pytest

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.errors import InvalidInput
from seaway.load.client import Client
from seaway.platform import libc, processes
from seaway.protocols import client_codecs, oip

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "seaway"
EXAMPLE = PACKAGE / "example"
WAIT_TIMEOUT_S = 120.0

# Only seaway/platform may use these names, or paths in /proc or /sys.
LINUX_NAMES = {
    *("sys.platform", "/proc", "/sys", "import ctypes", "import resource", "setrlimit", "getrlimit", "prctl"),
    *("mallopt", "malloc_trim", "madvise", "MADV_DONTNEED"),
    *("SOCK_SEQPACKET", "SO_ATTACH_FILTER", "SO_REUSEPORT", "SO_SNDBUF", "SO_RCVBUF", "TCP_QUICKACK", "TCP_CORK"),
    *("TCP_DEFER_ACCEPT", "TCP_USER_TIMEOUT", "send_fds", "recv_fds", "pidfd_open", "pidfd_send_signal", "waitid"),
    *("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "O_TMPFILE", "O_PATH", "O_DIRECT", "memfd_create"),
    *("eventfd", "copy_file_range", "splice", "epoll", "getxattr", "setxattr", "setns", "unshare", "pipe2"),
}
GROUPS = {  # modules imported into one process: not torch and TensorFlow together, and a locustfile alone
    **dict.fromkeys(("train", "export", "nets"), "torch"),
    **dict.fromkeys(("convert", "validate", "serve"), "tensorflow"),
}
ALONE = "seaway.load.locustfile"  # which patches the sockets of its whole process

IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
sys.exit("torch and TensorFlow in one process" if {"torch", "tensorflow"} <= set(sys.modules) else 0)
"""


def test_the_simulated_system_lacks_every_linux_feature(run_on_other_system: Callable[..., str]) -> None:
    program = Path(__file__).with_name("linux_features.py").read_text()
    features = [line.split()[:2] for line in run_on_other_system(program).splitlines()]
    assert {state for _, state in features} == {"missing"}, features
    if sys.platform == "linux":
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == [f"{name} available" for name, _ in features], done.stdout + done.stderr


def test_only_one_package_depends_on_the_operating_system() -> None:
    violations = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent != PACKAGE / "platform":
            violations += [f"{path.relative_to(ROOT)}: {name}" for name in names(path) if name in LINUX_NAMES]
    assert violations == []
    assert LINUX_NAMES & {name for path in (PACKAGE / "platform").glob("*.py") for name in names(path)}


def names(path: Path) -> Iterator[str]:
    """All names in a module, with "sys.platform" as one, and the /proc or /sys prefixes of its strings."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Attribute(value=ast.Name(id="sys"), attr="platform"):
                yield "sys.platform"
            case ast.Import(names=modules):
                yield from (f"import {module.name}" for module in modules)
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                yield name
            case ast.Constant(value=str(text)) if found := re.match(r"/(proc|sys)(?=/|$)", text):
                yield found[0]


def groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__"]
        name = ".".join(parts)
        group = "alone" if name == ALONE else GROUPS.get("".join(parts[1:2]), "neither")
        groups.setdefault(group, []).append(name)
    return groups


@pytest.mark.slow
@pytest.mark.parametrize("group", sorted(groups()))
def test_every_module_can_be_imported(run_on_other_system: Callable[..., str], group: str) -> None:
    run_on_other_system(IMPORT, *groups()[group])


class OtherSystemServer:
    """The example, served on the simulated system."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._refused, self._log_file = Path(environment["REFUSED"]), log
        command = [
            sys.executable,
            "-m",
            "seaway.serve",
            "--backend",
            "onnx",
            "--model-repository",
            str(EXAMPLE),
            "--port",
            "0",
        ]
        command += ["--admin-port", "0", "--workers", "1", "--max-connections", "20000"]
        with log.open("wb") as opened:
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=opened)
        self.wait(lambda: re.search(r"^serving .* at \S+ admin \S+$", self.log(), re.MULTILINE))
        self.url, self._admin = re.findall(r"(http://\S+)/", self.log())[:2]

    def log(self) -> str:
        return self._log_file.read_text()

    def refused(self) -> set[str]:
        return set(self._refused.read_text().split())

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def status(self) -> dict:
        with urllib.request.urlopen(f"{self._admin}/status", timeout=60) as answer:
            return orjson.loads(answer.read())

    def worker(self) -> int:
        [worker] = self.status()["workers"]
        return worker["pid"]

    def wait_for_another(self, than: int) -> None:
        self.wait(lambda: (now := self.status()["workers"][0])["pid"] != than and now["loaded"])

    def closed(self) -> bool:
        try:
            self.ready()
            return False
        except OSError:
            return True

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=60):
                return True
        except urllib.error.HTTPError:
            return False


@pytest.fixture
def server(other_system: dict[str, str], tmp_path: Path) -> Iterator[OtherSystemServer]:
    running = OtherSystemServer(other_system, tmp_path / "server.log")
    try:
        running.wait(running.ready)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()  # which closes the channels of its workers, so that they exit
            running.process.wait()


def assert_predictions_are_right(server: OtherSystemServer) -> None:
    """Sends the golden examples over each protocol."""
    extra = EXAMPLE / "characters" / "1" / model_repository.EXTRA
    golden = goldens.read(extra / goldens.GOLDEN)
    metadata = artifact_metadata.check(extra.parent, "version", at=model_repository.METADATA_FILE)
    output = metadata.outputs[0].name
    for protocol in client_codecs.OVER_HTTP:
        with Client(server.url, 60) as client:
            actual, served_by = client.predict(protocol, "characters", golden.inputs, output)
        compared = goldens.compare(actual, golden.outputs[output], metadata.tolerances[output])
        assert (compared.wrong, compared.flipped, served_by[:13]) == (0, 0, "characters/1@"), protocol.key


@pytest.mark.slow
def test_the_example_is_served(server: OtherSystemServer) -> None:
    assert_predictions_are_right(server)

    killed = server.worker()
    os.kill(killed, signal.SIGKILL)
    server.wait_for_another(killed)
    assert f"worker {killed} exited (signal 9)" in server.log()
    assert_predictions_are_right(server)

    large, headers = oip.write_infer_request({"image": np.zeros((1, 300_000), np.float32)}, binary=True)
    with Client(server.url, 60) as client, pytest.raises(InvalidInput):  # after which memory is given back
        client.predict_encoded(client_codecs.OIP_BINARY, "characters", large, headers, ["scores"])
    server.wait(lambda: "malloc_trim" in server.refused())

    last = server.worker()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log()
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)
    assert "Traceback" not in server.log()
    wanted = {"prctl", "mallopt", "malloc_trim", "SOCK_SEQPACKET", "SO_SNDBUF", "sched_getaffinity"}
    assert server.refused() >= wanted | {"/proc/self/cgroup"}, server.refused()
    assert "SO_ATTACH_FILTER" not in server.refused()  # not tried, because its number may mean anything there


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc identifies the forkserver")
def test_exits_of_workers_whose_forkserver_was_killed_are_noticed(server: OtherSystemServer) -> None:
    """There the supervisor can neither wait for them nor get a pidfd."""
    orphan = server.worker()
    with adopting():  # or this machine's PID 1 would have to reap the orphan
        os.kill(parent(orphan), signal.SIGKILL)
        server.wait(lambda: parent(orphan) == os.getpid())
        assert_predictions_are_right(server)  # the worker continues without it
        server.wait(lambda: "pidfd_open" in server.refused())
        os.kill(orphan, signal.SIGKILL)
        assert os.waitpid(orphan, 0)[1] == signal.SIGKILL
    server.wait_for_another(orphan)
    assert f"worker {orphan} exited (together with the forkserver)" in server.log()
    assert_predictions_are_right(server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log()
    assert "Traceback" not in server.log()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc identifies the forkserver")
def test_sigterm_while_a_dead_worker_is_a_zombie(server: OtherSystemServer) -> None:
    """Its channel is closed, but its PID still exists, because nobody has waited for it."""
    orphan = server.worker()
    with adopting():
        os.kill(parent(orphan), signal.SIGKILL)
        server.wait(lambda: parent(orphan) == os.getpid() and "pidfd_open" in server.refused())
        os.kill(orphan, signal.SIGKILL)
        server.process.send_signal(signal.SIGTERM)
        server.wait(server.closed)
        os.waitpid(orphan, 0)
    assert server.process.wait(60) == 0, server.log()
    assert "Traceback" not in server.log()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def adopting() -> Iterator[None]:
    """Makes this process adopt orphaned grandchildren."""
    processes.adopt_orphans()
    try:
        yield
    finally:
        libc.call("prctl", 36, 0)
