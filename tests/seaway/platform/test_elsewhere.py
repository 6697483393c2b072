"""Seaway on a system without all that only Linux has: each module can be imported, and the example is served."""

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

from seaway.artifacts import card as cards
from seaway.artifacts import golden as goldens
from seaway.artifacts import store
from seaway.errors import InvalidInput
from seaway.load.client import Client
from seaway.platform import libc, processes
from seaway.protocols import oip, wire

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "seaway"
EXAMPLE = PACKAGE / "example"
WAIT_SECONDS = 120.0

# A module outside seaway/platform that names one of these, or a path in /proc or /sys, would fail elsewhere.
OF_LINUX = {
    *("sys.platform", "/proc", "/sys", "import ctypes", "import resource", "setrlimit", "getrlimit", "prctl"),
    *("mallopt", "malloc_trim", "madvise", "MADV_DONTNEED"),
    *("SOCK_SEQPACKET", "SO_ATTACH_FILTER", "SO_REUSEPORT", "SO_SNDBUF", "SO_RCVBUF", "TCP_QUICKACK", "TCP_CORK"),
    *("TCP_DEFER_ACCEPT", "TCP_USER_TIMEOUT", "send_fds", "recv_fds", "pidfd_open", "pidfd_send_signal", "waitid"),
    *("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "O_TMPFILE", "O_PATH", "O_DIRECT", "memfd_create"),
    *("eventfd", "copy_file_range", "splice", "epoll", "getxattr", "setxattr", "setns", "unshare", "pipe2"),
}
GROUPS = {  # what may be imported into one process: torch and TensorFlow not together, and a locustfile alone
    **dict.fromkeys(("train", "export", "nets"), "torch"),
    **dict.fromkeys(("convert", "validate", "serve"), "tensorflow"),
}
ALONE = "seaway.load.locustfile"  # which patches the sockets of its whole process

IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
sys.exit("torch and TensorFlow met" if {"torch", "tensorflow"} <= set(sys.modules) else 0)
"""


def test_the_other_system_refuses_what_linux_gives(run_elsewhere: Callable[..., str]) -> None:
    program = Path(__file__).with_name("ask_linux.py").read_text()
    there = [line.split()[:2] for line in run_elsewhere(program).splitlines()]
    assert {answer for _, answer in there} == {"refused"}, there
    if sys.platform == "linux":
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == [f"{name} given" for name, _ in there], done.stdout + done.stderr


def test_what_depends_on_the_system_is_in_one_package() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent != PACKAGE / "platform":
            found += [f"{path.relative_to(ROOT)}: {name}" for name in names(path) if name in OF_LINUX]
    assert found == []
    assert OF_LINUX & {name for path in (PACKAGE / "platform").glob("*.py") for name in names(path)}


def names(path: Path) -> Iterator[str]:
    """Each name in a module, "sys.platform" as one; of strings, the folder of the kernel that they start with."""
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
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__"]
        name = ".".join(parts)
        group = "alone" if name == ALONE else GROUPS.get("".join(parts[1:2]), "neither")
        found.setdefault(group, []).append(name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("group", sorted(groups()))
def test_every_module_can_be_imported(run_elsewhere: Callable[..., str], group: str) -> None:
    run_elsewhere(IMPORT, *groups()[group])


class Elsewhere:
    """The example, served there."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._refused, self._log = Path(environment["REFUSED"]), log
        command = [sys.executable, "-m", "seaway.serve", "--backend", "onnx", "--volume", str(EXAMPLE), "--port", "0"]
        command += ["--admin-port", "0", "--workers", "1", "--max-connections", "20000"]
        with log.open("wb") as opened:
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=opened)
        self.wait(lambda: re.search(r"^serving .* at \S+ admin \S+$", self.said(), re.MULTILINE))
        self.url, self._admin = re.findall(r"(http://\S+)/", self.said())[:2]

    def said(self) -> str:
        return self._log.read_text()

    def refused(self) -> set[str]:
        return set(self._refused.read_text().split())

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
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
def server(elsewhere: dict[str, str], tmp_path: Path) -> Iterator[Elsewhere]:
    running = Elsewhere(elsewhere, tmp_path / "server.log")
    try:
        running.wait(running.ready)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()  # at which its workers end: their channels are closed
            running.process.wait()


