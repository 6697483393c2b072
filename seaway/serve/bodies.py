"""Bodies as clients send them, made plain."""

import zlib

from seaway.errors import InvalidInput, SeawayError

SUPPORTED = "gzip, deflate, identity"
MOST_CODINGS = 4  # on one body: each may take as long as the largest body

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's wbits
_FORMATS = {"gzip": [_GZIP], "x-gzip": [_GZIP], "deflate": [_ZLIB, _RAW]}  # some clients send deflate without a header


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before the codings of `encoding` (a Content-Encoding, "" for none), the last one undone first.

    Raises status 415 for a coding that is not known, 413 before more than `limit` bytes are kept, and InvalidInput for
    what does not unfold, is cut off, or goes on behind the end.
    """
    if not encoding:
        return body
    codings = [coding for name in encoding.split(",") if (coding := name.strip().lower()) not in ("", "identity")]
    if len(codings) > MOST_CODINGS or not _FORMATS.keys() >= set(codings):
        raise SeawayError(
            f"Content-Encoding {encoding[:80]!r} is not supported: send one of {SUPPORTED}, at most {MOST_CODINGS}",
            status=415,
        )
    for coding in reversed(codings):
        body = _inflated(body, coding, limit)
    return body


def _inflated(body: bytes, coding: str, limit: int) -> bytes:
    for format_ in _FORMATS[coding]:
        inflater = zlib.decompressobj(wbits=format_)
        try:
            plain = inflater.decompress(body, limit + 1)
        except zlib.error as error:
            reason = error
            continue
        if len(plain) > limit:
            raise SeawayError(
                f"the body inflates to more than {limit} bytes: send fewer examples at once, or start the server with "
                "a larger --max-body-bytes",
                status=413,
            )
        if not inflater.eof:
            raise InvalidInput(f"the body's {coding} data is cut off after {len(body)} bytes")
        if inflater.unused_data:
            raise InvalidInput(f"{len(inflater.unused_data)} bytes follow the end of the body's {coding} data")
        return plain
    if coding == "deflate" and body.lstrip()[:1] == b"{":
        return body  # plain JSON under this name is what TensorFlow Serving, which does not know it, takes
    raise InvalidInput(f"the body is no {coding} data, which its Content-Encoding says: {reason}")
