"""Clients that offer cleartext HTTP/2 in their first request: Java's own, and curl."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from seaway.protocols import graphpipe, oip

X = np.float32([1, 2])
BODIES = {
    "/v1/models/half:predict": b'{"instances": [1, 2]}',
    "/v2/models/half/infer": oip.write_infer_request({"x": X})[0],
    "/graphpipe/half": graphpipe.write_infer_request({"x": X}),
}


def values(path: str, body: bytes) -> list[float]:
    if path.startswith("/v1"):
        return json.loads(body)["predictions"]
    if path.startswith("/v2"):
        return oip.read_infer_response(body, {})["y"].tolist()
    return graphpipe.read_infer_response(body)[0].tolist()


def run(*command: str | Path) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture
def files(tmp_path):
    """path of the URL → a file with the body."""
    made = {path: tmp_path / f"{number}" for number, path in enumerate(BODIES)}
    for path, file in made.items():
        file.write_bytes(BODIES[path])
    return made


@pytest.mark.skipif(not shutil.which("java"), reason="java is not installed")
def test_javas_own_client(server, files):
    for order in (list(files), list(files)[::-1]):  # each once first on its connection, which then carries the offer
        asked = [text for path in order for text in (f"{server.url}{path}", files[path])]
        lines = run("java", Path(__file__).with_name("Post.java"), *asked).split(b"\n")[:-1]
        for path, line in zip(order, lines, strict=True):
            status, _, body = line.partition(b" ")
            assert (status, values(path, base64.b64decode(body))) == (b"200", [3.5, 4.0]), path


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_curl_that_offers_http_2(server, files, path, chunked):
    if b"HTTP2" not in run("curl", "--version"):
        pytest.skip("this curl does not support HTTP/2")
    options = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    command = ["curl", "-sSv", "--http2", *options, "--data-binary", f"@{files[path]}", f"{server.url}{path}"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert b"> Upgrade: h2c" in done.stderr  # it did offer
    assert values(path, done.stdout) == [3.5, 4.0]
