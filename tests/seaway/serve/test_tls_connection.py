"""HTTP over TLS on real sockets of uvloop, which the server uses, with an application that echoes bodies."""

import asyncio
import contextlib
import socket
import ssl
import sys
from pathlib import Path

import pytest
import uvloop

from seaway.protocols import tfserving
from seaway.protocols.calls import TEXT, Reply
from seaway.serve.supervisor import tls, tls_connection
from seaway.serve.supervisor.connection import Limits, ServerState
from seaway.serve.supervisor.tls_connection import TlsConnection

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))  # certificates.py
from certificates import Authority

LIMITS = {"max_body_bytes": 1 << 24, "max_connections": 8}
HEAD = b"POST /x HTTP/1.1\r\nHost: h\r\n"
GET = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("server")


@pytest.fixture
def client(authority):
    return ssl.create_default_context(cafile=str(authority.ca))


class Application:
    """Echoes the request's body, for /later when `release` is called."""

    def __init__(self):
        self.waiting = []

    def handle(self, request):
        if request.target == "/later":
            self.waiting.append(request)
        else:
            request.respond(Reply(200, [b"<", request.body, b">"], TEXT))

    def release(self):
        for request in self.waiting:
            request.respond(Reply(200, b"late", TEXT))


@contextlib.asynccontextmanager
async def serving(pair, client_ca=None, **limits):
    credentials = tls.read(tls.Files(pair.cert, pair.key, client_ca))
    application = Application()
    state = ServerState(tfserving.error, Limits(**{**LIMITS, **limits}), application.handle)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TlsConnection(state, credentials.context), "127.0.0.1", 0)
    sweep = asyncio.create_task(state.sweep())
    try:
        yield state, application, server.sockets[0].getsockname()[1]
    finally:
        sweep.cancel()
        server.close()
        for each in (*state.connections, *state.handshakes):
            each.close()
        await until(lambda: not state.connections and not state.handshakes)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def connect(number, client, **options):
    return await asyncio.open_connection("127.0.0.1", number, ssl=client, server_hostname="localhost", **options)


async def read_response(reader):
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def talk(number, client, sent):
    reader, writer = await connect(number, client)
    writer.write(sent)
    response = await read_response(reader)
    writer.close()
    return response


async def read_all(reader):
    """Until the server ends; a reset counts as an end."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            return await reader.read()
        return b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_and_responses(pair, client, version):
    client.maximum_version = version
    large = bytes(range(256)) * (1 << 15)  # 8 MiB: many records, and more than sockets take at once

    async def work():
        async with serving(pair) as (state, _, number):
            reader, writer = await connect(number, client, limit=1 << 16)
            assert writer.get_extra_info("ssl_object").version() == version.name.replace("v1_", "v1.")
            for body in (b"", b"hello", large):
                writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                status, headers, echoed = await read_response(reader)
                assert (status, echoed == b"<%b>" % body, "connection" in headers) == (200, True, False)
            writer.write((HEAD + b"Content-Length: 2\r\n\r\nab") * 100)  # pipelined
            assert [(await read_response(reader))[2] for _ in range(100)] == [b"<ab>"] * 100
            assert state.held_bytes == 0
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert (await read_response(reader))[1]["connection"] == "close"
            assert await reader.read() == b""  # closed in TLS, too, or this raises
            writer.close()
            assert (state.handshake_failures, len(state.handshakes)) == (0, 0)

    uvloop.run(work())


def test_a_request_that_arrives_byte_by_byte(pair, client):
    async def work():
        async with serving(pair) as (_, _, number):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
            reader, writer = await asyncio.open_connection("127.0.0.1", number)

            async def step(action):
                while True:
                    try:
                        result, done = action(), True
                    except ssl.SSLWantReadError:
                        result, done = None, False
                    for byte in outgoing.read():
                        writer.write(bytes([byte]))
                        await asyncio.sleep(0)
                    if done:
                        return result
                    incoming.write(await reader.read(7))

            await step(session.do_handshake)
            await step(lambda: session.write(HEAD + b"Content-Length: 5\r\n\r\nhello"))
            response = b""
            while not response.endswith(b"<hello>"):
                response += await step(lambda: session.read(1000))
            writer.close()

    uvloop.run(work())


@pytest.mark.parametrize("sent, status", [(b"no HTTP\r\n\r\n", 400), (HEAD + b"Content-Length: 99999999\r\n\r\n", 413)])
def test_a_rejected_client_reads_its_response_although_it_goes_on_sending(pair, client, sent, status):
    async def work():
        async with serving(pair) as (_, _, number):
            reader, writer = await connect(number, client)
            writer.write(sent)
            for _ in range(50):
                writer.write(b"x" * (1 << 16))
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
            assert (await read_response(reader))[0] == status
            assert await reader.read() == b""
            writer.close()

    uvloop.run(work())


def test_more_connections_than_allowed(pair, client):
    async def work():
        async with serving(pair, max_connections=2) as (state, _, number):
            idle = [await connect(number, client) for _ in range(2)]
            await until(lambda: len(state.connections) == 2)
            assert (await talk(number, client, b""))[0] == 503
            for _, writer in idle:
                writer.close()
            await until(lambda: not state.connections)
            assert (await talk(number, client, GET))[0] == 200

    uvloop.run(work())


def blocking(number, client):
    """A client of the standard library, for those that read late: uvloop's own may not."""
    plain = socket.create_connection(("127.0.0.1", number), timeout=20)
    return client.wrap_socket(plain, server_hostname="localhost")


