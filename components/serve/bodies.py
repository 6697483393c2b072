"""Bodies as clients send them, made plain."""

import zlib

from seaway.errors import SeawayError


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before `encoding` (Content-Encoding; only gzip is known, others are left alone).

    What is no gzip counts as empty, as in TensorFlow Serving. Raises status 413 before more than `limit` bytes are
    kept.
    """
    if "gzip" not in encoding:
        return body
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, limit)
    except zlib.error:
        return b""
    if inflater.unconsumed_tail:
        raise SeawayError(
            f"the body inflates to more than {limit} bytes: send fewer examples at once, or start the server with a "
            "larger --max-body-bytes",
            status=413,
        )
    return plain if inflater.eof else b""
