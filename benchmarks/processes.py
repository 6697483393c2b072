"""Server processes that a benchmark starts, measures and stops; CPU time and memory are those of the process tree."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

from seaway.platform import cgroup

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
PEER_STOP_TIMEOUT_S = 3.0  # MLServer with parallel workers does not end by itself
ADDRESSES = r"^serving .* at http://\S+:(\d+)/ admin http://\S+:(\d+)/(?: gRPC \S+:(\d+))?$"  # what our server prints


class Server:
    """A server on loopback that writes to `log`. At the end of its `with` block it gets SIGTERM; if it is `ours`, it
    must then end in time with all of its processes; a peer's are killed."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        ours: bool = True,
    ) -> None:
        self.log, self.ours = log, ours
        self.port = self.admin_port = self.grpc_port = 0
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SEAWAY_", "MLSERVER_"))}
        with log.open("wb") as opened:
            self.process = subprocess.Popen(
                command, stdout=opened, stderr=subprocess.STDOUT, env=environment | dict(env or {}), cwd=cwd
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def stop(self) -> int:
        """Sends SIGTERM; returns the exit status. Kills what is left at the deadline; of ours that is an error."""
        tree = self.tree()
        self.process.send_signal(signal.SIGTERM)
        timeout_s = STOP_TIMEOUT_S if self.ours else PEER_STOP_TIMEOUT_S
        _, left = psutil.wait_procs(tree, timeout_s)
        for process in left:
            process.kill()
        psutil.wait_procs(left, STOP_TIMEOUT_S)
        status = self.process.wait(STOP_TIMEOUT_S)
        if left and self.ours:
            raise SystemExit(f"{len(left)} of the server's processes did not end within {timeout_s:.0f} s of SIGTERM")
        return status

    def wait_for(self, path: str, port: int | None = None) -> None:
        """Waits until a GET of the path returns 200; a timeout ends the benchmark with the end of the server's log."""
        url = f"http://127.0.0.1:{port or self.port}{path}"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise SystemExit(f"{url} never returned 200; the end of the server's log:\n{self.tail_log()}")

    def get(self, path: str) -> bytes:
        """The body of the response to a GET, whatever its status."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()

    def tail_log(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def tree(self) -> list[psutil.Process]:
        try:
            process = psutil.Process(self.process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """User and system time of all processes of the tree, and of their children that have ended."""
        total = 0.0
        for process in self.tree():
            try:
                used = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += used.user + used.system + used.children_user + used.children_system
        return total

    def pss_bytes(self) -> int:
        """Memory of the tree (PSS): pages that several processes share count once."""
        return sum(self.pss_by_process())

    def pss_by_process(self) -> list[int]:
        return [pss_bytes(process.pid) for process in self.tree()]


def pss_bytes(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has just ended
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def seaway(repository: Path, log: Path, *options: str, prefix: Sequence[str] = ()) -> Server:
    """`python -m seaway.serve` on free ports, ready; `prefix`: a command that runs it, like taskset or prlimit."""
    command = [sys.executable, "-m", "seaway.serve", "--model-repository", str(repository)]
    command += ["--port", "0", "--admin-port", "0"]
    server = Server([*prefix, *command, *options], log)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        ports = re.search(ADDRESSES, log.read_text(), re.MULTILINE)
        if ports:
            server.port, server.admin_port, server.grpc_port = (int(port or 0) for port in ports.groups())
            server.wait_for("/readyz")
            return server
        time.sleep(0.02)
    server.__exit__()
    raise SystemExit(f"the server did not print its addresses:\n{server.tail_log()}")


def free_ports(count: int) -> list[int]:
    """Unused ports, for servers that cannot choose one themselves."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def machine() -> str:
    """Date, commit, number of cores and CPU model; no host name."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True).stdout
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    state = " with changes" if changed.strip() else ""
    cpu = names[0].strip() if names else "unknown CPU"
    return f"{time.strftime('%Y-%m-%d')}, commit {commit.strip() or 'unknown'}{state}, {cgroup.cores()} cores of {cpu}"
