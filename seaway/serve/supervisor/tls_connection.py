"""TLS between a socket and its `Connection`: a protocol for the one, a transport for the other.

asyncio's own tells nobody of handshakes that have not finished, so `max_connections` would not bound them. Here:

    handshakes      at most MAX_HANDSHAKES at once; a further one ends the oldest. Under a flood of clients that never
                    finish, one that does so within a round trip still gets in
    time            one that has not finished after HANDSHAKE_TIMEOUT_S, or `read_timeout_s` if less, is ended
    memory          a response is encrypted as the client reads it, CHUNK_BYTES ahead
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

from seaway.serve.supervisor.connection import Connection, ServerState
from seaway.serve.supervisor.tls import HANDSHAKE_TIMEOUT_S

MAX_HANDSHAKES = 512
CHUNK_BYTES = 128 << 10
READ_BYTES = 64 << 10  # more than a record

_PLAIN_BODY = b"this port speaks HTTPS: use https:// instead of http://\n"
_PLAIN_REPLY = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_PLAIN_BODY), _PLAIN_BODY)
)


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """One client; its `Connection` exists once the handshake has finished."""

    def __init__(self, server: ServerState, context: ssl.SSLContext) -> None:
        self._server = server
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._encrypted, server_side=True)
        self._socket: asyncio.Transport
        self._connection: Connection | None = None
        self._began = time.perf_counter()
        self._backlog: deque[bytes | memoryview] = deque()  # of plain data
        self._backlog_bytes = 0
        self._blocked = False  # whether the socket takes no more
        self._paused = False  # whether the connection takes no more
        self._began_handshake = False
        self._input_ended = False
        self._half_closing = self._closing = False  # sends what was written; then ends its half, or closes
        self._finished = False  # whether it has done so

    # ---- asyncio.Protocol, for the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        handshakes = self._server.handshakes
        if len(handshakes) >= MAX_HANDSHAKES:
            next(iter(handshakes)).abort(failed=True)
        handshakes[self] = None

    def data_received(self, data: bytes) -> None:
        if self._closing or self._half_closing:
            return
        self._received.write(data)
        if self._connection is not None or self._handshake():
            self._read()

    def eof_received(self) -> bool:
        if self._connection is None:
            return False
        self._input_ended = True
        return self._paused or self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        if self._connection is not None:
            self._connection.connection_lost(error)
        self._closing = self._finished = True
        self._backlog.clear()
        self._end_handshake(failed=self._began_handshake)  # a client that only connects, as probes do, is no failure

    def pause_writing(self) -> None:
        self._blocked = True
        if self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._blocked = False
        self._send()
        if not self._blocked and self._connection is not None:
            self._connection.resume_writing()

    # ---- handshake

    def _handshake(self) -> bool:
        """Continues it; whether it has finished."""
        self._began_handshake = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the client why
            if error.reason == "HTTP_REQUEST":
                self._socket.write(_PLAIN_REPLY)
            self._end_handshake(failed=True)
            self._closing = self._finished = True
            self._socket.close()
            return False
        self._end_handshake()
        self._flush()
        self._connection = Connection(self._server)
        self._connection.connection_made(self)
        return True

    def _end_handshake(self, failed: bool = False) -> None:
        if self in self._server.handshakes:
            del self._server.handshakes[self]
            self._server.handshake_failures += failed

    def check(self, now: float) -> None:
        """Ends the handshake if it has exceeded its time."""
        if now - self._began > min(HANDSHAKE_TIMEOUT_S, self._server.limits.read_timeout_s):
            self.abort(failed=True)

    # ---- reading

    def _read(self) -> None:
        connection = cast(Connection, self._connection)
        try:
            while self._received.pending and not (self._paused or self._closing or self._half_closing):
                if data := self._tls.read(READ_BYTES):
                    connection.data_received(data)
                else:  # the client has ended its half
                    self._received.read()  # nothing may follow
                    if not connection.eof_received():
                        self.close()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._socket.resume_reading()
            asyncio.get_running_loop().call_soon(self._continue)

    def _continue(self) -> None:
        """Reads what had arrived before a pause."""
        if self._closing:
            return
        self._read()
        if self._input_ended and not self._paused and not cast(Connection, self._connection).eof_received():
            self.close()

    # ---- asyncio.Transport, for the connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if not (self._closing or self._half_closing):
            pieces = [memoryview(data).cast("B") for data in list_of_data]
            self._backlog.extend(pieces)
            self._backlog_bytes += sum(map(len, pieces))
            self._send()

    def _send(self) -> None:
        """Encrypts and sends as much as the socket takes; then closes, if that is due."""
        backlog = self._backlog
        while backlog and not self._blocked:
            size, pieces = 0, []
            while backlog and size < CHUNK_BYTES:
                piece = backlog.popleft()
                if len(piece) > CHUNK_BYTES - size:
                    backlog.appendleft(piece[CHUNK_BYTES - size :])
                    piece = piece[: CHUNK_BYTES - size]
                pieces.append(piece)
                size += len(piece)
            self._backlog_bytes -= size
            try:
                self._encrypt(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            except ssl.SSLError:
                self.abort()
                return
            self._flush()
        if not backlog and (self._closing or self._half_closing) and not self._finished:
            self._finish()

    def _encrypt(self, data: bytes | memoryview) -> None:
        sent = 0
        while sent < len(data):
            sent += self._tls.write(data[sent:] if sent else data)

    def _flush(self) -> None:
        if self._encrypted.pending:
            self._socket.write(self._encrypted.read())

    def _finish(self) -> None:
        """Ends TLS, and then the socket or the half of it that sends."""
        self._finished = True
        with contextlib.suppress(ssl.SSLError):  # as always: the client's own end has not arrived
            self._tls.unwrap()
        self._flush()
        if self._closing:
            self._socket.close()
        else:
            self._socket.write_eof()

    def close(self) -> None:
        """Closes after sending what was written."""
        if not self._closing:
            self._closing = True
            if self._finished:
                self._socket.close()
            else:
                self._send()

    def write_eof(self) -> None:
        """Ends what is sent, after what was written; ignores what arrives until the client ends it."""
        if not (self._closing or self._half_closing):
            self._half_closing = True
            self._send()

    def abort(self, failed: bool = False) -> None:
        """`failed`: whether to count this as a failed handshake."""
        self._end_handshake(failed)
        self._socket.abort()

    def get_write_buffer_size(self) -> int:
        return self._backlog_bytes + self._socket.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.get_extra_info(name, default)
