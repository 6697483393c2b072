"""Headers that let pages of other sites ask this server: cross-origin resource sharing, as browsers enforce it.

Those of TensorFlow Serving's --rest_api_enable_cors_support (2.20), which knows "*" alone, and two that it has not:
what pages may read of an answer, and Vary where the answer depends on who asks.
"""

from collections.abc import Iterable

ALL = "*"
VARY = b"vary: origin\r\n"
BINARY = {"Access-Control-Allow-Headers": "Inference-Header-Content-Length"}  # beside Content-Type, in the second line


def lines(origin: str) -> bytes:
    """Header lines of an answer to a page of `origin`."""
    return (
        b"access-control-allow-origin: %b\r\naccess-control-allow-methods: POST, GET\r\n"
        b"access-control-allow-headers: Content-Type\r\n"
        b"access-control-expose-headers: Inference-Header-Content-Length, Seaway-Model, X-Request-Id\r\n"
    ) % origin.encode("latin-1")


def by_origin(origins: Iterable[str]) -> dict[str, bytes]:
    """Origin → header lines of an answer to it."""
    return {origin: lines(origin) + VARY for origin in origins}
