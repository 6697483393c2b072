"""Headers that let pages of other sites call this server: cross-origin resource sharing, as browsers enforce it.

They are those of TensorFlow Serving's --rest_api_enable_cors_support (2.20), which supports only "*", and two more:
the headers that pages may read, and Vary if the response depends on the origin.
"""

from collections.abc import Iterable

ALL = "*"
VARY = b"vary: origin\r\n"
PREFLIGHT = {"Access-Control-Allow-Headers": "Inference-Header-Content-Length"}  # as well as Content-Type


def header_lines(origin: str) -> bytes:
    """Header lines of a response to a page of `origin`."""
    return (
        b"access-control-allow-origin: %b\r\naccess-control-allow-methods: POST, GET\r\n"
        b"access-control-allow-headers: Content-Type\r\n"
        b"access-control-expose-headers: Inference-Header-Content-Length, Seaway-Model, Seaway-Backend, "
        b"X-Request-Id\r\n"
    ) % origin.encode("latin-1")


def headers_by_origin(origins: Iterable[str]) -> dict[str, bytes]:
    """Origin → header lines of a response to its pages."""
    return {origin: header_lines(origin) + VARY for origin in origins}