def assert_answers_rightly(server: Elsewhere) -> None:
    """Golden examples over each protocol."""
    extra = EXAMPLE / "characters" / "1" / store.EXTRA
    golden = goldens.read(extra / goldens.GOLDEN)
    card = cards.check(extra.parent, "version", at=store.CARD)
    output = card.outputs[0].name
    for protocol in wire.PROTOCOLS.values():
        with Client(server.url, 60) as client:
            got, served_by = client.predict(protocol, "characters", golden.inputs, output)
        compared = goldens.compare(got, golden.outputs[output], card.tolerances[output])
        assert (compared.wrong, compared.flipped, served_by[:13]) == (0, 0, "characters/1@"), protocol.key


@pytest.mark.slow
def test_the_example_is_served(server: Elsewhere) -> None:
    assert_answers_rightly(server)

    killed = server.worker()
    os.kill(killed, signal.SIGKILL)
    server.wait_for_another(killed)
    assert f"worker {killed} ended (signal 9)" in server.said()
    assert_answers_rightly(server)

    large, headers = oip.write_infer_request({"image": np.zeros((1, 300_000), np.float32)}, binary=True)
    with Client(server.url, 60) as client, pytest.raises(InvalidInput):  # after which memory is given back
        client.ask(wire.OIP_BINARY, "characters", large, headers, "scores")
    server.wait(lambda: "malloc_trim" in server.refused())

    last = server.worker()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.said()
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)
    assert "Traceback" not in server.said()
    wanted = {"prctl", "mallopt", "malloc_trim", "SOCK_SEQPACKET", "SO_SNDBUF", "sched_getaffinity"}
    assert server.refused() >= wanted | {"/proc/self/cgroup"}, server.refused()
    assert "SO_ATTACH_FILTER" not in server.refused()  # its number may mean anything there: it is not tried


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which process starts workers")
def test_workers_whose_parent_is_killed_are_followed_to_their_end(server: Elsewhere) -> None:
    """Nobody can wait for them there, and no descriptor tells of their end."""
    orphan = server.worker()
    with adopting():  # else it would be up to this machine's PID 1 to clean up after the orphan
        os.kill(parent(orphan), signal.SIGKILL)
        server.wait(lambda: parent(orphan) == os.getpid())
        assert_answers_rightly(server)  # the worker goes on without it
        server.wait(lambda: "pidfd_open" in server.refused())
        os.kill(orphan, signal.SIGKILL)
        assert os.waitpid(orphan, 0)[1] == signal.SIGKILL
    server.wait_for_another(orphan)
    assert f"worker {orphan} ended (with the process that had started it)" in server.said()
    assert_answers_rightly(server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.said()
    assert "Traceback" not in server.said()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which process starts workers")
def test_sigterm_while_a_worker_is_not_yet_known_to_have_ended(server: Elsewhere) -> None:
    """Its channel is closed, but its number is still taken, for nobody has waited for it."""
    orphan = server.worker()
    with adopting():
        os.kill(parent(orphan), signal.SIGKILL)
        server.wait(lambda: parent(orphan) == os.getpid() and "pidfd_open" in server.refused())
        os.kill(orphan, signal.SIGKILL)
        server.process.send_signal(signal.SIGTERM)
        server.wait(server.closed)
        os.waitpid(orphan, 0)
    assert server.process.wait(60) == 0, server.said()
    assert "Traceback" not in server.said()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def adopting() -> Iterator[None]:
    """This process takes over the orphans among its grandchildren."""
    processes.adopt_orphans()
    try:
        yield
    finally:
        libc.call("prctl", 36, 0)
