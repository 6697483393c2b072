"""How to load a server."""

import math
from dataclasses import dataclass

from seaway.client_tls import DEFAULT_TLS, ClientTls
from seaway.errors import InvalidInput
from seaway.load import payloads, schedule
from seaway.protocols import client_codecs

CLOSED_LOOP_USERS = 8
OPEN_LOOP_USERS = 256  # requests that may be in flight before new ones wait for a free user


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """How to load a server. `rate` 0: a closed loop, in which each user sends its next request after the response to
    the one before; else an open loop of `rate` requests per second, scheduled as `arrivals` and `seed` determine
    (`schedule.Schedule`), which `users` (0: enough of them) send. The warm-up precedes `duration_s`, at the same load.
    """

    protocol: str = "tfs"
    users: int = 0
    rate: float = 0.0
    duration_s: int = 10
    warmup_s: int = 2
    batch: int = 1
    shape: str = "constant"
    processes: int = 1
    new_connections: bool = False  # one for each request
    request_timeout_s: float = 30.0
    model: str = ""  # "": the name in the artifact metadata
    version: int | None = None
    tls: ClientTls = DEFAULT_TLS
    metrics_url: str = ""  # the server's Prometheus page, "": none
    arrivals: str = schedule.POISSON
    seed: int = 0

    @property
    def user_count(self) -> int:
        return self.users or (OPEN_LOOP_USERS if self.rate else CLOSED_LOOP_USERS)

    @property
    def total_s(self) -> int:
        return self.warmup_s + self.duration_s

    def check(self) -> None:
        """Raises InvalidInput for settings that contradict each other."""
        if self.users < 0 or self.duration_s < 1 or self.warmup_s < 0 or self.processes < 1:
            raise InvalidInput(
                f"a load test of {self.duration_s} s after {self.warmup_s} s, with {self.users} users in "
                f"{self.processes} processes: it needs at least 1 s and 1 process, and no value may be negative"
            )
        if self.rate < 0 or not math.isfinite(self.rate):
            raise InvalidInput(f"--rate {self.rate:g}: must not be negative or infinite")
        if self.request_timeout_s <= 0:
            raise InvalidInput(f"--timeout {self.request_timeout_s:g}: must be greater than 0")
        if self.user_count < self.processes:
            raise InvalidInput(
                f"--processes {self.processes} needs at least {self.processes} users: raise --users, which is "
                f"{self.user_count}"
            )
        schedule.Schedule(self.rate or 1.0, 1, self.shape, arrivals=self.arrivals, seed=self.seed)
        client_codecs.named(self.protocol)

    def schedule(self) -> schedule.Schedule | None:
        """When requests are scheduled, None in a closed loop. Raises InvalidInput."""
        if not self.rate:
            return None
        return schedule.Schedule(self.rate, self.total_s, self.shape, arrivals=self.arrivals, seed=self.seed)

    def model_name(self, model: payloads.Model) -> str:
        """The model's name on the server. Raises InvalidInput if neither the config nor the examples give one."""
        name = self.model or model.name
        if not name:
            raise InvalidInput("--name is missing: a file of examples does not contain the model's name")
        return name
