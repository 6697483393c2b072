"""HTTP/1.1 on one socket: parses requests within their limits, answers them in order, and never waits for a client.

A `Port` is what all connections of one listening socket share. It hands each complete request to its application,
which answers at once or later by `request.answer(reply)`. Parsing is httptools' (llhttp); what is here are the limits:

    connections     above the limit one is told 503 and closed
    head            431 above `max_head_bytes`, before more of it is kept
    body            413 above `max_body_bytes`, by Content-Length before the first byte is read, and while chunks come
    memory          503 where all bodies that are held together would be more than `max_held_bytes`
    time            408 where a request is not complete `read_seconds` after its first byte; a connection that asks
                    nothing is closed after KEEP_ALIVE_SECONDS, one that does not take its answers after `read_seconds`
"""

import asyncio
import itertools
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import httptools

from seaway.errors import SeawayError
from seaway.platform import memory
from seaway.protocols.calls import Reply
from seaway.serve.bodies import SUPPORTED
from seaway.serve.supervisor.cors import VARY

KEEP_ALIVE_SECONDS = 75.0  # longer than load balancers keep an idle connection, so that they close first
SWEEP_SECONDS = 1.0
LINGER_SECONDS = 5.0  # for a client that was refused midway to read why
PIPELINED = 16  # requests that may wait behind one that is being answered, before the connection is read no further
MAX_HEADERS = 100
LARGE = 1 << 20  # bytes of a body after which the allocator is told, when there is time, to give memory back

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
_RETRY_AFTER = b"retry-after: 1\r\n"
_BY_STATUS = {429: _RETRY_AFTER, 503: _RETRY_AFTER, 415: f"accept-encoding: {SUPPORTED}\r\n".encode()}
_LISTS = ("transfer-encoding", "content-encoding", "connection")  # repeated lines are one list (RFC 9110, 5.3)
_ABSOLUTE = re.compile(r"https?://[^/?#]*(/)?", re.IGNORECASE)
_ids, _prefix = itertools.count(1), secrets.token_hex(6)


def _path(target: str) -> str:
    """What stands behind the host in a target of absolute form (http://host/path?query); others as they are."""
    found = _ABSOLUTE.match(target)
    return "/" + target[found.end() :] if found else target


@dataclass(slots=True)
class Limits:
    max_body_bytes: int = 64 << 20
    max_held_bytes: int = 1 << 30
    max_head_bytes: int = 32 << 10
    max_connections: int = 16384
    read_seconds: float = 30.0


class Request:
    """One request, complete. `target` is the path as it was sent, percent signs and query included; header names are
    in lower case, the first of equal ones counts, except that lists may come in several. `began` is when its first byte
    came, `complete` when its last did (time.perf_counter); `protocol` and `key` are the application's names for what it
    speaks and for what answers it."""

    __slots__ = (
        *("answered", "began", "body", "complete", "connection", "headers"),
        *("id", "keep_alive", "key", "method", "protocol", "target", "trace"),
    )

    def __init__(self, connection: "Connection", method: str, target: str, headers: dict[str, str], began: float):
        self.connection, self.method, self.target, self.headers = connection, method, target, headers
        self.body, self.keep_alive, self.answered, self.protocol, self.key = b"", True, False, "", ""
        self.began, self.complete = began, time.perf_counter()
        given = headers.get("x-request-id")
        self.id = given if given and _ID.fullmatch(given) else f"{_prefix}-{next(_ids):x}"
        parent = headers.get("traceparent")
        self.trace = parent if parent and _TRACE.fullmatch(parent) else ""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.answered or self.connection.closed

    def answer(self, reply: Reply) -> None:
        """Sends the reply, unless one was sent before or the client is gone."""
        if not self.answered:
            self.answered = True
            self.connection.send(self, reply)


