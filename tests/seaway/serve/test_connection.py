"""HTTP/1.1 over real sockets, with an application that echoes bodies."""

import asyncio
import contextlib
import socket
import struct
import time

import pytest

from seaway.protocols import tfserving
from seaway.protocols.calls import TEXT, Reply
from seaway.serve.supervisor import connection
from seaway.serve.supervisor.connection import MAX_REFUSED, Limits, ServerState

LIMITS = {"max_body_bytes": 1000, "max_held_bytes": 3000, "max_head_bytes": 2000, "max_connections": 8}
HEAD = b"POST /x?y=%20 HTTP/1.1\r\nHost: h\r\n"
CHUNKS = b"3\r\nabc\r\n2\r\nde\r\n0\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS
# What Java's HttpClient (JDK 17) and curl --http2 put into the first request of a connection
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"


class Application:
    """Echoes the request's body at once, or for /later when `release` is called."""

    def __init__(self):
        self.seen, self.waiting, self.rejected = [], [], []

    def handle(self, request):
        self.seen.append(request)
        if request.target == "/later":
            self.waiting.append(request)
        else:
            request.respond(Reply(200, [b"<", request.body, b">"], TEXT))

    def on_rejection(self, request, reply):
        self.rejected.append((request.method, request.target, reply.status))

    def release(self):
        for request in self.waiting:
            request.respond(Reply(200, b"late", TEXT))


@contextlib.asynccontextmanager
async def serving(**limits):
    application = Application()
    state = ServerState(tfserving.error, Limits(**{**LIMITS, **limits}), application.handle)
    state.on_rejection = application.on_rejection
    server = await asyncio.get_running_loop().create_server(state.connection, "127.0.0.1", 0)
    sweep = asyncio.create_task(state.sweep())
    try:
        yield state, application, server.sockets[0].getsockname()[1]
    finally:
        sweep.cancel()
        server.close()
        for connection in list(state.connections):
            connection.close()
        await asyncio.sleep(0.02)


