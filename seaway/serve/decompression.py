"""Decompression of request bodies, within limits."""

import zlib

from seaway.errors import InvalidInput, SeawayError

SUPPORTED = "gzip, deflate, identity"
MAX_CODINGS = 4  # per body, because each may cost as much as a body of the largest size

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's wbits
_FORMATS = {"gzip": [_GZIP], "x-gzip": [_GZIP], "deflate": [_ZLIB, _RAW]}  # some clients send deflate without a header


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Undoes the codings of `encoding` (a Content-Encoding, "" for none), the last one first.

    Raises status 415 for an unsupported coding, 413 before more than `limit_bytes` are decompressed, and InvalidInput
    for data that is malformed, truncated, or continues after its end.
    """
    if not encoding:
        return body
    codings = [coding for name in encoding.split(",") if (coding := name.strip().lower()) not in ("", "identity")]
    if len(codings) > MAX_CODINGS or not _FORMATS.keys() >= set(codings):
        raise SeawayError(
            f"Content-Encoding {encoding[:80]!r} is not supported: use {SUPPORTED}; at most {MAX_CODINGS} codings",
            status=415,
        )
    for coding in reversed(codings):
        body = _decompress_once(body, coding, limit_bytes)
    return body


def _decompress_once(body: bytes, coding: str, limit_bytes: int) -> bytes:
    reason: zlib.error | None = None
    for wbits in _FORMATS[coding]:
        inflater = zlib.decompressobj(wbits=wbits)
        try:
            decompressed = inflater.decompress(body, limit_bytes + 1)
        except zlib.error as error:
            if reason is None or "header" in str(reason):  # else the data has a header but is corrupt
                reason = error
            continue
        if len(decompressed) > limit_bytes:
            raise SeawayError(
                f"the body decompresses to more than {limit_bytes} bytes: send fewer examples at once, or start "
                "the server with a larger --max-body-bytes",
                status=413,
            )
        if not inflater.eof:
            raise InvalidInput(f"the body's {coding} data is truncated after {len(body)} bytes")
        if inflater.unused_data:
            raise InvalidInput(f"{len(inflater.unused_data)} bytes follow the end of the body's {coding} data")
        return decompressed
    if coding == "deflate" and body.lstrip()[:1] == b"{":
        return body  # TensorFlow Serving does not support deflate, and so accepts plain JSON under this name
    raise InvalidInput(f"the body cannot be decompressed as {coding}: {reason}")