@dataclass(slots=True)
class Port:
    """What the connections of one listening socket share. `refuse` writes the errors that are found before any
    application sees the request; `told` is called with every answer that was given (for logs and metrics); `always` are
    header lines of every answer, `by_origin` those of answers to pages of sites that are known (`cors`)."""

    refuse: Callable[[SeawayError], Reply]
    limits: Limits
    handle: Callable[[Request], None] = lambda request: None
    told: Callable[[Request, Reply], None] = lambda request, reply: None
    connections: "set[Connection]" = field(default_factory=set)
    held_bytes: int = 0
    trim: bool = False  # whether a large body was given back since the allocator was last told to
    draining: bool = False
    always: bytes = b""
    by_origin: Mapping[str, bytes] = field(default_factory=dict)
    _date: bytes = b""
    _date_until: float = 0.0

    def connection(self) -> "Connection":
        return Connection(self)

    def date(self) -> bytes:
        now = time.time()
        if now >= self._date_until:
            self._date, self._date_until = f"date: {formatdate(now, usegmt=True)}\r\n".encode(), int(now) + 1
        return self._date

    async def sweep(self) -> None:
        """Closes, until it is cancelled, what has waited too long for its client, and gives memory back."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.perf_counter()
            for connection in list(self.connections):
                connection.check(now)
            if self.trim and not self.held_bytes:
                self.trim = False
                memory.give_back()

    def close_idle(self) -> None:
        for connection in list(self.connections):
            if not connection.busy:
                connection.close()


class Connection(asyncio.Protocol):
    """One client. Requests that it sends before earlier ones are answered wait their turn."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None  # what is being answered
        self._began = time.perf_counter()  # of the request that is being read, or of idling
        self._reading = self._in_head = False
        self._offered = False  # whether the head that was read offers another protocol
        self._url, self._headers, self._head_bytes = b"", dict[str, str](), 0
        self._pieces: list[bytes] = []
        self._body_bytes = self._held = 0
        self._unsent = 0  # bytes that the client had not taken at the last look; 0 where it takes them all
        self._unsent_since = 0.0
        self._stalled = False
        self.closed = self._closing = False

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._reading or self._current is not None or bool(self._waiting)

    @property
    def client(self) -> str:
        """Its address."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._port.connections) >= self._port.limits.max_connections:
            self.closed = True
            error = SeawayError("too many connections: try again shortly", status=503)
            self._write(None, self._port.refuse(error), close=True)
            self._transport.close()
            return
        self._port.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.closed or self._closing:
            return
        if not self._reading:
            self._began = time.perf_counter()
        if self._in_head or not self._reading:
            self._head_bytes += len(data)
        body = self._headers if self._reading and not self._in_head else None
        size = self._body_bytes
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if not self._closing:
                cause = error.__context__
                if not isinstance(cause, SeawayError):
                    cause = SeawayError(f"this is not HTTP/1.1: {error}", status=400)
                self._refuse(cause)
            return
        if self._reading:
            if self._headers is body and self._body_bytes == size:  # of the same body, but a trailer or a chunk's head
                self._head_bytes += len(data)
            if self._head_bytes > self._port.limits.max_head_bytes:
                self._refuse(self._large_head())

    def _feed(self, data: bytes | memoryview) -> None:
        """Has the parser read `data`. An offer to upgrade is not taken up, as RFC 9110 lets a server do (7.8).

        llhttp takes what follows such a head for the other protocol's. So a new parser is given the head again without
        the offer, and then the rest as it came.
        """
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(data)[upgrade.args[0] :]
            if not self._offered:
                self._closing = True  # CONNECT: what follows is for another server, and the answer closes
                return
            self._offered = False
            head, data = self._head_without_offer(), rest
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        parser = self._parser
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._url, parser.get_http_version().encode())]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in self._headers.items() if name != "upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def eof_received(self) -> bool:
        """A client that has sent all it will may still read: what it asked is answered, and then it is closed."""
        self._closing = True
        return self._current is not None or bool(self._waiting)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._port.connections.discard(self)
        self._release()
        for request in self._waiting:
            self._give_back(request)
        self._waiting.clear()
        if self._current:
            self._give_back(self._current)  # which may still stand in a queue
        self._current = None

    def pause_writing(self) -> None:
        self._stalled = True
        self._unsent, self._unsent_since = self._transport.get_write_buffer_size(), time.perf_counter()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled = False
        self._next()

    # ---- httptools' callbacks; an exception in them comes out of feed_data as the context of its own

    def on_message_begin(self) -> None:
        self._reading = self._in_head = True
        self._url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # of a trailer: what stands behind a body says nothing about it here
        headers, key, text = self._headers, name.decode("latin-1").lower(), value.decode("latin-1")
        if len(headers) >= MAX_HEADERS:
            raise self._large_head()
        first = headers.setdefault(key, text)
        if first is not text and key in _LISTS:
            headers[key] = f"{first}, {text}"

    def on_headers_complete(self) -> None:
        limits, port = self._port.limits, self._port
        self._in_head = False
        headers = self._headers
        if "upgrade" in headers and self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            self._offered = True  # the head comes again, see _feed
            return
        if self._head_bytes > limits.max_head_bytes:  # what was counted may hold the beginning of the body
            exact = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if exact > limits.max_head_bytes:
                raise self._large_head()
        self._head_bytes = 0
        coding = headers.get("transfer-encoding")
        if coding and coding.lower() != "chunked":
            raise SeawayError(f"Transfer-Encoding {coding[:80]!r} is not spoken here: send it chunked", status=501)
        length = int(headers.get("content-length", 0))
        if length > limits.max_body_bytes:
            raise self._large_body()
        if port.held_bytes + length > limits.max_held_bytes:
            raise self._full()
        if "expect" in headers and headers["expect"].lower() == "100-continue" and not self.busy_answering:
            self._go_on()

    def _go_on(self) -> None:
        if self._parser.get_http_version() != "1.0":  # which knows no such answer
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._body_bytes += len(body)
        self._held += len(body)
        self._port.held_bytes += len(body)
        if self._body_bytes > self._port.limits.max_body_bytes:
            raise self._large_body()
        if self._port.held_bytes > self._port.limits.max_held_bytes:
            raise self._full()

    def on_message_complete(self) -> None:
        if self._offered:
            return
        parser, pieces = self._parser, self._pieces
        target = self._url.decode("latin-1")
        if target[:1] != "/":
            target = _path(target)
        method = parser.get_method().decode("latin-1")
        request = Request(self, method, target, self._headers, self._began)
        request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        request.keep_alive = parser.should_keep_alive() and method != "CONNECT"
        self._pieces, self._body_bytes, self._held, self._head_bytes = [], 0, 0, 0
        self._reading = False
        self._began = request.complete
        self._waiting.append(request)
        if self._current is None and len(self._waiting) == 1:
            self._next()
        elif len(self._waiting) > PIPELINED:
            self._transport.pause_reading()

    @property
    def busy_answering(self) -> bool:
        return self._current is not None or bool(self._waiting)

    # ---- answers

    def _next(self) -> None:
        """Hands on the request that has waited longest, if the one before is answered and the client takes answers."""
        while self._waiting and self._current is None and not self._stalled and not self.closed:
            self._current = self._waiting.popleft()
            self._port.handle(self._current)
        if not self._stalled and not self.closed and len(self._waiting) <= PIPELINED:
            self._transport.resume_reading()

    def send(self, request: Request, reply: Reply) -> None:
        """Called by `request.answer` alone."""
        self._port.told(request, reply)
        if self.closed or request is not self._current:
            return
        self._current = None
        self._give_back(request)
        self._began = time.perf_counter()
        last = not request.keep_alive or self._port.draining or (self._closing and not self._waiting)
        self._write(request, reply, close=last)
        if last:
            self.close()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _refuse(self, error: SeawayError) -> None:
        """Answers what could not be read, after what is being answered already, and reads no more."""
        self._closing = True
        self._release()
        if self.busy_answering or self.closed:  # those answers close the connection
            return
        self._write(None, self._port.refuse(error), close=True)
        self._began = time.perf_counter()
        self._transport.write_eof()  # and not close: what the client still sends would reset it before it has read this

    def _write(self, request: Request | None, reply: Reply, close: bool) -> None:
        body = [reply.body] if isinstance(reply.body, bytes) else reply.body
        head = [
            b"HTTP/1.1 %d %b\r\n" % (reply.status, _PHRASES.get(reply.status, "").encode()),
            self._port.date(),
            self._port.always,
            b"content-type: %b\r\ncontent-length: %d\r\n" % (reply.type.encode("latin-1"), sum(map(len, body))),
        ]
        if self._port.by_origin:
            asked = self._headers if request is None else request.headers
            head.append(self._port.by_origin.get(asked.get("origin", ""), VARY))
        for name, value in reply.headers.items():
            head.append(f"{name}: {value}\r\n".encode("latin-1", "replace"))
        if reply.status in _BY_STATUS:
            head.append(_BY_STATUS[reply.status])
        if request is not None:
            head.append(f"x-request-id: {request.id}\r\n".encode("latin-1"))
            if request.trace:
                head.append(f"traceparent: {request.trace}\r\n".encode("latin-1"))
        if close:
            head.append(b"connection: close\r\n")
        elif request is not None and request.headers.get("connection", "").lower() == "keep-alive":
            head.append(b"connection: keep-alive\r\n")  # which HTTP/1.0 wants to hear
        head.append(b"\r\n")
        if request is not None and request.method == "HEAD":
            body = []
        self._transport.write(b"".join([*head, *body]) if len(body) < 2 else b"".join(head))
        if len(body) > 1:
            self._transport.writelines(body)

    def close(self) -> None:
        """After what was written is sent."""
        self._closing = True
        self._transport.close()

    def check(self, now: float) -> None:
        """Ends the connection where its client has had its time."""
        limits = self._port.limits
        if self._stalled:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent, self._unsent_since = unsent, now
            elif now - self._unsent_since > limits.read_seconds:
                self._transport.abort()
        elif self._reading and not self._closing:
            if now - self._began > limits.read_seconds:
                self._refuse(SeawayError(f"the request was not complete after {limits.read_seconds:g} s", status=408))
        elif self._closing:
            if not self.busy_answering and now - self._began > LINGER_SECONDS:
                self._transport.abort()
        elif not self.busy and now - self._began > KEEP_ALIVE_SECONDS:
            self.close()

    # ---- limits

    def _release(self) -> None:
        """Gives back what was read of a body."""
        if self._held > LARGE:
            self._port.trim = True
        self._port.held_bytes -= self._held
        self._held = 0
        self._pieces = []

    def _give_back(self, request: Request) -> None:
        size = len(request.body)
        if size > LARGE:
            self._port.trim = True
        self._port.held_bytes -= size
        request.body = b""

    def _large_head(self) -> SeawayError:
        limit = self._port.limits.max_head_bytes
        return SeawayError(f"the request's head is larger than {limit} bytes or {MAX_HEADERS} headers", status=431)

    def _large_body(self) -> SeawayError:
        return SeawayError(
            f"the body is larger than {self._port.limits.max_body_bytes} bytes: send fewer examples at once, or start "
            "the server with a larger --max-body-bytes",
            status=413,
        )

    def _full(self) -> SeawayError:
        return SeawayError("requests that are being answered hold all the memory there is: try again", status=503)
