"""HTTP/1.1 on one socket: parses requests within their limits, responds in order, and never waits for a client.

All connections of one listening socket share a `ServerState`. It hands each complete request to its application, which
responds at once or later by `request.respond(reply)`. httptools (llhttp) parses; this module enforces the limits:

    connections     503 and closed above `max_connections`
    head            431 above `max_head_bytes`, before more of it is read
    body            413 above `max_body_bytes`: by Content-Length before the first byte is read, and as chunks arrive
    memory          503 if all bodies in memory would exceed `max_held_bytes`
    time            408 if a request is not complete `read_timeout_s` after its first byte; an idle connection is closed
                    after KEEP_ALIVE_TIMEOUT_S, one that does not read its responses after `read_timeout_s`
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
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools

from seaway.errors import SeawayError
from seaway.platform import memory
from seaway.protocols.calls import Reply
from seaway.serve.decompression import SUPPORTED
from seaway.serve.supervisor.cors import VARY

if TYPE_CHECKING:
    from seaway.serve.supervisor.tls_connection import TlsConnection

KEEP_ALIVE_TIMEOUT_S = 75.0  # longer than load balancers' idle timeouts, so that the load balancer closes first
SWEEP_INTERVAL_S = 1.0
LINGER_TIMEOUT_S = 5.0  # how long a rejected client has to read the response
MAX_REFUSED = 64  # connections above the limit that have that time; more are closed at once
MAX_PIPELINED = 16  # requests that may wait behind the current one before the server stops reading from the connection
MAX_HEADERS = 100
# After a larger body the allocator returns free memory to the system when the server is idle
LARGE_BODY_BYTES = 1 << 20

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
_RETRY_AFTER = b"retry-after: 1\r\n"
_BY_STATUS = {429: _RETRY_AFTER, 503: _RETRY_AFTER, 415: f"accept-encoding: {SUPPORTED}\r\n".encode()}
_LISTS = ("transfer-encoding", "content-encoding", "connection")  # repeated lines are one list (RFC 9110, 5.3)
_ABSOLUTE = re.compile(r"https?://[^/?#]*(/)?", re.IGNORECASE)
_ids, _prefix = itertools.count(1), secrets.token_hex(6)


class State(Enum):
    """What a connection reads. Requests that have no response yet are apart from it."""

    IDLE = "nothing: no request has begun"
    HEAD = "the head of a request"
    OFFER = "a head that offers to upgrade to another protocol; it is parsed again without the offer"
    BODY = "the body of a request, and its trailer"
    CLOSING = "nothing more: closes once the client has its responses, or the response of a rejection"
    CLOSED = "nothing more: the socket is gone"


IDLE, HEAD, OFFER, BODY, CLOSING, CLOSED = State  # names, because a lookup in an Enum is slow


def _path(target: str) -> str:
    """The path and query of a target in absolute form (http://host/path?query); other targets unchanged."""
    origin = _ABSOLUTE.match(target)
    return "/" + target[origin.end() :] if origin else target


def request_id(sent: object) -> str:
    """The client's ID of a request, or if it sent none that can be repeated, a new one."""
    return sent if isinstance(sent, str) and _ID.fullmatch(sent) else f"{_prefix}-{next(_ids):x}"


def trace_parent(sent: object) -> str:
    """The client's W3C trace context; "" if it sent none."""
    return sent if isinstance(sent, str) and _TRACE.fullmatch(sent) else ""


@dataclass(slots=True)
class Limits:
    max_body_bytes: int = 64 << 20
    max_held_bytes: int = 1 << 30
    max_head_bytes: int = 32 << 10
    max_connections: int = 16384
    read_timeout_s: float = 30.0


class Request:
    """One complete request. `target` is the path as sent, with percent encoding and query. Header names are lower-case;
    of repeated ones the first counts, except for `_LISTS`, whose lines are joined. `began` is when the first byte
    arrived, `complete` the last (time.perf_counter). The application sets `protocol`, and `key` of the version that
    responds."""

    __slots__ = (
        *("began", "body", "complete", "connection", "headers", "id", "keep_alive"),
        *("key", "method", "protocol", "responded", "stages", "target", "trace"),
    )
    stages: tuple[float, ...]  # see `jobs.Request`

    def __init__(self, connection: "Connection", method: str, target: str, headers: dict[str, str], began: float):
        self.connection, self.method, self.target, self.headers = connection, method, target, headers
        self.body, self.keep_alive, self.responded, self.protocol, self.key = b"", True, False, "", ""
        self.began, self.complete = began, time.perf_counter()
        self.id, self.trace = request_id(headers.get("x-request-id")), trace_parent(headers.get("traceparent"))

    @property
    def client(self) -> str:
        """The client's address."""
        return self.connection.client

    @property
    def abandoned(self) -> bool:
        """Whether nobody is waiting for the response any more."""
        return self.responded or self.connection.state is CLOSED

    def respond(self, reply: Reply) -> None:
        """Sends the reply, unless one was already sent or the client has disconnected."""
        if not self.responded:
            self.responded = True
            if (compressing_send := self.connection.server.compressing_send) is None:
                self.connection.send(self, reply)
            else:
                compressing_send(self, reply)


@dataclass(slots=True)
class ServerState:
    """The state that the connections of one listening socket share. `error_reply` formats errors that occur before the
    application sees a request. For logs and metrics, `on_response` is called with every response of the application,
    and `on_rejection` with every other one; its request has only what was read, perhaps no method and target.
    `extra_headers` are header lines of every response, `cors_headers` those of responses to pages of an origin
    (`cors`)."""

    error_reply: Callable[[SeawayError], Reply]
    limits: Limits
    handle: Callable[[Request], None] = lambda request: None
    on_response: Callable[[Any, Reply], None] = lambda request, reply: None
    on_rejection: Callable[[Request, Reply], None] = lambda request, reply: None
    connections: "set[Connection]" = field(default_factory=set)
    refused: "set[Connection]" = field(default_factory=set)  # above `max_connections`, while they read their response
    compressing_send: Callable[[Request, Reply], None] | None = None  # instead of `Connection.send`
    handshakes: "dict[TlsConnection, None]" = field(default_factory=dict)  # of TLS, in progress; the oldest first
    handshake_failures: int = 0
    held_bytes: int = 0
    trim_due: bool = False  # whether a large body was released since the last `memory.trim`
    draining: bool = False
    extra_headers: bytes = b""
    cors_headers: Mapping[str, bytes] = field(default_factory=dict)
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
        """Closes connections that exceed their time, and returns free memory to the system, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = time.perf_counter()
            open_now: list[Connection | TlsConnection] = [*self.connections, *self.refused, *self.handshakes]
            for connection in open_now:
                connection.check(now)
            if self.trim_due and not self.held_bytes:
                self.trim_due = False
                memory.trim()

    def close_idle(self) -> None:
        for connection in list(self.connections):
            if not connection.busy:
                connection.close()


class Connection(asyncio.Protocol):
    """One client. Pipelined requests wait their turn."""

    def __init__(self, server: ServerState) -> None:
        self.server = server
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None  # the request that the application is working on
        self._began = time.perf_counter()  # when the request being read began, or the connection became idle
        self.state = IDLE
        self._url, self._headers, self._head_bytes = b"", dict[str, str](), 0
        self._pieces: list[bytes] = []
        self._body_bytes = self._held_bytes = 0
        self._unsent = 0  # bytes that the client had not read at the last check; 0 if it reads them all
        self._unsent_since = 0.0
        self._stalled = False  # whether the client does not read its responses

    @property
    def busy(self) -> bool:
        """Whether a request is being read, has no response yet, or was rejected a moment ago."""
        return self.state is not IDLE or self._current is not None or bool(self._waiting)

    @property
    def client(self) -> str:
        """The client's address."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self.server.connections) < self.server.limits.max_connections:
            self.server.connections.add(self)
            return
        self._reject(SeawayError("too many connections: try again shortly", status=503))
        if len(self.server.refused) < MAX_REFUSED:
            self.server.refused.add(self)
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        body, state = None, self.state
        if state is IDLE or state is HEAD:
            self._head_bytes += len(data)
        elif state is BODY:
            body = self._headers
        else:
            return
        size = self._body_bytes
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if self.state is not CLOSING:
                cause = error.__context__
                if not isinstance(cause, SeawayError):
                    cause = SeawayError(f"this is not HTTP/1.1: {error}", status=400)
                self._reject(cause)
            return
        if (state := self.state) is not IDLE and state is not CLOSING:
            if self._headers is body and self._body_bytes == size:  # a trailer or a chunk header of the same body
                self._head_bytes += len(data)
            if self._head_bytes > self.server.limits.max_head_bytes:
                self._reject(self._head_too_large())

    def _feed(self, data: bytes | memoryview) -> None:
        """Feeds the parser. Ignores offers to upgrade, as RFC 9110 lets a server do (7.8).

        llhttp assumes that the bytes after such a head belong to the other protocol. So a new parser gets the head
        without the offer, and then the remaining bytes.
        """
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(data)[upgrade.args[0] :]
            if self.state is not OFFER:
                # CONNECT: the remaining bytes are for another server, and the response closes the connection
                self.state = CLOSING
                return
            head, data = self._head_without_upgrade(), rest
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        parser = self._parser
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._url, parser.get_http_version().encode())]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in self._headers.items() if name != "upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def eof_received(self) -> bool:
        """The client sends no more but may still read: sends the outstanding responses, then closes."""
        self.state = CLOSING
        return self.responding

    def connection_lost(self, error: Exception | None) -> None:
        self.state = CLOSED
        self.server.connections.discard(self)
        self.server.refused.discard(self)
        self._release()
        for request in self._waiting:
            self._release_body(request)
        self._waiting.clear()
        if self._current:
            self._release_body(self._current)  # which may still be in a queue
        self._current = None

    def pause_writing(self) -> None:
        self._stalled = True
        self._unsent, self._unsent_since = self._transport.get_write_buffer_size(), time.perf_counter()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled = False
        self._next()

    # ---- httptools' callbacks; feed_data raises their exceptions as the context of its own

    def on_message_begin(self) -> None:
        if self.state is CLOSING:
            raise SeawayError("the connection closes after the response before")
        if self.state is IDLE:  # else the head is parsed again, see _feed
            self._began = time.perf_counter()
        self.state = HEAD
        self._url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is not HEAD:
            return  # a trailer, which is ignored
        headers, key, text = self._headers, name.decode("latin-1").lower(), value.decode("latin-1")
        if len(headers) >= MAX_HEADERS:
            raise self._head_too_large()
        first = headers.setdefault(key, text)
        if first is not text and key in _LISTS:
            headers[key] = f"{first}, {text}"

    def on_headers_complete(self) -> None:
        limits = self.server.limits
        self.state = BODY
        headers = self._headers
        if "upgrade" in headers and self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            self.state = OFFER
            return
        if self._head_bytes > limits.max_head_bytes:  # the count may include the start of the body
            exact = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if exact > limits.max_head_bytes:
                raise self._head_too_large()
        self._head_bytes = 0
        coding = headers.get("transfer-encoding")
        if coding and coding.lower() != "chunked":
            raise SeawayError(f"Transfer-Encoding {coding[:80]!r} is not supported: send the body chunked", status=501)
        length = int(headers.get("content-length", 0))
        if length > limits.max_body_bytes:
            raise self._body_too_large()
        if self.server.held_bytes + length > limits.max_held_bytes:
            raise self._memory_full()
        if "expect" in headers and headers["expect"].lower() == "100-continue" and not self.responding:
            self._send_continue()

    def _send_continue(self) -> None:
        if self._parser.get_http_version() != "1.0":  # HTTP/1.0 has no 100 Continue
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._body_bytes += len(body)
        self._held_bytes += len(body)
        self.server.held_bytes += len(body)
        if self._body_bytes > self.server.limits.max_body_bytes:
            raise self._body_too_large()
        if self.server.held_bytes > self.server.limits.max_held_bytes:
            raise self._memory_full()

    def on_message_complete(self) -> None:
        if self.state is OFFER:
            return
        parser, pieces = self._parser, self._pieces
        target = self._url.decode("latin-1")
        if target[:1] != "/":
            target = _path(target)
        method = parser.get_method().decode("latin-1")
        request = Request(self, method, target, self._headers, self._began)
        request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        request.keep_alive = parser.should_keep_alive() and method != "CONNECT"
        self._pieces, self._body_bytes, self._held_bytes, self._head_bytes = [], 0, 0, 0
        self.state = IDLE
        self._began = request.complete
        self._waiting.append(request)
        if self._current is None and len(self._waiting) == 1:
            self._next()
        elif len(self._waiting) > MAX_PIPELINED:
            self._transport.pause_reading()

    @property
    def responding(self) -> bool:
        return self._current is not None or bool(self._waiting)

    # ---- responses

    def _next(self) -> None:
        """Hands over the oldest waiting request, once the previous one has its response and the client reads."""
        while self._waiting and self._current is None and not self._stalled and self.state is not CLOSED:
            self._current = self._waiting.popleft()
            self.server.handle(self._current)
        if not self._stalled and self.state is not CLOSED and len(self._waiting) <= MAX_PIPELINED:
            self._transport.resume_reading()

    def send(self, request: Request, reply: Reply) -> None:
        """Called only for `request.respond`."""
        self.server.on_response(request, reply)
        if self.state is CLOSED or request is not self._current:
            return
        self._current = None
        self._release_body(request)
        # The time of a pipelined request that is being read counts from its own first byte
        if self.state is IDLE or self.state is CLOSING:
            self._began = time.perf_counter()
        last = not request.keep_alive or self.server.draining or (self.state is CLOSING and not self._waiting)
        self._write(request, reply, close=last)
        if last:
            self.close()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _reject(self, error: SeawayError) -> None:
        """Rejects a request that could not be read, and stops reading: responds with the error, unless an earlier
        response is outstanding, which then closes the connection."""
        read = self._url.decode("latin-1") if self.state in (HEAD, OFFER, BODY) else ""
        self.state = CLOSING
        self._release()
        if self.responding:  # the response in progress closes the connection
            return
        self._write_rejection(error, read)
        self._began = time.perf_counter()
        self._transport.write_eof()  # not close(): further data would then cause a reset before the client reads

    def _write_rejection(self, error: SeawayError, target: str) -> None:
        """`target`: as far as it was read."""
        reply = self.server.error_reply(error)
        headers = self._headers if target else {}
        method = self._parser.get_method().decode("latin-1") if target else ""
        self.server.on_rejection(Request(self, method, _path(target), headers, self._began), reply)
        self._write(None, reply, close=True)

    def _write(self, request: Request | None, reply: Reply, close: bool) -> None:
        body = [reply.body] if isinstance(reply.body, bytes) else reply.body
        head = [
            b"HTTP/1.1 %d %b\r\n" % (reply.status, _PHRASES.get(reply.status, "").encode()),
            self.server.date(),
            self.server.extra_headers,
            b"content-type: %b\r\ncontent-length: %d\r\n" % (reply.type.encode("latin-1"), sum(map(len, body))),
        ]
        if self.server.cors_headers:
            headers = self._headers if request is None else request.headers
            head.append(self.server.cors_headers.get(headers.get("origin", ""), VARY))
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
            head.append(b"connection: keep-alive\r\n")  # HTTP/1.0 clients expect it
        head.append(b"\r\n")
        if request is not None and request.method == "HEAD":
            body = []
        self._transport.write(b"".join([*head, *body]) if len(body) < 2 else b"".join(head))
        if len(body) > 1:
            self._transport.writelines(body)

    def close(self) -> None:
        """Closes the connection after sending what was written."""
        if self.state is not CLOSED:
            self.state = CLOSING
        self._transport.close()

    def check(self, now: float) -> None:
        """Closes the connection if its client has exceeded a time limit."""
        limits = self.server.limits
        if self._stalled:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent, self._unsent_since = unsent, now
            elif now - self._unsent_since > limits.read_timeout_s:
                self._transport.abort()
        elif self.state is IDLE:
            if not self.responding and now - self._began > KEEP_ALIVE_TIMEOUT_S:
                self.close()
        elif self.state is CLOSING:
            if not self.responding and now - self._began > LINGER_TIMEOUT_S:
                self._transport.abort()
        elif self.state is not CLOSED and now - self._began > limits.read_timeout_s:
            self._reject(SeawayError(f"the request was not complete after {limits.read_timeout_s:g} s", status=408))

    # ---- limits

    def _release(self) -> None:
        """Releases the part of a body that was read."""
        if self._held_bytes > LARGE_BODY_BYTES:
            self.server.trim_due = True
        self.server.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self._pieces = []

    def _release_body(self, request: Request) -> None:
        size = len(request.body)
        if size > LARGE_BODY_BYTES:
            self.server.trim_due = True
        self.server.held_bytes -= size
        request.body = b""

    def _head_too_large(self) -> SeawayError:
        limit = self.server.limits.max_head_bytes
        return SeawayError(f"the request's head is larger than {limit} bytes or {MAX_HEADERS} headers", status=431)

    def _body_too_large(self) -> SeawayError:
        return SeawayError(
            f"the body is larger than {self.server.limits.max_body_bytes} bytes: send fewer examples at once, or "
            "start the server with a larger --max-body-bytes",
            status=413,
        )

    def _memory_full(self) -> SeawayError:
        return SeawayError(
            "the requests in progress use all the memory allowed for bodies (--max-held-bytes): try again", status=503
        )
