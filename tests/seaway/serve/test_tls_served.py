"""HTTPS and gRPC over TLS from a server as users start it, with their clients."""

import contextlib
import gzip
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))  # certificates.py
from certificates import Authority

EXAMPLES = Path(__file__).resolve().parents[3] / "seaway" / "example"
LIVE = "/inference.GRPCInferenceService/ServerLive"
SERVE = [sys.executable, "-m", "seaway.serve", "--backend", "onnx", "--port", "0"]


@pytest.fixture
def authority(tmp_path):
    folder = tmp_path / "tls"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def files(authority):
    """The server's files, which tests replace."""
    pair = authority.issue("first")
    for suffix, file in (("crt", pair.cert), ("key", pair.key)):
        shutil.copy(file, authority.folder / f"tls.{suffix}")
    return authority.folder / "tls.crt", authority.folder / "tls.key"


@pytest.fixture
def serve(start, tmp_path, files):
    """Starts a server without models, with TLS for HTTP and gRPC."""
    (tmp_path / "models").mkdir()
    cert, key = files
    tls = ["--tls-cert", str(cert), "--tls-key", str(key)]
    return lambda *options: start(tmp_path / "models", "--backend", "onnx", "--grpc-port", "0", *tls, *options)


def trusting(authority, pair=None):
    context = ssl.create_default_context(cafile=str(authority.ca))
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def get(server, context, path="/healthz"):
    """The response's status and body, and the serial number of the certificate that the server showed."""
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=context)
    with contextlib.closing(connection):
        connection.request("GET", path)
        serial = connection.sock.getpeercert()["serialNumber"]
        reply = connection.getresponse()
        return reply.status, reply.read(), serial


def live(server, authority, pair=None, timeout=20):
    """Open Inference Protocol's ServerLive over a gRPC channel of its own."""
    key, cert = (pair.key.read_bytes(), pair.cert.read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes(), key, cert)
    with grpc.secure_channel(server.grpc, credentials, (("grpc.use_local_subchannel_pool", 1),)) as channel:
        return channel.unary_unary(LIVE)(b"", timeout=timeout)


def metric(server, name):
    found = re.search(rf"^seaway_tls_{name} (\S+)$", server.metrics(), re.MULTILINE)
    return float(found[1]) if found else None


def test_https_and_grpc(serve, authority, files):
    server = serve()
    assert server.url == f"https://127.0.0.1:{server.port}"
    status, body, _ = get(server, trusting(authority))
    assert (status, body) == (200, b"ok\n")
    assert live(server, authority) == b"\x08\x01"
    with pytest.raises(ssl.SSLCertVerificationError):
        get(server, ssl.create_default_context())
    expiry = ssl.cert_time_to_seconds(enddate(files[0]))
    assert metric(server, "certificate_expiry_timestamp_seconds") == expiry
    assert metric(server, "last_reload_successful") == 1
    assert metric(server, "handshake_failures_total") == 1
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as plain:
        plain.request("GET", "/healthz")
        reply = plain.getresponse()
        assert (reply.status, b"use https://" in reply.read()) == (400, True)
    assert server.status()["ready"]  # the admin port stays plain
    assert server.stop() == 0


