"""Responses compressed with gzip, and X-Forwarded-Prefix, from a server without models."""

import asyncio
import contextlib
import gzip
import http.client
import json
import os
from functools import partial

import pytest
import uvloop

from seaway.protocols import tfserving
from seaway.protocols.calls import TEXT, Reply
from seaway.serve.supervisor import compression, openapi
from seaway.serve.supervisor.connection import Limits, ServerState

SMALL, LARGE = 10, 3 * compression.INLINE_BYTES


@pytest.mark.parametrize(
    "header, accepted",
    [
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("br , gzip ; q=1.0", True),
        ("*", True),
        ("*;q=0.1, deflate", True),
        ("", False),
        ("identity", False),
        ("deflate, br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=x", False),
        ("gzip;q=1.1.1", False),
        ("gzipped", False),
        ("gzip;level=9", False),
        (",;q=,", False),
    ],
)
def test_which_clients_accept_gzip(header, accepted):
    assert compression.accepts_gzip(header) is accepted


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE])
def test_pieces_are_one_member(size):
    body = os.urandom(size)
    pieces = [body[: size // 2], memoryview(body)[size // 2 :]]
    assert gzip.decompress(compression.compress(pieces)) == gzip.decompress(compression.compress(body)) == body


@contextlib.asynccontextmanager
async def serving(min_bytes):
    """A server whose response to /N has N bytes, in two pieces."""

    def handle(request):
        body = b"x" * int(request.target[1:])
        request.respond(Reply(200, [body[:3], body[3:]], TEXT, {"Vary": "X"} if request.method == "POST" else {}))

    state = ServerState(tfserving.error, Limits(), handle)
    state.compressing_send = partial(compression.send, min_bytes=min_bytes)
    server = await asyncio.get_running_loop().create_server(state.connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(
    "method, size, accept, compressed",
    [
        ("GET", SMALL, "gzip", False),
        ("GET", SMALL + 1, "gzip", True),
        ("GET", LARGE, "gzip", True),
        ("POST", LARGE, "gzip", True),
        ("HEAD", LARGE, "gzip", True),
        ("GET", LARGE, "deflate", False),
    ],
)
def test_what_is_compressed(method, size, accept, compressed):
    def ask(port):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, f"/{size}", headers={"Accept-Encoding": accept})
            reply = connection.getresponse()
            return reply.headers, reply.read()

    async def work():
        async with serving(SMALL) as port:
            headers, body = await asyncio.to_thread(ask, port)
        assert (headers["Content-Encoding"] == "gzip") == compressed
        varies = ["X"] * (method == "POST") + ["Accept-Encoding"] * (size > SMALL)
        assert headers["Vary"] == (", ".join(varies) or None)
        if method == "HEAD":
            assert (int(headers["Content-Length"]) < size, body) == (True, b"")
        else:
            assert (gzip.decompress(body) if compressed else body) == b"x" * size

    uvloop.run(work())


def test_responses_keep_their_order_and_one_that_nobody_reads_is_dropped():
    async def work():
        async with serving(SMALL) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sizes = [LARGE, SMALL, LARGE * 2, SMALL + 1] * 3
            writer.writelines(b"GET /%d HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n" % size for size in sizes)
            for size in sizes:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].split()[0])
                body = await reader.readexactly(length)
                assert (gzip.decompress(body) if b"content-encoding" in head else body) == b"x" * size
            writer.write(b"GET /%d HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n" % LARGE)
            writer.transport.abort()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"\r\n\r\nx")
            writer.close()

    uvloop.run(work())


def test_a_server_with_and_without_compression(start, server, tmp_path):
    compressing = start(tmp_path, "--backend", "onnx", "--gzip-min-bytes", "1000")
    accepting = {"Accept-Encoding": "gzip"}
    reply = compressing.request("GET", "/openapi.json", headers=accepting)
    assert (reply.headers["Content-Encoding"], reply.headers["Vary"]) == ("gzip", "X-Forwarded-Prefix, Accept-Encoding")
    assert json.loads(gzip.decompress(reply.body))["openapi"].startswith("3.1")
    reply = compressing.request("GET", "/healthz", headers=accepting)
    assert (reply.headers["Content-Encoding"], reply.body) == (None, b"ok\n")
    assert server.request("GET", "/openapi.json", headers=accepting).headers["Content-Encoding"] is None


# ---- X-Forwarded-Prefix


@pytest.mark.parametrize(
    "prefix, url",
    [
        ("", "./"),
        ("/models", "/models/"),
        ("/models/", "/models/"),
        ("/team-a/v1.0/~x_y", "/team-a/v1.0/~x_y/"),
        ("/..hidden", "/..hidden/"),
        ("models", "./"),
        ("/", "./"),
        ("//evil.example", "./"),
        ("/a//b", "./"),
        ("/a/../b", "./"),
        ("/.", "./"),
        ("/a/..", "./"),
        ("https://evil.example/", "./"),
        ("/a\\b", "./"),
        ('/"><script>', "./"),
        ("/a?b", "./"),
        ("/a, /b", "./"),
        ("/%2e%2e", "./"),
        ("/" + "a" * 200, "./"),
        ("/é", "./"),
    ],
)
def test_the_servers_of_the_description(server, prefix, url):
    reply = server.request("GET", "/openapi.json", headers={"X-Forwarded-Prefix": prefix.encode("latin-1")})
    assert reply.json() == openapi.document(url)
    assert reply.headers["Vary"] == "X-Forwarded-Prefix"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_have_only_relative_links(server, path):
    """So that they need no X-Forwarded-Prefix."""
    reply = server.request("GET", path, headers={"Accept": "text/html", "X-Forwarded-Prefix": "/models"})
    links = [part.partition(b'"')[0] for name in (b'href="', b'src="') for part in reply.body.split(name)[1:]]
    assert links
    assert [link for link in links if link.startswith(b"/") or b"://" in link] == []
