"""The server's settings, and the only place that reads SEAWAY_ variables. The command line overrides them."""

import math
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
PROGRAM = "SEAWAY_PROGRAM"  # the command that begins the server's error messages, set by `seaway serve`
POD = re.compile("[A-Za-z0-9._-]{1,253}")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s,A-Z]+")  # in lower case, as browsers send it


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field can be set as SEAWAY_<NAME> in the environment. Port 0 picks a free one."""

    model_repository: Path
    wait: bool = False  # for a model repository that does not exist yet
    host: str = "127.0.0.1"
    port: int = 8501
    admin_port: int | None = None  # None: no admin port
    backend: str = "savedmodel"
    workers: int = 0  # 0: one per core, except one core for the supervisor
    threads: int = 0  # of each worker's backend; 0: its share of the cores, except the supervisor's
    default_version: str = "stable"
    model: str = ""  # the only model to serve
    model_version: int = 0  # the only version of it to serve; 0: the one that is stable when the server starts
    poll_interval_s: float = 1.0
    timeout_s: float = 30.0  # a request's whole time in the server; TensorFlow Serving's default
    read_timeout_s: float = 30.0  # for a request to arrive, and for a client to read its response
    drain_s: float = 0.5  # between "not ready" and closing the port, so that load balancers can notice
    max_body_bytes: int = 64 << 20
    max_held_bytes: int = 0  # of all bodies together; 0: a quarter of the memory, at most 1 GiB
    max_waiting: int = 1000  # requests that wait for a worker; more get 503
    max_connections: int = 16384
    max_batch: int = 64  # rows of a batch of several requests
    batch_delay_ms: float = 0.0  # how long a request may wait for others while a worker is idle
    allow_op: tuple[str, ...] = ()  # operators that SavedModels may use although they are refused by default
    cors_origin: tuple[str, ...] = ()  # sites whose pages may call the server, as browsers enforce it; "*": all
    access_log: bool = False
    pod: str = ""  # this server's name, such as its Kubernetes pod's; every response then carries it

    def __post_init__(self) -> None:
        if self.model_repository.exists() and not self.model_repository.is_dir():
            raise InvalidInput(f"--model-repository {self.model_repository}: this is a file; give the folder of models")
        if self.default_version not in ("stable", "latest"):
            raise InvalidInput(f"--default-version {self.default_version!r}: choose 'stable' or 'latest'")
        if self.backend not in BACKENDS:
            raise InvalidInput(f"--backend {self.backend!r}: choose from {', '.join(BACKENDS)}")
        if self.model_version and not self.model:
            raise InvalidInput("--model-version needs --model: together they name the only version to serve")
        for name in (
            *("poll_interval_s", "timeout_s", "read_timeout_s", "max_body_bytes"),
            *("max_waiting", "max_batch", "max_connections"),
        ):
            if not 0 < getattr(self, name) < math.inf:  # which NaN is not
                raise InvalidInput(f"{_option(name)} is {getattr(self, name)}: it must be above 0")
        for name in ("workers", "threads", "drain_s", "max_held_bytes", "batch_delay_ms", "model_version"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInput(f"{_option(name)} is {getattr(self, name)}: it must not be negative")
        for name in ("port", "admin_port"):
            if not 0 <= (getattr(self, name) or 0) < 1 << 16:
                raise InvalidInput(f"{_option(name)} is {getattr(self, name)}: it must be from 0 to 65535")
        if self.pod and not POD.fullmatch(self.pod):
            raise InvalidInput(f"--pod {self.pod!r}: use at most 253 letters, digits, '-', '.' and '_'")
        for origin in self.cors_origin:
            if not ORIGIN.fullmatch(origin):
                raise InvalidInput(
                    f"--cors-origin {origin!r}: give '*', or a site in lower case without a path, like https://example.com"
                )

    @property
    def worker_count(self) -> int:
        return self.workers or max(1, cgroup.cores() - 1)

    @property
    def thread_count(self) -> int:
        """Threads that a worker's backend may use."""
        return self.threads or max(1, (cgroup.cores() - 1) // self.worker_count)

    @property
    def cores_per_worker(self) -> int:
        """Cores for one large batch of a worker, including the supervisor's, which is mostly idle then."""
        return max(1, cgroup.cores() // (self.worker_count * self.thread_count))

    @property
    def held_bytes_limit(self) -> int:
        """Limit on all request bodies in memory together; at least one body of the largest size fits."""
        memory = cgroup.memory_bytes()
        limit = self.max_held_bytes or min(1 << 30, memory // 4 if memory else 1 << 30)
        return max(limit, self.max_body_bytes)

    def url(self, port: int) -> str:
        """The URL of a port of this server."""
        return f"http://{address(self.host, port)}/"

    @property
    def pin(self) -> tuple[str, int | None] | None:
        return (self.model, self.model_version or None) if self.model else None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def address(host: str, port: int) -> str:
    """host:port as in a URL, with an IPv6 address in brackets."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host}:{port}"


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", text) if name)


_PARSERS: dict[Any, Any] = {
    Path: Path,
    str: str,
    int: int,
    int | None: int,
    float: float,
    bool: _flag,
    tuple[str, ...]: _names,
}
_FIELD_PARSERS = {field.name: _PARSERS[field.type] for field in fields(Settings)}


def program(environ: Mapping[str, str] = os.environ) -> str:
    """The command that the server was started with, for its error messages."""
    return environ.get(PROGRAM, "python -m seaway.serve")


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Settings from the environment, by field name. Raises InvalidInput for a value that cannot be parsed."""
    values = {}
    for name, parse in _FIELD_PARSERS.items():
        text = environ.get(PREFIX + name.upper())
        if text is None:
            continue
        try:
            values[name] = parse(text)
        except ValueError:
            raise InvalidInput(f"{PREFIX}{name.upper()}={text!r} is not a valid {parse.__name__.strip('_')}") from None
    return values