def enddate(cert):
    done = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", cert], capture_output=True, text=True)
    return done.stdout.strip().removeprefix("notAfter=")


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_curl(serve, authority, files):
    server = serve("--tls-client-ca", str(authority.ca))
    pair = authority.issue("client")
    command = ["curl", "-sS", "--cacert", authority.ca, f"{server.url}/healthz"]
    with_certificate = subprocess.run(
        [*command, "--cert", pair.cert, "--key", pair.key], capture_output=True, timeout=60
    )
    assert (with_certificate.returncode, with_certificate.stdout) == (0, b"ok\n")
    without = subprocess.run(command, capture_output=True, timeout=60)
    assert (without.returncode != 0, without.stdout) == (True, b"")


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
@pytest.mark.parametrize("version, accepted", [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_openssl_s_client(serve, authority, version, accepted):
    server = serve()
    done = subprocess.run(
        [
            *("openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2,http/1.1"),
            *("-CAfile", authority.ca, "-verify_return_error", "-ign_eof", "-connect", f"127.0.0.1:{server.port}"),
        ],
        input=b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=60,
    )
    assert (b"\r\n\r\nok\n" in done.stdout) == accepted
    assert (b"ALPN protocol: http/1.1" in done.stdout) == accepted
    assert (b"alert protocol version" in done.stderr) != accepted


def test_client_certificates(serve, authority, tmp_path):
    server = serve("--tls-client-ca", str(authority.ca))
    known, expired = authority.issue("client"), authority.issue("expired", ends=-timedelta(minutes=1))
    unknown = Authority(tmp_path, "other").issue("unknown")
    assert get(server, trusting(authority, known))[0] == 200
    assert live(server, authority, known) == b"\x08\x01"
    for wrong in (None, expired, unknown):
        with pytest.raises(ssl.SSLError, match=r"CERTIFICATE|UNKNOWN_CA"):
            get(server, trusting(authority, wrong))
        with pytest.raises(grpc.RpcError) as error:
            live(server, authority, wrong)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert metric(server, "handshake_failures_total") == 3
    assert get(server, trusting(authority, known))[0] == 200


def test_files_are_replaced_while_clients_get_answers(serve, authority, files):
    server = serve()
    cert, key = files
    _, _, first = get(server, trusting(authority))
    second = authority.issue("second")
    failed, answers, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                answers.append(get(server, trusting(authority))[2])
                live(server, authority)
            except Exception as error:
                failed.append(error)

    client = threading.Thread(target=ask)
    client.start()
    try:
        for content in (b"garbage", second.cert.read_bytes()):  # the second is not the key's
            cert.write_bytes(content)
            server.wait(lambda: metric(server, "last_reload_successful") == 0)
            assert get(server, trusting(authority))[2] == first
        key.write_bytes(second.key.read_bytes())
        server.wait(lambda: get(server, trusting(authority))[2] != first)
        server.wait(lambda: metric(server, "last_reload_successful") == 1)
        seen = ssl.get_server_certificate(("127.0.0.1", int(server.grpc.rpartition(":")[2])), timeout=20)
        assert seen.split() == second.cert.read_text().split()
    finally:
        stop.set()
        client.join(60)
    assert failed == []
    assert len(set(answers)) == 2
    errors = [line for line in server.log if "keeps the certificate" in line]
    assert len(errors) == len(set(errors))  # one line for each problem


def test_handshakes_that_never_finish_are_bounded_and_end(serve, authority):
    server = serve("--read-timeout-s", "2")
    grpc_port = int(server.grpc.rpartition(":")[2])
    held = [socket.create_connection(("127.0.0.1", port), timeout=60) for port in (server.port, grpc_port) * 20]
    for one in held[:20]:
        one.send(b"\x16\x03\x01")
    assert get(server, trusting(authority))[0] == 200
    assert live(server, authority) == b"\x08\x01"
    for one in held:
        with contextlib.suppress(ConnectionResetError):
            while one.recv(1000):
                pass
        one.close()
    assert metric(server, "handshake_failures_total") == 20


def test_no_client_is_lost_as_the_server_stops(serve, authority):
    server = serve("--drain-s", "0.3")
    context = trusting(authority)
    failed, answers = [], []

    def ask():
        while True:
            try:
                plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            except ConnectionRefusedError:  # the port is closed
                return
            connection = http.client.HTTPSConnection("127.0.0.1", timeout=30)
            try:
                connection.sock = context.wrap_socket(plain, server_hostname="127.0.0.1")
                connection.request("GET", "/healthz")
                answers.append(connection.getresponse().read())
            except (OSError, http.client.HTTPException) as error:
                failed.append(error)
            finally:
                connection.close()

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    server.wait(lambda: len(answers) > 20)
    assert server.stop() == 0
    for client in clients:
        client.join(60)
    assert failed == []
    assert set(answers) == {b"ok\n"}


@pytest.mark.parametrize("wrong", ["key", "cert", "expired"])
def test_a_server_with_wrong_files_does_not_start(authority, files, tmp_path, wrong):
    cert, key = files
    other = authority.issue("other", ends=-timedelta(minutes=1))
    {"key": lambda: shutil.copy(other.key, key), "cert": cert.unlink, "expired": lambda: shutil.copy(other.cert, cert)}[
        wrong
    ]()
    (tmp_path / "models").mkdir()
    command = [*SERVE, "--model-repository", tmp_path / "models", "--tls-cert", cert, "--tls-key", key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = {"key": f"{key}: this is not the key", "cert": f"{cert}: it does not exist", "expired": "expired at 20"}
    assert (done.returncode, said[wrong] in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_compressed_predictions_over_https(start, authority, files):
    cert, key = files
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--gzip-min-bytes", "2000"]
    server = start(EXAMPLES, "--backend", "onnx", *options)
    with np.load(EXAMPLES / "characters" / "1" / "assets.extra" / "golden.npz") as golden:
        images, scores = golden["input:image"], golden["output:scores"]
    context = trusting(authority)
    server.wait(lambda: get(server, context, "/readyz")[0] == 200)
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)
    with contextlib.closing(connection):
        for rows in (1, 32, 2000):  # not compressed, compressed at once, and in a thread
            sent = np.resize(images, (rows, *images.shape[1:]))
            body = json.dumps({"instances": sent.tolist()})
            connection.request("POST", "/v1/models/characters:predict", body, {"Accept-Encoding": "gzip"})
            reply = connection.getresponse()
            content = reply.read()
            assert (reply.status, reply.headers["Content-Encoding"] == "gzip") == (200, rows > 1)
            found = json.loads(gzip.decompress(content) if rows > 1 else content)["predictions"]
            received = np.float32(found)
            np.testing.assert_allclose(received, np.resize(scores, (rows, 62)), atol=1e-4)


def test_a_server_without_tls_has_no_metrics_of_it(server):
    assert "seaway_tls" not in server.metrics()
