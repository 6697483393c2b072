"""A job: one request that a version is to answer, from the moment it is queued to the moment it is answered."""

from seaway.errors import SeawayError
from seaway.protocols.calls import Reply
from seaway.serve.supervisor.connection import Request
from seaway.serve.supervisor.models import Version


class Job:
    """`protocol` is a key of PROTOCOLS, `verb` and `headers` what that protocol's `read` wants to know beside the body.

    `alone` says that it is to be run by itself, since a process ended on it and others. Times are perf_counter's.
    """

    __slots__ = ("alone", "deadline", "done", "headers", "key", "protocol", "queued", "request", "verb", "version")

    def __init__(
        self, request: Request, version: Version, protocol: str, verb: str, headers: dict[str, str], queued: float
    ) -> None:
        self.request, self.version, self.protocol, self.verb, self.headers = request, version, protocol, verb, headers
        self.key, self.queued, self.deadline = version.key, queued, 0.0
        request.key = version.key
        self.alone = self.done = False

    def answer(self, reply: Reply) -> None:
        if not self.done:
            self.done = True
            self.version.active -= 1
            self.request.answer(reply)

    def fail(self, error: SeawayError) -> None:
        from seaway.serve.protocols import PROTOCOLS

        self.answer(PROTOCOLS[self.protocol].error(error))
