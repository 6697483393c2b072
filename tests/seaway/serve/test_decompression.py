import gzip
import json
import zlib

import numpy as np
import pytest

from seaway.errors import InvalidInput, SeawayError
from seaway.protocols import graphpipe, oip
from seaway.serve import decompression

PLAIN = b'{"instances": [1, 2]}'


def raw(body: bytes) -> bytes:
    """deflate without zlib's header, as some clients send it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    "encoding, encode",
    [
        ("", bytes),
        ("identity", bytes),
        (" Identity ,", bytes),
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("X-GZip", gzip.compress),
        (" gzip ", gzip.compress),
        ("deflate", zlib.compress),
        ("Deflate", raw),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
        ("gzip,identity,deflate", lambda body: raw(gzip.compress(body))),
        ("deflate", bytes),  # plain JSON, which TensorFlow Serving accepts under this name
    ],
)
def test_round_trip(encoding, encode):
    for body in (PLAIN, b'{"' + b"x" * 10_000):
        assert decompression.decompress(encode(body), encoding, 20_000) == body


@pytest.mark.parametrize("encoding", ["br", "gzip, br", "zstd", "chunked", "gzip;q=1", "*", "gzip, " * 4 + "gzip"])
def test_an_unsupported_coding(encoding):
    with pytest.raises(SeawayError, match="use gzip, deflate, identity") as caught:
        decompression.decompress(PLAIN, encoding, 1000)
    assert caught.value.status == 415


@pytest.mark.parametrize("encoding, encode", [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw)])
def test_no_more_is_decompressed_than_the_limit(encoding, encode):
    for size in (1, 999, 1000):
        assert len(decompression.decompress(encode(b"0" * size), encoding, 1000)) == size
    for size in (1001, 1 << 20, 1 << 27):
        with pytest.raises(SeawayError, match="--max-body-bytes") as caught:
            decompression.decompress(encode(b"0" * size), encoding, 1000)
        assert caught.value.status == 413
    with pytest.raises(SeawayError) as caught:  # intermediate results count too
        decompression.decompress(gzip.compress(encode(b"0" * 1_000_000)), f"{encoding}, gzip", 500)
    assert caught.value.status == 413


@pytest.mark.parametrize("encoding, encode", [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw)])
def test_damaged_data(encoding, encode):
    body = encode(PLAIN)
    for junk in (b"xx", b"\0", body):
        with pytest.raises(InvalidInput, match=f"{len(junk)} bytes follow the end"):
            decompression.decompress(body + junk, encoding, 1000)
    for size in range(1, len(body)):
        with pytest.raises(InvalidInput, match="truncated after"):
            decompression.decompress(body[:size], encoding, 1000)
    with pytest.raises(InvalidInput):
        decompression.decompress(b"", encoding, 1000)
    with pytest.raises(InvalidInput, match=f"cannot be decompressed as {encoding}"):
        decompression.decompress(b"[no coding at all]", encoding, 1000)


def test_plain_json_is_not_gzip():
    with pytest.raises(InvalidInput, match="cannot be decompressed as gzip"):
        decompression.decompress(PLAIN, "gzip", 1000)


# ---- at a running server

X = np.float32([1, 2])
REQUESTS = [
    ("/v1/models/half:predict", PLAIN, {}),
    ("/v2/models/half/infer", *oip.write_infer_request({"x": X}, binary=True)),
    ("/graphpipe/half", graphpipe.write_infer_request({"x": X}), {}),
]


@pytest.mark.parametrize("path, body, headers", REQUESTS)
def test_codings_on_every_protocol(server, path, body, headers):
    plain = server.request("POST", path, body, headers)
    assert plain.status == 200
    for name, encode in (("GZIP", gzip.compress), ("deflate", zlib.compress), ("deflate", raw), ("identity", bytes)):
        reply = server.request("POST", path, encode(body), {**headers, "content-encoding": name})
        assert (reply.status, reply.body) == (200, plain.body), name
    reply = server.request("POST", path, body, {**headers, "Content-Encoding": "br"})
    assert (reply.status, reply.headers["Accept-Encoding"]) == (415, "gzip, deflate, identity")
    assert b"'br' is not supported" in reply.body
    for damaged in (gzip.compress(body)[:-1], gzip.compress(body) + b"x"):
        assert server.request("POST", path, damaged, {**headers, "Content-Encoding": "gzip"}).status == 400
    reply = server.request("POST", path, zlib.compress(b" " * 1_000_001), {**headers, "Content-Encoding": "deflate"})
    assert reply.status == 413  # the server's --max-body-bytes is a million


def test_the_body_for_a_missing_model_is_checked_within_bounds(server):
    large = gzip.compress(json.dumps({"instances": [0.5] * 50_000}).encode())
    assert server.request("POST", "/v1/models/nope:predict", large, {"Content-Encoding": "gzip"}).status == 404
    assert server.request("POST", "/v1/models/nope:predict", b"{", {"Content-Encoding": "gzip"}).status == 400


def test_the_error_is_the_first_format_s():
    wrong_checksum = zlib.compress(PLAIN)[:-4] + bytes(4)
    with pytest.raises(InvalidInput, match=r"cannot be decompressed as deflate: .*incorrect data check"):
        decompression.decompress(wrong_checksum, "deflate", 1000)
