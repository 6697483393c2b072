"""Clients over TLS, against real servers with certificates of CAs of our own."""

import json
import re
import ssl
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from certificates import ELSEWHERE, HOUR, Authority
from exposition import exposing
from tls_servers import grpcs, https

from seaway.artifacts import model_repository
from seaway.client_tls import ClientTls, is_closed
from seaway.errors import InvalidInput, Unavailable
from seaway.load import metrics, supported_protocols
from seaway.load.client import Client, NoResponse
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.run import LOCUSTFILE, run
from seaway.load.verify import verify

CONFIG = LoadConfig(users=2, duration_s=1, warmup_s=0)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("untrusted"), "untrusted")


@pytest.fixture(scope="module")
def own(ca):
    return ca.issue("server")


@pytest.fixture(scope="module")
def source(repository):
    return model_repository.path(repository, "toy", 1)


@pytest.fixture(params=["https", "https, TLS 1.2", "grpcs"])
def secure(request, repository):
    """Starts a server of either kind with a pair of files, and yields its URL."""

    @contextmanager
    def started(pair, client_ca=None):
        if request.param == "grpcs":
            with grpcs(repository, pair, client_ca) as url:
                yield url
        else:
            with https(repository, pair, client_ca, tls_1_2="1.2" in request.param) as server:
                yield server.url

    return started


# ---- handshakes that fail


def failure(url, tls):
    """The message of a request, in one line that names the server."""
    with Client(url, 20, tls) as client, pytest.raises(NoResponse) as raised:
        client.connect()
        client.status("toy", 1)
    message = str(raised.value)
    assert message.startswith(f"{url}: ") and "\n" not in message
    return message


def test_an_unknown_ca(secure, own, untrusted):
    with secure(own) as url:
        for tls in (untrusted.trust(), ClientTls()):
            assert (
                "is not trusted (unable to get local issuer certificate): give its CA's certificate with --tls-ca"
                in (failure(url, tls))
            )


def test_a_certificate_for_another_host(secure, ca):
    with secure(ca.issue("elsewhere", ELSEWHERE)) as url:
        assert "is for another host: give the URL with a name that is in the certificate" in failure(url, ca.trust())


def test_a_certificate_that_has_expired(secure, ca):
    with secure(ca.issue("expired", ends=-HOUR)) as url:
        assert "certificate has expired: renew it on the server" in failure(url, ca.trust())


def test_a_server_that_requires_a_client_certificate(secure, own, ca):
    with secure(own, client_ca=ca.ca) as url:
        assert "requires a client certificate" in (message := failure(url, ca.trust()))
        assert "give --tls-cert FILE and --tls-key FILE" in message


def test_a_client_certificate_that_the_server_does_not_accept(secure, own, ca, untrusted):
    with secure(own, client_ca=ca.ca) as url:
        for pair in (untrusted.issue("client"), ca.issue("expired-client", ends=-HOUR)):
            message = failure(url, replace(ca.trust(), cert=pair.cert, key=pair.key))
            assert re.search(r"not accept the client certificate.* of a CA that it trusts", message)
            assert "--tls-cert" not in message, "it was given"


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_server_without_tls(server, ca, scheme):
    url = server.url.replace("http", scheme)
    assert "does not speak TLS there: check the port, or give http:// or grpc://" in failure(url, ca.trust())


def test_a_client_without_tls(secure, own):
    with secure(own) as url:
        message = failure(url.replace("s:", ":"), ClientTls())
        assert message.endswith(f" If it speaks TLS, give {url.partition('://')[0]}://.")


def test_a_server_that_does_not_run_is_no_failed_handshake(secure, own, ca):
    with secure(own) as url:
        pass
    assert "is the server running there?" in failure(url, ca.trust())


# ---- requests and loads


def test_a_load_with_a_client_certificate(secure, own, ca, source):
    with secure(own, client_ca=ca.ca) as url:
        for more in ({}, {"new_connections": True, "processes": 2}):
            config = replace(CONFIG, tls=ca.trust(ca.issue("client")), **more)
            config = replace(config, protocol=supported_protocols.preferred_protocol(url, source, config))
            result = run(url, source, config)
            assert (result.failed, result.wrong) == (0, 0), result.errors
            assert result.requests > 0


