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
from http import HTTPStatus
from typing import cast

import httptools

from seaway.errors import SeawayError
from seaway.platform import memory
from seaway.protocols.calls import Reply
from seaway.serve.decompression import SUPPORTED
from seaway.serve.supervisor.cors import VARY

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


def _path(target: str) -> str:
    """The path and query of a target in absolute form (http://host/path?query); other targets unchanged."""
    origin = _ABSOLUTE.match(target)
    return "/" + target[origin.end() :] if origin else target


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
        *("key", "method", "protocol", "responded", "target", "trace"),
    )

    def __init__(self, connection: "Connection", method: str, target: str, headers: dict[str, str], began: float):
        self.connection, self.method, self.target, self.headers = connection, method, target, headers
        self.body, self.keep_alive, self.responded, self.protocol, self.key = b"", True, False, "", ""
        self.began, self.complete = began, time.perf_counter()
        client_id = headers.get("x-request-id")
        self.id = client_id if client_id and _ID.fullmatch(client_id) else f"{_prefix}-{next(_ids):x}"
        parent = headers.get("traceparent")
        self.trace = parent if parent and _TRACE.fullmatch(parent) else ""

    @property
    def abandoned(self) -> bool:
        """Whether nobody is waiting for the response any more."""
        return self.responded or self.connection.closed

    def respond(self, reply: Reply) -> None:
        """Sends the reply, unless one was already sent or the client has disconnected."""
        if not self.responded:
            self.responded = True
            self.connection.send(self, reply)


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
    on_response: Callable[[Request, Reply], None] = lambda request, reply: None
    on_rejection: Callable[[Request, Reply], None] = lambda request, reply: None
    connections: "set[Connection]" = field(default_factory=set)
    refused: "set[Connection]" = field(default_factory=set)  # above `max_connections`, while they read their response
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
            for connection in [*self.connections, *self.refused]:
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
        self._server = server
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None  # the request that the application is working on
        self._began = time.perf_counter()  # when the request being read began, or the connection became idle
        self._reading = self._in_head = False
        self._upgrade_offered = False  # whether the request's head offers to upgrade to another protocol
        self._url, self._headers, self._head_bytes = b"", dict[str, str](), 0
        self._pieces: list[bytes] = []
        self._body_bytes = self._held_bytes = 0
        self._unsent = 0  # bytes that the client had not read at the last check; 0 if it reads them all
        self._unsent_since = 0.0
        self._stalled = False
        self.closed = self._closing = False

    @property
    def busy(self) -> bool:
        """Whether a request is being read, or has no response yet."""
        return self._reading or self._current is not None or bool(self._waiting)

    @property
    def client(self) -> str:
        """The client's address."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.connections) < self._server.limits.max_connections:
            self._server.connections.add(self)
            return
        self._reject(SeawayError("too many connections: try again shortly", status=503))
        if len(self._server.refused) < MAX_REFUSED:
            self._server.refused.add(self)
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self.closed or self._closing:
            return
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
                self._reject(cause)
            return
        if self._reading:
            if self._headers is body and self._body_bytes == size:  # a trailer or a chunk header of the same body
                self._head_bytes += len(data)
            if self._head_bytes > self._server.limits.max_head_bytes:
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
            if not self._upgrade_offered:
                # CONNECT: the remaining bytes are for another server, and the response closes the connection
                self._closing = True
                return
            self._upgrade_offered = False
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
        self._closing = True
        return self._current is not None or bool(self._waiting)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._server.connections.discard(self)
        self._server.refused.discard(self)
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
        if not self._reading:  # else the head is parsed again, see _feed
            self._began = time.perf_counter()
        self._reading = self._in_head = True
        self._url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which is ignored
        headers, key, text = self._headers, name.decode("latin-1").lower(), value.decode("latin-1")
        if len(headers) >= MAX_HEADERS:
            raise self._head_too_large()
        first = headers.setdefault(key, text)
        if first is not text and key in _LISTS:
            headers[key] = f"{first}, {text}"

    def on_headers_complete(self) -> None:
        limits = self._server.limits
        self._in_head = False
        headers = self._headers
        if "upgrade" in headers and self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            self._upgrade_offered = True  # the head is parsed again, see _feed
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
        if self._server.held_bytes + length > limits.max_held_bytes:
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
        self._server.held_bytes += len(body)
        if self._body_bytes > self._server.limits.max_body_bytes:
            raise self._body_too_large()
        if self._server.held_bytes > self._server.limits.max_held_bytes:
            raise self._memory_full()

    def on_message_complete(self) -> None:
        if self._upgrade_offered:
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
        self._reading = False
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
        while self._waiting and self._current is None and not self._stalled and not self.closed:
            self._current = self._waiting.popleft()
            self._server.handle(self._current)
        if not self._stalled and not self.closed and len(self._waiting) <= MAX_PIPELINED:
            self._transport.resume_reading()

    def send(self, request: Request, reply: Reply) -> None:
        """Called only by `request.respond`."""
        self._server.on_response(request, reply)
        if self.closed or request is not self._current:
            return
        self._current = None
        self._release_body(request)
        if not self._reading:  # the time of a pipelined request counts from its own first byte
            self._began = time.perf_counter()
        last = not request.keep_alive or self._server.draining or (self._closing and not self._waiting)
        self._write(request, reply, close=last)
        if last:
            self.close()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _reject(self, error: SeawayError) -> None:
        """Rejects a request that could not be read, and stops reading: responds with the error, unless an earlier
        response is outstanding, which then closes the connection."""
        self._closing = True
        self._release()
        if self.responding or self.closed:  # the response in progress closes the connection
            return
        self._write_rejection(error)
        self._began = time.perf_counter()
        self._transport.write_eof()  # not close(): further data would then cause a reset before the client reads

    def _write_rejection(self, error: SeawayError) -> None:
        reply = self._server.error_reply(error)
        target, headers = (self._url.decode("latin-1"), self._headers) if self._reading else ("", {})
        method = self._parser.get_method().decode("latin-1") if target else ""
        self._server.on_rejection(Request(self, method, _path(target), headers, self._began), reply)
        self._write(None, reply, close=True)

    def _write(self, request: Request | None, reply: Reply, close: bool) -> None:
        body = [reply.body] if isinstance(reply.body, bytes) else reply.body
        head = [
            b"HTTP/1.1 %d %b\r\n" % (reply.status, _PHRASES.get(reply.status, "").encode()),
            self._server.date(),
            self._server.extra_headers,
            b"content-type: %b\r\ncontent-length: %d\r\n" % (reply.type.encode("latin-1"), sum(map(len, body))),
        ]
        if self._server.cors_headers:
            headers = self._headers if request is None else request.headers
            head.append(self._server.cors_headers.get(headers.get("origin", ""), VARY))
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
        self._closing = True
        self._transport.close()

    def check(self, now: float) -> None:
        """Closes the connection if its client has exceeded a time limit."""
        limits = self._server.limits
        if self._stalled:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent, self._unsent_since = unsent, now
            elif now - self._unsent_since > limits.read_timeout_s:
                self._transport.abort()
        elif self._reading and not self._closing:
            if now - self._began > limits.read_timeout_s:
                self._reject(SeawayError(f"the request was not complete after {limits.read_timeout_s:g} s", status=408))
        elif self._closing:
            if not self.responding and now - self._began > LINGER_TIMEOUT_S:
                self._transport.abort()
        elif not self.busy and now - self._began > KEEP_ALIVE_TIMEOUT_S:
            self.close()

    # ---- limits

    def _release(self) -> None:
        """Releases the part of a body that was read."""
        if self._held_bytes > LARGE_BODY_BYTES:
            self._server.trim_due = True
        self._server.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self._pieces = []

    def _release_body(self, request: Request) -> None:
        size = len(request.body)
        if size > LARGE_BODY_BYTES:
            self._server.trim_due = True
        self._server.held_bytes -= size
        request.body = b""

    def _head_too_large(self) -> SeawayError:
        limit = self._server.limits.max_head_bytes
        return SeawayError(f"the request's head is larger than {limit} bytes or {MAX_HEADERS} headers", status=431)

    def _body_too_large(self) -> SeawayError:
        return SeawayError(
            f"the body is larger than {self._server.limits.max_body_bytes} bytes: send fewer examples at once, or "
            "start the server with a larger --max-body-bytes",
            status=413,
        )

    def _memory_full(self) -> SeawayError:
        return SeawayError(
            "the requests in progress use all the memory allowed for bodies (--max-held-bytes): try again", status=503
        )
