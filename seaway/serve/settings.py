"""What the server is told: the one place where environment variables are read. The command line wins over them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from seaway.errors import InvalidInput
from seaway.platform import cgroup
from seaway.serve.backends.backend import BACKENDS

PREFIX = "SEAWAY_"
POD = re.compile("[A-Za-z0-9._-]{1,253}")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s,]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field can be given as SEAWAY_<NAME> in the environment; a port of 0 takes a free one."""

    volume: Path
    host: str = "127.0.0.1"
    port: int = 8501
    admin_port: int | None = None  # None: no admin port
    backend: str = "savedmodel"
    workers: int = 0  # 0: one for each core but the supervisor's
    threads: int = 0  # of each worker's backend; 0: the cores that there are for each worker beside the supervisor's
    default_version: str = "stable"
    model: str = ""  # the only model to serve
    model_version: int = 0  # its only version to serve; 0: the stable one as it is when the server starts
    poll_seconds: float = 1.0
    timeout_seconds: float = 30.0  # a request's whole time in the server; TensorFlow Serving's default
    read_seconds: float = 30.0  # for a request to arrive, and for a client to take its answer
    drain_seconds: float = 0.5  # between "not ready" and closing the port, so that who routes here can notice
    max_body_bytes: int = 64 << 20
    max_held_bytes: int = 0  # of all bodies together; 0: a quarter of the memory that there is, at most 1 GiB
    max_waiting: int = 1000  # requests that wait for a worker; more are answered 503
    max_connections: int = 16384
    max_batch: int = 64  # rows that several requests may make together
    batch_delay_ms: float = 0.0  # that a request may wait for others though a worker is idle
    allow_op: tuple[str, ...] = ()  # operators that a SavedModel may use although they reach out of it
    cors_origin: tuple[str, ...] = ()  # sites whose pages may ask, as browsers enforce it; "*": all; none: no other's
    access_log: bool = False
    pod: str = ""  # this server's name, which every answer then carries: a Kubernetes pod's

    def __post_init__(self) -> None:
        if self.volume.exists() and not self.volume.is_dir():
            raise InvalidInput(f"--volume {self.volume}: a file, where the folder of models was expected")
        if self.default_version not in ("stable", "latest"):
            raise InvalidInput(f"default version {self.default_version!r}: choose 'stable' or 'latest'")
        if self.backend not in BACKENDS:
            raise InvalidInput(f"backend {self.backend!r}: choose from {', '.join(BACKENDS)}")
        if self.model_version and not self.model:
            raise InvalidInput("model is missing: with model_version it names the only version to serve")
        for name in ("poll_seconds", "timeout_seconds", "read_seconds", "max_body_bytes", "max_waiting", "max_batch"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("workers", "threads", "drain_seconds", "max_held_bytes", "batch_delay_ms", "model_version"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}: it must not be negative")
        if self.pod and not POD.fullmatch(self.pod):
            raise InvalidInput(f"pod {self.pod!r}: a name of letters, digits, '-', '.' and '_', at most 253")
        for origin in self.cors_origin:
            if not ORIGIN.fullmatch(origin):
                raise InvalidInput(
                    f"cors origin {origin!r}: give '*', or a site without a path, like https://example.com"
                )
        if self.max_connections <= 0:
            raise InvalidInput("max_connections must be above 0")

    @property
    def worker_count(self) -> int:
        return self.workers or max(1, cgroup.cores() - 1)

    @property
    def thread_count(self) -> int:
        """Threads that a worker's backend may use."""
        return self.threads or max(1, (cgroup.cores() - 1) // self.worker_count)

    @property
    def cores_of_a_worker(self) -> int:
        """On which a worker may run one large batch: its share of all, the supervisor having little to do then."""
        return max(1, cgroup.cores() // (self.worker_count * self.thread_count))

    @property
    def held_bytes(self) -> int:
        """Bodies are held at most so much, all together, but always one of the largest size."""
        there = cgroup.memory_bytes()
        chosen = self.max_held_bytes or min(1 << 30, there // 4 if there else 1 << 30)
        return max(chosen, self.max_body_bytes)

    def url(self, port: int) -> str:
        """Of this server at a port of its host."""
        return f"http://{address(self.host, port)}/"

    @property
    def pin(self) -> tuple[str, int | None] | None:
        return (self.model, self.model_version or None) if self.model else None


def address(host: str, port: int) -> str:
    """host:port as a URL has it, where an IPv6 address stands in brackets."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host}:{port}"


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", text) if name)


_READERS: dict[Any, Any] = {
    Path: Path,
    str: str,
    int: int,
    int | None: int,
    float: float,
    bool: _flag,
    tuple[str, ...]: _names,
}
_READ = {field.name: _READERS[field.type] for field in fields(Settings)}


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The settings that the environment gives, by field name. Raises InvalidInput for a value that does not read."""
    found = {}
    for name, read in _READ.items():
        text = environ.get(PREFIX + name.upper())
        if text is None:
            continue
        try:
            found[name] = read(text)
        except ValueError:
            raise InvalidInput(
                f"{PREFIX}{name.upper()}={text!r} cannot be read as {read.__name__.strip('_')}"
            ) from None
    return found
