"""The server's certificate: read from PEM, checked, and read again when its files change.

A file that is replaced takes effect for new connections. Files that cannot be used leave the certificate before them
in use: Kubernetes' Secrets, certbot and people replace files at any time, and not all of them at once.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from seaway.errors import InvalidInput, explain
from seaway.platform import memory

log = logging.getLogger("seaway.serve")

POLL_INTERVAL_S = 1.0
HANDSHAKE_TIMEOUT_S = 10.0
MAX_PEM_BYTES = 1 << 20  # of a file


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files: the certificate with its intermediate ones, its key, and the CAs of client certificates if clients
    must have one."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Pem:
    """The contents of such files; an empty `client_ca` asks clients for no certificate."""

    cert: bytes
    key: bytes = field(repr=False)
    client_ca: bytes = b""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`not_after`: when the certificate expires, in seconds since 1970."""

    pem: Pem
    context: ssl.SSLContext
    not_after: float


Source = Callable[[], Credentials]  # of the credentials for a new connection


def read(files: Files) -> Credentials:
    """Raises InvalidInput, which says what is wrong with which file."""
    return _credentials(_read_pem(files), files)


def check(pem: Pem, cert: str, key: str, client_ca: str) -> Credentials:
    """Credentials from PEM that was given otherwise; the names are for the errors. Raises InvalidInput."""
    return _credentials(pem, Files(Path(cert), Path(key), Path(client_ca)))


class Reloader:
    """The credentials of files, as of their last content that could be used. `failing`: whether the present content
    cannot be used."""

    def __init__(self, files: Files) -> None:
        """Raises InvalidInput."""
        self.credentials = read(files)
        self.failing = False
        self._files, self._logged = files, set[str]()

    async def follow(self) -> None:
        """Polls the files until cancelled."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            await asyncio.to_thread(self.poll)

    def poll(self) -> None:
        """Reads the files once."""
        try:
            pem = _read_pem(self._files)
            if pem != self.credentials.pem:
                self.credentials = _credentials(pem, self._files)
                log.info("%s: new connections get this certificate, %s", self._files.cert, _until(self.credentials))
            self.failing = False
            self._logged.clear()
        except InvalidInput as error:
            self.failing = True
            if str(error) not in self._logged:
                self._logged.add(str(error))
                log.error("TLS keeps the certificate in use, and tries again every second: %s", error)


def _until(credentials: Credentials) -> str:
    return f"which expires at {_time(credentials.not_after)}"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


# ---- reading and checking


def _read_pem(files: Files) -> Pem:
    def content(path: Path) -> bytes:
        try:
            with path.open("rb") as opened:
                found = opened.read(MAX_PEM_BYTES + 1)
        except OSError as error:
            raise InvalidInput(explain(error)) from None
        if len(found) > MAX_PEM_BYTES:
            raise InvalidInput(f"{path}: larger than {MAX_PEM_BYTES} bytes, so it is no such file")
        return found

    client_ca = content(files.client_ca) if files.client_ca else b""
    if files.client_ca and not client_ca:
        raise InvalidInput(f"{files.client_ca}: the file is empty; it must have the CAs of client certificates, in PEM")
    return Pem(content(files.cert), content(files.key), client_ca)


def _credentials(pem: Pem, files: Files) -> Credentials:
    not_before, not_after = _validity(pem.cert, files.cert)
    if not_after < time.time():
        raise InvalidInput(f"{files.cert}: the certificate expired at {_time(not_after)}: renew it")
    if not_before > time.time():
        raise InvalidInput(f"{files.cert}: the certificate is valid only from {_time(not_before)}: is the clock right?")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load(context, pem, files)
    if pem.client_ca:
        try:
            context.load_verify_locations(cadata=pem.client_ca.decode("ascii", "replace"))
        except ssl.SSLError:
            raise InvalidInput(f"{files.client_ca}: no certificates in PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return Credentials(pem, context, not_after)


def _load(context: ssl.SSLContext, pem: Pem, files: Files) -> None:
    """Loads certificate and key, which are of the same moment: not the files, which may be changing."""

    def encrypted() -> NoReturn:
        raise InvalidInput(
            f"{files.key}: the key is encrypted; give one without a passphrase: openssl pkey -in {files.key} -out NEW"
        )

    # In memory: OpenSSL takes keys only from files
    with memory.file_of(pem.cert) as cert, memory.file_of(pem.key) as key:
        try:
            context.load_cert_chain(cert, key, password=encrypted)
        except ssl.SSLError as error:
            if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
                raise InvalidInput(f"{files.key}: this is not the key of the certificate in {files.cert}") from None
            if error.reason and error.reason.startswith(("EE_", "CA_")):  # as OpenSSL's security level says
                raise InvalidInput(
                    f"{files.cert}: the certificate is refused: {error.reason.replace('_', ' ').lower()}"
                ) from None
            raise InvalidInput(f"{files.key}: no private key in PEM that can be used") from None


# ---- the dates of a certificate


def _validity(pem: bytes, file: Path) -> tuple[float, float]:
    """When the first certificate begins and ends to be valid. Raises InvalidInput if there is none."""
    try:
        text = pem.decode("ascii")
        text = text[text.index(ssl.PEM_HEADER) :]
        der = ssl.PEM_cert_to_DER_cert(text[: text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)] + "\n")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
        return _dates(der)
    except (ValueError, IndexError, ssl.SSLError):
        raise InvalidInput(f"{file}: no certificate in PEM") from None


def _dates(der: bytes) -> tuple[float, float]:
    """Of RFC 5280's Certificate ::= {tbsCertificate {[0] version?, serialNumber, signature, issuer, validity …} …}."""
    _, start, _ = _element(der, 0)
    _, at, _ = _element(der, start)
    tag, _, end = _element(der, at)
    fields_before = 3 if tag == 0xA0 else 2  # after the first of them
    for _ in range(fields_before):
        _, _, end = _element(der, end)
    _, at, _ = _element(der, end)
    kind, start, end = _element(der, at)
    first = _seconds(kind, der[start:end])
    kind, start, end = _element(der, end)
    return first, _seconds(kind, der[start:end])


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag at an offset, and where its content starts and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    return der[at], start, start + length


def _seconds(kind: int, text: bytes) -> float:
    """Of UTCTime, whose years are 1950 to 2049, or GeneralizedTime."""
    date = text.decode("ascii")
    if kind == 0x17:
        date = ("19" if date >= "50" else "20") + date
    return datetime.strptime(date, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
