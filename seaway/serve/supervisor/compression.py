"""Compression of responses with gzip, large ones in a thread."""

import asyncio
import re
import zlib
from dataclasses import replace

from seaway.protocols.calls import Reply
from seaway.serve.supervisor.connection import Request

LEVEL = 1  # the fastest; a JSON of numbers is about 6 % larger than at level 6
INLINE_BYTES = 64 << 10  # takes 0.4 ms of the event loop; a thread is for more
_GZIP = 31  # zlib's wbits
_PART = re.compile(r"\s*([a-z*-]+)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?")


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a request's Accept-Encoding (RFC 9110, 12.5.3) allows gzip; what cannot be read, does not."""
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        found = _PART.fullmatch(part)
        try:
            weights[found[1] if found else ""] = float(found[2] or 1) if found else 0.0
        except ValueError:  # a number with several points
            return False
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def compress(body: bytes | list[bytes | memoryview]) -> bytes:
    """The pieces together, as one gzip member. Other threads run meanwhile."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    pieces = [body] if isinstance(body, bytes) else body
    return b"".join([*map(compressor.compress, pieces), compressor.flush()])


def send(request: Request, reply: Reply, min_bytes: int) -> None:
    """Sends the reply to the request's client, compressed if it is larger than `min_bytes` and the client allows it."""
    body = reply.body
    size = len(body) if isinstance(body, bytes) else sum(map(len, body))
    if size <= min_bytes:
        request.connection.send(request, reply)
        return
    vary = ", ".join(filter(None, (reply.headers.get("Vary"), "Accept-Encoding")))
    reply = replace(reply, headers={**reply.headers, "Vary": vary})
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        request.connection.send(request, reply)
        return
    reply = replace(reply, headers={**reply.headers, "Content-Encoding": "gzip"})
    if size <= INLINE_BYTES:
        request.connection.send(request, replace(reply, body=compress(body)))
        return
    compressing = asyncio.get_running_loop().run_in_executor(None, compress, body)
    compressing.add_done_callback(lambda done: request.connection.send(request, replace(reply, body=done.result())))
