"""The server's certificate: what is wrong with which file, and files that change."""

import logging
import ssl
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from seaway.errors import InvalidInput
from seaway.serve.settings import Settings, from_environment
from seaway.serve.supervisor import tls
from seaway.serve.supervisor.tls import Files, Reloader

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))  # certificates.py
from certificates import Authority

DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_the_credentials_of_good_files(authority):
    pair = authority.issue("server", ends=timedelta(days=40 * 365))  # past 2049, so it has the other form of a date
    found = tls.read(Files(pair.cert, pair.key, authority.ca))
    dates = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    assert found.not_after == dates.not_valid_after_utc.timestamp()
    assert found.context.verify_mode is ssl.CERT_REQUIRED
    assert found.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert found.pem.key == pair.key.read_bytes()
    assert "PRIVATE" not in repr(found)
    assert tls.read(Files(pair.cert, pair.key)).context.verify_mode is ssl.CERT_NONE


def test_text_around_the_certificate_and_a_chain_are_accepted(authority):
    pair = authority.issue("server")
    pair.cert.write_bytes(b"subject=server\n" + pair.cert.read_bytes() + authority.ca.read_bytes())
    dates = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    assert tls.read(Files(pair.cert, pair.key)).not_after == dates.not_valid_after_utc.timestamp()


def wrong_files(authority):
    """Files that cannot be used, by what is wrong with them."""
    good, other = authority.issue("good"), authority.issue("other")
    garbage, empty, huge = (authority.folder / name for name in ("garbage", "empty", "huge"))
    garbage.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    empty.touch()
    huge.write_bytes(b"x" * (tls.MAX_PEM_BYTES + 1))
    cut = authority.folder / "cut"
    cut.write_bytes(good.cert.read_bytes()[:200])
    expired, early = (
        authority.issue("expired", ends=-timedelta(seconds=9)),
        authority.issue("early", begins=DAY, ends=2 * DAY),
    )
    encrypted = authority.issue("encrypted", passphrase=b"secret")
    missing = authority.folder / "missing"
    return {
        "mismatched": (Files(good.cert, other.key), other.key, f"not the key of the certificate in {good.cert}"),
        "expired": (Files(expired.cert, expired.key), expired.cert, "the certificate expired at 20"),
        "not yet valid": (Files(early.cert, early.key), early.cert, "valid only from 20"),
        "encrypted": (Files(encrypted.cert, encrypted.key), encrypted.key, "is encrypted"),
        "no key": (Files(good.cert, good.cert), good.cert, "no private key"),
        "empty key": (Files(good.cert, empty), empty, "no private key"),
        "no certificate": (Files(good.key, good.key), good.key, "no certificate in PEM"),
        "empty": (Files(empty, good.key), empty, "no certificate in PEM"),
        "garbage": (Files(garbage, good.key), garbage, "no certificate in PEM"),
        "cut": (Files(cut, good.key), cut, "no certificate in PEM"),
        "huge": (Files(huge, good.key), huge, "larger than"),
        "missing": (Files(missing, good.key), missing, "does not exist"),
        "missing key": (Files(good.cert, missing), missing, "does not exist"),
        "folder": (Files(authority.folder, good.key), authority.folder, "folder"),
        "no CA": (Files(good.cert, good.key, good.key), good.key, "no certificates in PEM"),
        "empty CA": (Files(good.cert, good.key, empty), empty, "empty"),
    }


def test_an_error_says_what_is_wrong_with_which_file(authority):
    for name, (files, file, said) in wrong_files(authority).items():
        with pytest.raises(InvalidInput) as error:
            tls.read(files)
        assert str(file) in str(error.value), name
        assert said in str(error.value), name


def test_files_that_change(authority, caplog):
    caplog.set_level(logging.INFO)
    first, second = authority.issue("first"), authority.issue("second")
    cert, key = authority.folder / "tls.crt", authority.folder / "tls.key"

    def put(pair_cert, pair_key):
        cert.write_bytes(pair_cert)
        key.write_bytes(pair_key)

    put(first.cert.read_bytes(), first.key.read_bytes())
    reloader = Reloader(Files(cert, key))
    before = reloader.credentials
    reloader.poll()
    assert (reloader.credentials is before, reloader.failing, caplog.records) == (True, False, [])
    for content in (b"garbage", b"", second.cert.read_bytes()):  # the last is not yet the key's
        cert.write_bytes(content)
        reloader.poll()
        reloader.poll()
        assert (reloader.credentials is before, reloader.failing) == (True, True)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2  # one for each problem, however often
    cert.unlink()
    reloader.poll()
    assert len(caplog.records) == 3
    put(second.cert.read_bytes(), second.key.read_bytes())
    reloader.poll()
    assert (reloader.credentials.pem.cert, reloader.failing) == (second.cert.read_bytes(), False)
    assert "new connections get this certificate, which expires at 20" in caplog.messages[-1]
    cert.write_bytes(b"garbage")
    reloader.poll()
    assert len(caplog.records) == 5  # the same problem as before, but a new occurrence


def test_a_mounted_secret_that_is_replaced(authority):
    """Kubernetes swaps the link ..data, to which those of the files point."""
    pairs = [authority.issue("first"), authority.issue("second")]
    mount = authority.folder / "mount"
    for number, pair in enumerate(pairs):
        folder = mount / f"..{number}"
        folder.mkdir(parents=True)
        (folder / "tls.crt").write_bytes(pair.cert.read_bytes())
        (folder / "tls.key").write_bytes(pair.key.read_bytes())
    (mount / "..data").symlink_to("..0")
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    reloader = Reloader(Files(mount / "tls.crt", mount / "tls.key"))
    (mount / "new").symlink_to("..1")
    (mount / "new").replace(mount / "..data")
    reloader.poll()
    assert reloader.credentials.pem.cert == pairs[1].cert.read_bytes()


@pytest.mark.parametrize(
    "values, said",
    [
        ({"tls_cert": Path("c")}, "--tls-cert needs --tls-key"),
        ({"tls_key": Path("k")}, "--tls-key needs --tls-cert"),
        ({"tls_client_ca": Path("a")}, "--tls-client-ca needs --tls-cert and --tls-key"),
    ],
)
def test_settings_that_belong_together(values, said):
    with pytest.raises(InvalidInput, match=said):
        Settings(Path("x"), **values)


def test_files_from_the_environment():
    given = from_environment(
        {"SEAWAY_TLS_CERT": "/tls/tls.crt", "SEAWAY_TLS_KEY": "/tls/tls.key", "SEAWAY_TLS_CLIENT_CA": ""}
    )
    assert given == {"tls_cert": Path("/tls/tls.crt"), "tls_key": Path("/tls/tls.key"), "tls_client_ca": None}
    assert Settings(Path("x"), **given).url(8501, tls=True) == "https://127.0.0.1:8501/"
