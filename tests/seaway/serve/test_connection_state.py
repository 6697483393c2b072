"""The states of a connection: bytes go in, a transport that only records takes what comes out."""

import time

import pytest

from seaway.protocols import tfserving
from seaway.protocols.calls import TEXT, Reply
from seaway.serve.supervisor import connection
from seaway.serve.supervisor.connection import (
    BODY,
    CLOSED,
    CLOSING,
    HEAD,
    IDLE,
    MAX_PIPELINED,
    Connection,
    Limits,
    ServerState,
)

GET = b"GET / HTTP/1.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


class Transport:
    """Records writes and the calls that change the connection."""

    def __init__(self):
        self.written, self.calls, self.unsent = b"", [], 0

    def write(self, data):
        self.written += data

    def writelines(self, pieces):
        self.written += b"".join(pieces)

    def get_write_buffer_size(self):
        return self.unsent

    def get_extra_info(self, name):
        return None

    def __getattr__(self, name):
        return lambda: self.calls.append(name)


def connected(respond=True, **limits):
    """A connection, its transport, and the requests that it handed over; with `respond` each has its response."""
    requests = []

    def handle(request):
        requests.append(request)
        if respond:
            request.respond(Reply(200, b"ok", TEXT))

    state = ServerState(tfserving.error, Limits(**{"max_body_bytes": 100, **limits}), handle)
    made, transport = Connection(state), Transport()
    made.connection_made(transport)
    return made, transport, requests


def statuses(transport):
    return [int(part[:3]) for part in transport.written.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "sent, state",
    [
        (b"", IDLE),
        (b"\r\n", IDLE),  # an empty line before a request is none
        (b"G", HEAD),
        (GET[:-2], HEAD),
        (GET, IDLE),
        (POST, BODY),
        (POST + b"hell", BODY),
        (POST + b"hello", IDLE),
        (POST + b"helloPO", HEAD),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", BODY),  # in a trailer
        (UPGRADE[:-2], HEAD),
        (UPGRADE, IDLE),
        (UPGRADE + b"G", HEAD),
        (b"no HTTP\r\n", CLOSING),
        (b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", CLOSING),
        (b"GET / HTTP/1.0\r\n\r\n", CLOSING),
        (b"CONNECT h:1 HTTP/1.1\r\n\r\nmore", CLOSING),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_state_follows_from_what_was_received(sent, state, size):
    made, *_ = connected()
    for start in range(0, len(sent), size):
        made.data_received(sent[start : start + size])
    assert made.state is state
    assert made.busy == (state is not IDLE)


def test_a_connection_that_closes_reads_no_more():
    made, transport, requests = connected()
    made.data_received(b"nonsense\r\n\r\n")
    made.data_received(GET)
    assert (statuses(transport), requests, transport.calls) == ([400], [], ["write_eof"])
    made.connection_lost(None)
    made.data_received(GET)
    made.close()
    assert (made.state, requests) == (CLOSED, [])


def test_requests_behind_the_last_response_are_not_handled():
    made, transport, requests = connected()
    made.server.draining = True
    made.data_received(GET * 3)
    assert (statuses(transport), len(requests), made.state) == ([200], 1, CLOSING)
    assert transport.calls.count("close") == 1


def test_a_rejection_waits_for_the_response_before():
    made, transport, _ = connected(respond=False)
    made.data_received(GET)
    made.data_received(b"nonsense\r\n\r\n")
    assert (statuses(transport), made.state) == ([], CLOSING)
    made._current.respond(Reply(200, b"ok", TEXT))
    assert (statuses(transport), transport.calls[-1]) == ([200], "close")


def test_the_end_of_what_a_client_sends():
    made, transport, requests = connected(respond=False)
    assert made.eof_received() is False
    made, transport, requests = connected(respond=False)
    made.data_received(GET + POST)
    assert made.eof_received() is True  # keeps the socket for the response
    assert made.state is CLOSING
    requests[0].respond(Reply(200, b"ok", TEXT))
    assert (statuses(transport), transport.calls[-1]) == ([200], "close")


def test_a_client_that_does_not_read_gets_no_further_request_handled():
    made, transport, requests = connected(respond=False)
    made.data_received(GET)
    made.pause_writing()
    made.data_received(GET)
    assert (len(requests), made.state, made.busy) == (1, IDLE, True)
    transport.calls.clear()
    requests[0].responded = True
    made._current = None
    made.resume_writing()
    assert (len(requests), transport.calls) == (2, ["resume_reading"])


def test_reading_pauses_behind_many_requests():
    made, transport, requests = connected(respond=False)
    made.data_received(GET * (MAX_PIPELINED + 1))
    assert transport.calls[-1:] != ["pause_reading"]
    made.data_received(GET)
    assert (len(requests), transport.calls[-1]) == (1, "pause_reading")


@pytest.mark.parametrize(
    "sent, after_s, status, called",
    [
        (b"", connection.KEEP_ALIVE_TIMEOUT_S, [], ["close"]),
        (GET, connection.KEEP_ALIVE_TIMEOUT_S, [200], ["close"]),
        (b"G", 30, [408], ["write_eof"]),
        (POST + b"hell", 30, [408], ["write_eof"]),
        (b"nonsense\r\n\r\n", connection.LINGER_TIMEOUT_S, [400], ["write_eof", "abort"]),
    ],
)
def test_the_time_limit_of_each_state(sent, after_s, status, called):
    made, transport, _ = connected()
    made.data_received(sent)
    began = time.perf_counter()
    made.check(began + after_s - 5)
    assert [call for call in transport.calls if call != "resume_reading"] == called[:-1]
    made.check(began + after_s + 1)
    assert [call for call in transport.calls if call != "resume_reading"] == called
    assert statuses(transport) == status


def test_a_request_is_abandoned_once_its_client_is_gone():
    made, _, requests = connected(respond=False)
    made.data_received(GET)
    assert not requests[0].abandoned
    made.connection_lost(None)
    assert (requests[0].abandoned, made.state) == (True, CLOSED)
