"""What the server is told: the one place where environment variables are read. The command line wins over them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seaway.errors import InvalidInput

PREFIX = "SEAWAY_"


def cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field can be given as SEAWAY_<NAME> in the environment; a port of 0 takes a free one."""

    volume: Path
    host: str = "127.0.0.1"
    port: int = 8501
    admin_port: int | None = None  # None: no admin port
    workers: int = 0  # 0: one for every two cores, since the supervisor needs some too
    default_version: Literal["stable", "latest"] = "stable"
    poll_seconds: float = 1.0
    timeout_seconds: float = 30.0  # a request's whole time in the server; TensorFlow Serving's default
    drain_seconds: float = 0.5  # between "not ready" and closing the port, so that who routes here can notice
    max_body_bytes: int = 64 << 20
    max_waiting: int = 1000  # requests that wait for a worker; more are answered 503
    access_log: bool = False

    def __post_init__(self) -> None:
        if self.volume.exists() and not self.volume.is_dir():
            raise InvalidInput(f"--volume {self.volume}: a file, where the folder of models was expected")
        if self.default_version not in ("stable", "latest"):
            raise InvalidInput(f"default version {self.default_version!r}: choose 'stable' or 'latest'")
        for name in ("poll_seconds", "timeout_seconds", "max_body_bytes", "max_waiting"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.workers < 0 or self.drain_seconds < 0:
            raise InvalidInput("workers and drain_seconds must not be negative")

    @property
    def worker_count(self) -> int:
        return self.workers or max(1, cores() // 2)

    @property
    def threads(self) -> int:
        """Threads that a worker's backend may use."""
        return max(1, cores() // self.worker_count)


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(text)


_READ: dict[str, Any] = {
    "volume": Path,
    "host": str,
    "port": int,
    "admin_port": int,
    "workers": int,
    "default_version": str,
    "poll_seconds": float,
    "timeout_seconds": float,
    "drain_seconds": float,
    "max_body_bytes": int,
    "max_waiting": int,
    "access_log": _flag,
}


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
            raise InvalidInput(f"{PREFIX}{name.upper()}={text!r} cannot be used: give a {read.__name__}") from None
    return found