def test_a_client_that_does_not_read_is_disconnected(pair, client):
    async def work():
        async with serving(pair, read_timeout_s=0.2) as (state, _, number):
            one = await asyncio.to_thread(blocking, number, client)
            body = b"x" * (1 << 24)
            await asyncio.to_thread(one.sendall, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await until(lambda: not state.connections)
            assert (state.connections, state.held_bytes) == (set(), 0)
            one.close()

    uvloop.run(work())


def test_a_large_response_is_encrypted_as_the_client_reads_it(pair, client):
    async def work():
        async with serving(pair) as (state, _, number):
            one = await asyncio.to_thread(blocking, number, client)
            body = b"x" * (1 << 24)
            await asyncio.to_thread(one.sendall, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await until(lambda: any(each._stalled for each in state.connections))
            [connection] = state.connections
            transport = connection._transport
            assert transport._socket.get_write_buffer_size() < 4 * tls_connection.CHUNK_BYTES
            assert transport.get_write_buffer_size() > 4 << 20

            def read():
                with one, one.makefile("rb") as file:
                    while file.readline() != b"\r\n":
                        pass
                    return file.read(len(body) + 2)

            assert await asyncio.to_thread(read) == b"<%b>" % body

    uvloop.run(work())


def test_a_client_that_ends_its_half_still_gets_its_response(pair, client):
    async def work():
        async with serving(pair) as (_, application, number):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    session.do_handshake()
                    break
                writer.write(outgoing.read())
                incoming.write(await reader.read(1 << 16))
            session.write(b"GET /later HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ssl.SSLWantReadError):
                session.unwrap()
            writer.write(outgoing.read())
            await until(lambda: application.waiting)
            application.release()
            incoming.write(await read_all(reader))
            incoming.write_eof()
            response = b""
            with contextlib.suppress(ssl.SSLZeroReturnError):
                while piece := session.read(1000):
                    response += piece
            assert response.endswith(b"\r\n\r\nlate")
            writer.close()

    uvloop.run(work())


# ---- handshakes


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"SSH-2.0-x\r\n", bytes(1000), b"\x80\x2e\x01"]
)
def test_garbage_instead_of_a_handshake(pair, client, garbage):
    async def work():
        async with serving(pair) as (state, _, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(garbage)
            if garbage == b"\x80\x2e\x01":  # the start of something longer
                writer.write_eof()
            assert b"HTTP" not in await read_all(reader)
            writer.close()
            assert (state.handshake_failures, state.handshakes) == (1, {})
            assert (await talk(number, client, GET))[0] == 200

    uvloop.run(work())


def test_plain_http_gets_a_plain_answer(pair):
    async def work():
        async with serving(pair) as (state, _, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            status, _, body = await read_response(reader)
            assert (status, body) == (400, b"this port speaks HTTPS: use https:// instead of http://\n")
            assert await read_all(reader) == b""
            writer.close()
            assert state.handshake_failures == 1

    uvloop.run(work())


def test_a_handshake_that_never_finishes_is_ended(pair, client):
    async def work():
        async with serving(pair, read_timeout_s=0.2) as (state, _, number):
            for sent in (b"", b"\x16\x03\x01"):
                reader, writer = await asyncio.open_connection("127.0.0.1", number)
                writer.write(sent)
                await read_all(reader)
                writer.close()
            assert (state.handshake_failures, state.handshakes) == (2, {})

    uvloop.run(work())


def test_a_client_that_only_connects_is_no_failure(pair):
    async def work():
        async with serving(pair) as (state, _, number):
            _, writer = await asyncio.open_connection("127.0.0.1", number)
            await until(lambda: state.handshakes)
            writer.close()
            await until(lambda: not state.handshakes)
            assert state.handshake_failures == 0

    uvloop.run(work())


def test_a_flood_of_handshakes_that_never_finish(pair, client, monkeypatch):
    monkeypatch.setattr(tls_connection, "MAX_HANDSHAKES", 20)

    async def work():
        async with serving(pair) as (state, _, number):
            held, most = [], 0
            for _ in range(5):
                for _ in range(20):
                    held.append(socket.create_connection(("127.0.0.1", number)))
                    held[-1].send(b"\x16\x03\x01")
                await until(lambda: len(state.handshakes) == 20)
                most = max(most, len(state.handshakes))
                assert (await talk(number, client, GET))[0] == 200
            assert most == 20
            assert state.handshake_failures >= 80
            for one in held:
                one.close()

    uvloop.run(work())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused(pair, client):
    client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")

    async def work():
        async with serving(pair) as (state, _, number):
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                await connect(number, client)
            assert state.handshake_failures == 1

    uvloop.run(work())


def test_client_certificates(authority, pair, client, tmp_path):
    known = authority.issue("client")
    unknown = Authority(tmp_path, "other").issue("unknown")

    async def work():
        async with serving(pair, client_ca=authority.ca) as (state, _, number):
            for wrong in (None, unknown):
                context = ssl.create_default_context(cafile=str(authority.ca))
                if wrong:
                    context.load_cert_chain(wrong.cert, wrong.key)
                reader, writer = await connect(number, context)
                writer.write(GET)
                with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_REQUIRED|UNKNOWN_CA"):
                    await reader.read()
                writer.close()
            assert state.handshake_failures == 2
            client.load_cert_chain(known.cert, known.key)
            assert (await talk(number, client, GET))[0] == 200

    uvloop.run(work())