async def talk(number, sent, expected=1):
    """Sends bytes and returns the responses, each as (status line, headers, body)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(sent)
    responses = [await read_response(reader) for _ in range(expected)]
    writer.close()
    return responses if expected > 1 else responses[0]


async def read_response(reader):
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        return head[0], headers, await reader.readexactly(int(headers.get("content-length", 0)))


def test_a_request_and_its_response():
    async def work():
        async with serving() as (_, application, number):
            status, headers, body = await talk(number, HEAD + b"X-A: 1\r\nX-a: 2\r\nContent-Length: 5\r\n\r\nhello")
            assert (status, body) == ("HTTP/1.1 200 OK", b"<hello>")
            assert headers["content-type"] == "text/plain; charset=utf-8"
            assert headers["x-request-id"] == application.seen[0].id
            assert "connection" not in headers
            [request] = application.seen
            assert (request.method, request.target, request.headers["x-a"]) == ("POST", "/x?y=%20", "1")

    asyncio.run(work())


def test_every_response_has_the_port_s_extra_headers():
    async def work():
        async with serving() as (state, _, number):
            state.extra_headers = b"seaway-pod: seaway-0\r\n"
            for sent in (HEAD + b"\r\n", b"nonsense\r\n\r\n", HEAD + b"Content-Length: 9999\r\n\r\n"):
                _, headers, _ = await talk(number, sent)
                assert headers["seaway-pod"] == "seaway-0"

    asyncio.run(work())


def test_ids_and_traces_are_passed_on():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def work():
        async with serving() as (_, _, number):
            _, headers, _ = await talk(number, HEAD + f"X-Request-Id: mine\r\ntraceparent: {trace}\r\n\r\n".encode())
            assert (headers["x-request-id"], headers["traceparent"]) == ("mine", trace)
            _, headers, _ = await talk(number, HEAD + b"X-Request-Id: no good\r\ntraceparent: 00-zz\r\n\r\n")
            assert headers["x-request-id"] != "no good"
            assert "traceparent" not in headers

    asyncio.run(work())


def test_pipelined_requests_get_responses_in_order():
    async def work():
        async with serving() as (_, application, number):
            sent = b"GET /later HTTP/1.1\r\n\r\n" + b"".join(
                HEAD + b"Content-Length: 2\r\n\r\n%02d" % i for i in range(40)
            )
            responses = asyncio.create_task(talk(number, sent, 41))
            while not application.waiting:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert len(application.seen) == 1  # the others wait for the first
            application.release()
            assert [body for _, _, body in await responses] == [b"late", *(b"<%02d>" % i for i in range(40))]

    asyncio.run(work())


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.2, h2c", b"no/such-thing"])
@pytest.mark.parametrize("connection", [b"Connection: Upgrade", b"Connection: close\r\nConnection: upgrade", b"X: y"])
def test_an_offer_to_upgrade_is_ignored(protocol, connection):
    offer = b"%b\r\nUpgrade: %b\r\n" % (connection, protocol)

    async def work():
        async with serving() as (state, _, number):
            for sent, body in (
                (HEAD + offer + b"Content-Length: 5\r\n\r\nhello", b"<hello>"),
                (HEAD + offer + CHUNKED + b"\r\n", b"<abcde>"),
                (b"GET / HTTP/1.1\r\n" + offer + b"\r\n", b"<>"),
                (b"POST / HTTP/1.0\r\n" + offer + b"Content-Length: 2\r\n\r\nab", b"<ab>"),
            ):
                line, headers, got = await talk(number, sent)
                assert (line.split()[1], got) == ("200", body)
                assert "upgrade" not in headers
                assert headers.get("connection") == ("close" if b"close" in offer or b"1.0" in sent else None)
            assert state.held_bytes == 0

    asyncio.run(work())


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_an_offer_to_upgrade_among_pipelined_requests_however_they_arrive(size):
    sent = b"".join(
        [
            HEAD + H2C + b"Content-Length: 5\r\n\r\nhello",
            HEAD + H2C + CHUNKED + b"\r\n",
            HEAD + b"Content-Length: 2\r\n\r\nab",
            HEAD + H2C + b"\r\n",
            HEAD + H2C + b"Expect: nothing\r\nX-A: \xfc\r\nContent-Length: 2\r\n\r\nyz",
        ]
    )

    async def work():
        async with serving() as (_, application, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            for start in range(0, len(sent), size):
                writer.write(sent[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
            responses = [await read_response(reader) for _ in range(5)]
            assert [body for _, _, body in responses] == [b"<hello>", b"<abcde>", b"<ab>", b"<>", b"<yz>"]
            assert application.seen[-1].headers["x-a"] == "ü"
            writer.close()

    asyncio.run(work())


def test_connect_gets_a_response_and_is_closed():
    async def work():
        async with serving() as (_, application, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"CONNECT h:443 HTTP/1.1\r\n" + H2C + b"\r\nfor another server")
            _, headers, body = await read_response(reader)
            assert (headers["connection"], body, await reader.read()) == ("close", b"<>", b"")
            assert [(request.method, request.target) for request in application.seen] == [("CONNECT", "h:443")]
            writer.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    "target, path",
    [
        (b"http://h:80/v1/x?y=%20#z", "/v1/x?y=%20#z"),
        (b"HTTPS://u@h/", "/"),
        (b"http://h", "/"),
        (b"http://h?x", "/?x"),
        (b"http://h//x", "//x"),
        (b"//h/x", "//h/x"),
        (b"/http://h/x", "/http://h/x"),
        (b"ftp://h/x", "ftp://h/x"),
    ],
)
def test_the_path_of_an_absolute_target_is_used(target, path):
    async def work():
        async with serving() as (_, application, number):
            await talk(number, b"POST " + target + b" HTTP/1.1\r\n\r\n")
            assert application.seen[0].target == path

    asyncio.run(work())


def test_a_trailer_does_not_change_its_request():
    async def work():
        async with serving() as (_, application, number):
            trailer = b"Content-Encoding: gzip\r\nX-Request-Id: other\r\n\r\n"
            _, headers, body = await talk(number, HEAD + CHUNKED + trailer)
            assert (body, application.seen[0].headers) == (b"<abcde>", {"host": "h", "transfer-encoding": "chunked"})
            assert headers["x-request-id"] != "other"

    asyncio.run(work())


def test_a_trailer_that_never_ends():
    async def work():
        async with serving() as (state, application, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(HEAD + CHUNKED + b"X: ")
            responded = asyncio.create_task(read_response(reader))
            while not responded.done():
                writer.write(b"x" * 100)
                await asyncio.sleep(0.001)
            line, headers, _ = await responded
            assert (line.split()[1], headers["connection"]) == ("431", "close")
            writer.close()
            assert (application.seen, state.held_bytes) == ([], 0)

    asyncio.run(work())


def test_a_list_on_several_lines_is_joined():
    async def work():
        async with serving() as (_, application, number):
            await talk(number, HEAD + b"Content-Encoding: gzip\r\nContent-Encoding: deflate\r\n\r\n")
            assert application.seen[0].headers["content-encoding"] == "gzip, deflate"

    asyncio.run(work())


def test_head_closing_and_chunks():
    async def work():
        async with serving() as (_, _, number):
            chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            _, _, body = await talk(number, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            assert body == b"<abcde>"
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
            whole = await reader.read()  # until the server closes
            writer.close()
            assert b"content-length: 2\r\n" in whole
            assert b"connection: close\r\n" in whole
            assert whole.endswith(b"\r\n\r\n")

    asyncio.run(work())


def test_keep_alive_of_http_1_0():
    async def work():
        async with serving() as (_, _, number):
            sent = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
            responses = await talk(number, sent * 2, 2)
            assert [headers["connection"] for _, headers, _ in responses] == ["keep-alive"] * 2
            assert (await talk(number, b"GET / HTTP/1.0\r\n\r\n"))[1]["connection"] == "close"

    asyncio.run(work())


def test_expect_100_continue():
    async def work():
        async with serving() as (_, _, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert (await read_response(reader))[2] == b"<abc>"
            writer.close()
            old = HEAD.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
            assert (await talk(number, old))[2] == b"<abc>"
            sent = HEAD + H2C + b"Expect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc"
            assert [line.split()[1] for line, _, _ in await talk(number, sent, 2)] == ["100", "200"]

    asyncio.run(work())


@pytest.mark.parametrize(
    "sent, status, said",
    [
        (HEAD + b"Content-Length: 1001\r\n\r\n", 413, "--max-body-bytes"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, 413, "--max-body-bytes"),
        (HEAD + b"X: " + b"x" * 3000, 431, "2000 bytes"),
        (HEAD + b"X: " + b"x" * 3000 + b"\r\n\r\n", 431, "2000 bytes"),
        (HEAD + b"".join(b"X%d: 1\r\n" % i for i in range(150)) + b"\r\n", 431, "100 headers"),
        (b"GET " + b"/x" * 3000, 431, "2000 bytes"),
        (b"no HTTP at all\r\n\r\n", 400, "not HTTP/1.1"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "not HTTP/1.1"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, "not HTTP/1.1"),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "not HTTP/1.1"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS + b"\r\n", 501, "gzip, chunked"),
        (HEAD + H2C + b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n", 501, "gzip, chunked"),
        (HEAD + H2C + b"Content-Length: 1001\r\n\r\n", 413, "--max-body-bytes"),
        (HEAD + H2C + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n", 400, "not HTTP/1.1"),
        (HEAD + H2C + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "not HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not HTTP/1.1"),
    ],
)
def test_requests_that_are_rejected_before_they_are_read(sent, status, said):
    async def work():
        async with serving() as (state, application, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(sent)
            line, headers, body = await read_response(reader)
            assert int(line.split()[1]) == status
            assert said in body.decode()
            assert headers["connection"] == "close"
            assert await reader.read() == b""
            writer.close()
            assert application.seen == []
            [(method, target, recorded)] = application.rejected
            assert recorded == status
            assert not target or sent.startswith(f"{method} {target}".encode())
            assert (await talk(number, HEAD + b"\r\n"))[2] == b"<>"  # others still work
            assert state.held_bytes == 0

    asyncio.run(work())


def test_the_memory_of_bodies_is_limited_and_released():
    async def work():
        async with serving() as (state, application, number):
            later = b"POST /later HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
            waiting = [asyncio.create_task(talk(number, later)) for _ in range(3)]
            while len(application.waiting) < 3:
                await asyncio.sleep(0.01)
            assert state.held_bytes == 2700
            line, headers, _ = await talk(number, later)
            assert (line.split()[1], headers["retry-after"]) == ("503", "1")
            assert application.rejected == [("POST", "/later", 503)]
            application.release()
            assert [(await task)[2] for task in waiting] == [b"late"] * 3
            assert state.held_bytes == 0

    asyncio.run(work())


def test_more_connections_than_allowed():
    async def work():
        async with serving() as (state, application, number):
            idle = [await asyncio.open_connection("127.0.0.1", number) for _ in range(8)]
            while len(state.connections) < 8:
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            line, headers, _ = await read_response(reader)
            assert (line.split()[1], headers["retry-after"]) == ("503", "1")
            assert application.rejected == [("", "", 503)]
            writer.close()
            for _, one in idle:
                one.close()
            while state.connections:
                await asyncio.sleep(0.01)
            assert (await talk(number, HEAD + b"\r\n"))[2] == b"<>"

    asyncio.run(work())


def test_a_refused_connection_reads_its_response_although_it_sends_a_body():
    async def work():
        async with serving(max_connections=1) as (state, application, number):
            _, idle = await asyncio.open_connection("127.0.0.1", number)
            while not state.connections:
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            await asyncio.sleep(0.05)  # the response is on its way, and the connection closed for the server's part
            for _ in range(100):
                writer.write(b"x" * (1 << 16))
                await writer.drain()
            line, *_ = await read_response(reader)
            assert line.split()[1] == "503"
            assert await reader.read() == b""
            writer.close()
            others = [await asyncio.open_connection("127.0.0.1", number) for _ in range(MAX_REFUSED + 1)]
            for reader, _ in others:
                assert (await read_response(reader))[0].split()[1] == "503"
            assert (len(state.connections), len(state.refused)) == (1, MAX_REFUSED)
            for _, one in [*others, (None, idle)]:
                one.close()
            while state.connections or state.refused:
                await asyncio.sleep(0.01)
            assert len(application.rejected) == MAX_REFUSED + 2

    asyncio.run(work())


@pytest.mark.parametrize("sent", [b"P", HEAD, HEAD + b"Content-Length: 5\r\n\r\nhel"])
def test_a_request_that_never_ends(sent):
    async def work():
        async with serving(read_timeout_s=0.2) as (state, application, number):
            line, headers, _ = await talk(number, sent)
            assert (line.split()[1], headers["connection"]) == ("408", "close")
            assert [status for *_, status in application.rejected] == [408]
            assert state.held_bytes == 0

    asyncio.run(work())


def test_a_client_that_does_not_read_is_disconnected():
    async def work():
        async with serving(read_timeout_s=0.2, max_body_bytes=1 << 24, max_held_bytes=1 << 28) as (state, _, number):
            _, writer = await asyncio.open_connection("127.0.0.1", number, limit=1)
            body = b"x" * (1 << 24)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                writer.write((HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body) * 2)
                async with asyncio.timeout(30):
                    while not state.connections:
                        await asyncio.sleep(0.01)
                    while state.connections:
                        await asyncio.sleep(0.05)
            writer.transport.abort()
            assert state.connections == set()
            assert state.held_bytes == 0

    asyncio.run(work())


def test_a_client_that_disconnects_early_leaves_no_memory_in_use():
    async def work():
        async with serving() as (state, application, number):
            _, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"POST /later HTTP/1.1\r\nContent-Length: 9\r\n\r\n" + b"x" * 9)
            while not application.waiting:
                await asyncio.sleep(0.01)
            linger = struct.pack("ii", 1, 0)  # a reset, so the client does not read either
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            while state.connections:
                await asyncio.sleep(0.01)
            [request] = application.waiting
            assert request.abandoned
            assert request.body == b""  # queues may keep the request for long
            application.release()  # harmless
            assert state.held_bytes == 0

    asyncio.run(work())


def test_a_half_closed_connection_still_gets_its_response():
    async def work():
        async with serving() as (_, _, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(HEAD + b"Content-Length: 2\r\n\r\nab")
            writer.write_eof()
            assert (await read_response(reader))[2] == b"<ab>"
            assert await reader.read() == b""
            writer.close()

    asyncio.run(work())


def test_the_time_of_a_pipelined_request_counts_from_its_first_byte():
    async def work():
        async with serving() as (_, application, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            second = HEAD + b"Content-Length: 5\r\n\r\nhello"
            writer.write(b"POST /later HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + second[:-3])
            while not application.waiting:
                await asyncio.sleep(0.01)
            before_the_first_response = time.perf_counter()
            application.release()
            assert (await read_response(reader))[2] == b"late"
            writer.write(second[-3:])
            assert (await read_response(reader))[2] == b"<hello>"
            assert application.seen[1].began < before_the_first_response
            writer.close()

    asyncio.run(work())


def test_empty_lines_do_not_keep_an_idle_connection_open(monkeypatch):
    monkeypatch.setattr(connection, "KEEP_ALIVE_TIMEOUT_S", 0.5)

    async def work():
        async with serving() as (_, _, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            async with asyncio.timeout(10):
                while not reader.at_eof():
                    writer.write(b"\r\n")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.1)
            writer.close()

    asyncio.run(work())