def test_all_protocols_over_tls(repository, own, ca, source):
    config = replace(CONFIG, tls=ca.trust())
    with https(repository, own) as server:
        results = verify(server.url, source, config)
    with grpcs(repository, own) as url:
        results += verify(url, source, config)
    assert {result.protocol for result in results} == {"tfs", "graphpipe", "oip", "oip-binary", "tfs-grpc", "oip-grpc"}
    assert all(result.requests and not result.failed and not result.wrong for result in results)


def test_the_system_s_certificates_are_the_default(secure, own, ca, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.ca))
    with secure(own) as url, Client(url) as client:
        client.connect()


def test_failed_handshakes_of_a_load_are_counted_with_advice(secure, own, untrusted, source, tmp_path):
    """Locust alone, because `run` ends after the request that precedes a load."""
    with secure(own) as url:
        protocol = "tfs-grpc" if url.startswith("grpcs") else "tfs"
        options = ["--host", url, "--golden", source, "--protocol", protocol, "--tls-ca", untrusted.ca]
        options += ["--users", 2, "--spawn-rate", 2, "--run-time", "1s", "--counts", tmp_path / "counts"]
        command = [sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", *options]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=100)
    lines = map(json.loads, (tmp_path / "counts").read_text().splitlines())
    counters = Counters()
    for line in lines:
        counters.merge(Counters.from_json(line["counters"][protocol]))
    assert counters.failed == counters.requests > 0, done.stderr
    [kind] = counters.errors
    prefix = "gRPC UNAVAILABLE: " if protocol == "tfs-grpc" else "TLS: "
    advice = "the server's TLS certificate is not trusted (unable to get local issuer certificate): give its CA's "
    assert kind == f"{prefix}{advice}certificate with --tls-ca FILE"


def test_a_locustfile_refuses_files_that_cannot_be_used(own, source, tmp_path):
    options = ["--host", "https://127.0.0.1:1", "--golden", source, "--protocol", "tfs", "--run-time", "1s"]
    command = [sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", *options, "--tls-client-cert", own.cert]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=100)
    assert (done.returncode, "locust: --tls-cert " in done.stderr) == (1, True), done.stderr


def test_a_metrics_page_over_tls(own, ca, untrusted):
    with exposing(lambda: b"# TYPE a gauge\na 1\n", own) as url:
        assert metrics.read(url, ca.trust()) == {"a": 1.0}
        with pytest.raises(Unavailable, match=r"/metrics: the server's TLS certificate is not trusted .* --tls-ca"):
            metrics.read(url, untrusted.trust())


# ---- settings


def test_settings_that_have_no_effect(ca, own):
    pair = ClientTls(cert=own.cert, key=own.key)
    for tls, url, message in (
        (
            ca.trust(),
            "http://host:1",
            "http://host:1: no TLS there, so --tls-ca would have no effect: give an https://",
        ),
        (pair, "grpc://host:1", "grpc://host:1: no TLS there, so --tls-cert, --tls-key would have no effect"),
        (ClientTls(insecure=True), "http://host:1", "so --insecure would have no effect"),
        (ca.trust(), "", "no URL: no TLS there"),
        (replace(ca.trust(), insecure=True), "https://host:1", "--insecure accepts any certificate, so --tls-ca"),
        (ClientTls(insecure=True), "grpcs://host:1", "gRPC cannot skip the verification .* with --tls-ca FILE"),
        (replace(pair, key=None), "https://host:1", r"--tls-cert .*server.crt: its key is missing: add --tls-key FILE"),
        (
            replace(pair, cert=None),
            "https://host:1",
            r"--tls-key .*server.key: its certificate is missing: add --tls-c",
        ),
    ):
        with pytest.raises(InvalidInput, match=message):
            tls.check(url)
    ClientTls().check("http://host:1", "grpc://host:1")
    ClientTls(insecure=True).check("https://host:1")
    ca.trust(own).check("http://baseline:1", "https://host:1", "")


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_files_that_cannot_be_used(ca, own, tmp_path, scheme):
    (tmp_path / "text.pem").write_text("no certificate\n")
    (tmp_path / "cut.pem").write_bytes(own.cert.read_bytes()[:200] + b"\n-----END CERTIFICATE-----\n")
    (tmp_path / "cut.key").write_bytes(own.key.read_bytes()[:60] + b"\n-----END PRIVATE KEY-----\n")
    encrypted, other = ca.issue("encrypted", passphrase=b"x"), ca.issue("other")
    (tmp_path / "old.key").write_bytes(_traditional(other.key))
    good = ca.trust(own)
    for tls, message in (
        (replace(good, ca=tmp_path / "none"), r"^--tls-ca .*/none: it does not exist: check the path$"),
        (replace(good, ca=tmp_path), r"^--tls-ca .*: it is a folder, but a file is needed"),
        (replace(good, ca=tmp_path / "text.pem"), r"^--tls-ca .*text.pem: no certificate in PEM"),
        (replace(good, ca=tmp_path / "cut.pem"), r"^--tls-ca .*cut.pem: not a valid certificate in PEM"),
        (replace(good, ca=own.key), r"^--tls-ca .*server.key: no certificate in PEM"),
        (replace(good, cert=tmp_path / "cut.pem"), r"^--tls-cert .*cut.pem: not a valid certificate in PEM"),
        (replace(good, cert=tmp_path / "none"), r"^--tls-cert .*/none: it does not exist"),
        (replace(good, key=tmp_path / "none"), r"^--tls-key .*/none: it does not exist"),
        (replace(good, key=own.cert), r"^--tls-key .*server.crt: no private key in PEM"),
        (replace(good, key=tmp_path / "cut.key"), r"^--tls-key .*cut.key: not a valid private key in PEM"),
        (replace(good, key=other.key), r"^--tls-key .*other.key: not the private key of the certificate .*server.crt$"),
        (replace(good, cert=encrypted.cert, key=encrypted.key), r"^--tls-key .*: the key is encrypted: decrypt it \("),
        (replace(good, cert=other.cert, key=tmp_path / "old.key"), r"^--tls-key .*old.key: the key is encrypted"),
    ):
        with pytest.raises(InvalidInput, match=message):
            tls.check(f"{scheme}://127.0.0.1:1")
        with pytest.raises(InvalidInput, match=message):
            Client(f"{scheme}://127.0.0.1:1", tls=tls)


def _traditional(key):
    """The key as OpenSSL encrypted it before PKCS #8."""
    command = ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:secret"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_a_key_may_be_in_the_file_of_the_certificate(ca, own, tmp_path, repository):
    both = tmp_path / "both.pem"
    both.write_bytes(own.key.read_bytes() + own.cert.read_bytes() + ca.ca.read_bytes())
    tls = ClientTls(ca.ca, both, both)
    with https(repository, own, client_ca=ca.ca) as server, Client(server.url, tls=tls) as client:
        assert [status.state for status in client.status("toy", 1)] == ["AVAILABLE"]
    with grpcs(repository, own, client_ca=ca.ca) as url, Client(url, tls=tls) as client:
        client.connect()


def test_the_files_of_a_mounted_secret(ca, own, tmp_path):
    with pytest.raises(InvalidInput, match=r": no ca.crt, tls.crt or tls.key there; is the Secret mounted\?"):
        ClientTls.from_folder(str(tmp_path))
    (tmp_path / "ca.crt").touch()
    with pytest.raises(InvalidInput, match="is the Secret mounted"):
        ClientTls.from_folder(str(tmp_path))
    (tmp_path / "ca.crt").write_bytes(ca.ca.read_bytes())
    assert ClientTls.from_folder(str(tmp_path)) == ClientTls(tmp_path / "ca.crt")
    (tmp_path / "tls.crt").write_bytes(own.cert.read_bytes())
    (tmp_path / "tls.key").write_bytes(own.key.read_bytes())
    tls = ClientTls.from_folder(str(tmp_path))
    assert tls == ClientTls(tmp_path / "ca.crt", tmp_path / "tls.crt", tmp_path / "tls.key")
    assert isinstance(tls.ssl_context(), ssl.SSLContext)
    assert ClientTls.from_folder("") == ClientTls()


def test_other_errors_get_no_advice():
    for text in ("[Errno 111] Connection refused", "timed out", "Name or service not known"):
        assert (ClientTls().advice(text), is_closed(text)) == ("", False)
