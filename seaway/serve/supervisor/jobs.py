"""A job: one request for a version, from the moment it is queued to its response."""

from typing import Protocol

from seaway.errors import SeawayError
from seaway.protocols.calls import Reply
from seaway.serve.supervisor.models import ModelVersion


class Request(Protocol):
    """What a job needs of a request, which came over HTTP (`connection`) or gRPC (`grpc_server`).

    `stages` has a value only if requests are traced, once a worker has responded: when the worker got the request and
    when it responded, and the seconds of parse, compute and write.
    """

    body: bytes
    key: str
    began: float
    complete: float
    stages: tuple[float, ...]

    @property
    def abandoned(self) -> bool: ...
    def respond(self, reply: Reply) -> None: ...


class Job:
    """`protocol` is a key of PROTOCOLS; that protocol's `read` takes `verb` and `headers` in addition to the body.

    `run_alone`: run it by itself, because a worker died on a batch that contained it. Times are perf_counter's.
    """

    __slots__ = ("deadline", "done", "headers", "key", "protocol", "queued", "request", "run_alone", "verb", "version")

    def __init__(
        self, request: Request, version: ModelVersion, protocol: str, verb: str, headers: dict[str, str], queued: float
    ) -> None:
        self.request, self.version, self.protocol, self.verb, self.headers = request, version, protocol, verb, headers
        self.key, self.queued, self.deadline = version.key, queued, 0.0
        request.key = version.key
        self.run_alone = self.done = False

    def respond(self, reply: Reply) -> None:
        if not self.done:
            self.done = True
            self.version.active -= 1
            self.request.respond(reply)

    def fail(self, error: SeawayError) -> None:
        from seaway.serve.protocols import PROTOCOLS

        self.respond(PROTOCOLS[self.protocol].error(error))
