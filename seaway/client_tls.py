"""TLS settings of clients: whom to trust, the client's own certificate, and what to do about a failed handshake.

For https:// by `ssl_context`, for grpcs:// by `load.grpc_client.credentials`; both read the same PEM files.
"""

import re
import ssl
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from seaway.errors import InvalidInput, explain

# In a folder, named as in a Secret of type kubernetes.io/tls, and as cert-manager names them
CA_FILE, CERT_FILE, KEY_FILE = "ca.crt", "tls.crt", "tls.key"
CA_HELP = "PEM file of the CA certificates to trust for https:// and grpcs://. Default: the system's."
CERT_HELP = "PEM file of the client's own certificate and its chain, for a server that requires one; with --tls-key."
KEY_HELP = "PEM file of the private key of --tls-cert, not encrypted."
INSECURE_HELP = "Do not verify the server's TLS certificate; not with grpcs://."

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY = b"PRIVATE KEY-----"
_TRUST = "give its CA's certificate with --tls-ca FILE"
# What OpenSSL or gRPC says of a failed handshake → what it means and what to do; the first that matches. An alert is
# what the server says of the client, so those come before the client's own findings.
_ADVICE = tuple(
    (re.compile(pattern, re.IGNORECASE), advice)
    for pattern, advice in (
        (
            r"wrong version number|record layer failure|http request",
            "the server does not speak TLS there: check the port, or give http:// or grpc://",
        ),
        (
            r"alert (certificate required|handshake failure)",
            "the server requires a client certificate: give --tls-cert FILE and --tls-key FILE",
        ),
        (
            r"alert (unknown ca|bad certificate|certificate unknown|unsupported certificate|decrypt error|access denied"
            r"|certificate expired|certificate revoked)",
            "the server does not accept the client certificate ({match}): give one of a CA that it trusts, not expired",
        ),
        (
            r"certificate has expired",
            "the server's TLS certificate has expired: renew it on the server",
        ),
        (
            r"certificate is not yet valid",
            "the server's TLS certificate is not yet valid: check the clocks of both machines",
        ),
        (
            r"hostname mismatch|ip address mismatch|is not valid for|hostname verification|not in peer certificate",
            "the server's TLS certificate is for another host: give the URL with a name that is in the certificate",
        ),
        (
            r"certificate verify failed: (?P<reason>[^:(]+)",
            f"the server's TLS certificate is not trusted ({{reason}}): {_TRUST}",
        ),
    )
)
_CLOSED = re.compile(r"EOF occurred|Socket closed|reset by peer|Broken pipe|closed connection", re.IGNORECASE)
_CLOSED_WITHOUT_CERTIFICATE = (
    "the server closed the connection: if it requires a client certificate, give --tls-cert FILE and --tls-key FILE"
)
_CLOSED_WITH_CERTIFICATE = (
    "the server closed the connection: it may not accept the client certificate, which must be of a CA that it trusts "
    "and not expired"
)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files: `ca` to trust (None: the system's), and the client's own certificate `cert` with its `key` (None: it
    shows none). `insecure`: accepts any certificate."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    @classmethod
    def from_folder(cls, folder: str) -> Self:
        """Those of `CA_FILE`, `CERT_FILE` and `KEY_FILE` that the folder has; "": none. Raises InvalidInput."""
        if not folder:
            return cls()
        # cert-manager leaves ca.crt empty if an issuer does not tell its CA
        present = {file.name: file for file in Path(folder).glob("*") if file.is_file() and file.stat().st_size}
        if not present.keys() & {CA_FILE, CERT_FILE, KEY_FILE}:
            raise InvalidInput(f"{folder}: no {CA_FILE}, {CERT_FILE} or {KEY_FILE} there; is the Secret mounted?")
        return cls(present.get(CA_FILE), present.get(CERT_FILE), present.get(KEY_FILE))

    def check(self, *urls: str) -> None:
        """Raises InvalidInput for settings that contradict each other, have no effect on any of the URLs ("": none), or
        name files that cannot be used."""
        options = {"--tls-ca": self.ca, "--tls-cert": self.cert, "--tls-key": self.key, "--insecure": self.insecure}
        given = [name for name, value in options.items() if value]
        if not given:
            return
        if self.cert and not self.key:
            raise InvalidInput(f"--tls-cert {self.cert}: its key is missing: add --tls-key FILE")
        if self.key and not self.cert:
            raise InvalidInput(f"--tls-key {self.key}: its certificate is missing: add --tls-cert FILE")
        if self.ca and self.insecure:
            raise InvalidInput("--insecure accepts any certificate, so --tls-ca would have no effect: give one of them")
        check_effect(given, *urls)
        for url in urls:
            if self.insecure and url.startswith("grpcs://"):
                raise InvalidInput(
                    f"{url}: gRPC cannot skip the verification of a certificate: instead of --insecure {_TRUST}"
                )
        self.ssl_context()

    def ssl_context(self) -> ssl.SSLContext:
        """For connections to https://. Raises InvalidInput, which names the file that cannot be used."""
        context = ssl.create_default_context(cadata=self.read_ca())
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert and self.key:
            self.read_pair()
            try:
                context.load_cert_chain(self.cert, self.key, password="")
            except ssl.SSLError as error:
                if "MISMATCH" in (error.reason or ""):
                    raise InvalidInput(
                        f"--tls-key {self.key}: not the private key of the certificate {self.cert}"
                    ) from None
                raise InvalidInput(f"--tls-key {self.key}: not a valid private key in PEM ({error.reason})") from None
        return context

    def read_ca(self) -> str | None:
        """The certificates to trust, None for the system's. Raises InvalidInput."""
        return _read_certificates(self.ca, "--tls-ca").decode("ascii", "replace") if self.ca else None

    def read_pair(self) -> tuple[bytes, bytes] | None:
        """The client's key and certificate, if it has them. Raises InvalidInput."""
        if not (self.cert and self.key):
            return None
        chain = _read_certificates(self.cert, "--tls-cert")
        key = _read(self.key, "--tls-key", _PRIVATE_KEY, "private key")
        if b"ENCRYPTED" in key:
            raise InvalidInput(
                f"--tls-key {self.key}: the key is encrypted: decrypt it (openssl pkey -in {self.key.name} -out FILE)"
            )
        return key, chain

    def advice(self, text: str) -> str:
        """What a failed handshake means and what to do, from the words of OpenSSL or gRPC; "" for other errors."""
        for pattern, advice in _ADVICE:
            if match := pattern.search(text.replace("_", " ")):
                return advice.format(match=match[0].lower(), **match.groupdict()).replace(" )", ")")
        if is_closed(text):
            return _CLOSED_WITH_CERTIFICATE if self.cert else _CLOSED_WITHOUT_CERTIFICATE
        return ""


DEFAULT_TLS = ClientTls()  # the system's CA certificates, and no certificate of its own


def is_tls(url: str) -> bool:
    return url.startswith(("https://", "grpcs://"))


def check_effect(given: Sequence[str], *urls: str) -> None:
    """Raises InvalidInput if TLS settings, by their names in `given`, have no effect on any of the URLs ("": none)."""
    if not any(map(is_tls, urls)):
        addresses = ", ".join(filter(None, urls)) or "no URL"
        raise InvalidInput(
            f"{addresses}: no TLS there, so {', '.join(given)} would have no effect: give an https:// or grpcs:// "
            "URL, or no such option"
        )


def is_closed(text: str) -> bool:
    """Whether these words of OpenSSL, gRPC or the system say that the server closed the connection."""
    return bool(_CLOSED.search(text))


def system_ca() -> bytes | None:
    """The certificates that the system trusts, as PEM, for libraries that do not look for them; None if it has none."""
    certificates = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode() or None


def add_arguments(parser: Any) -> None:
    """Adds the options to an argparse parser; `from_arguments` reads them."""
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help=CA_HELP)
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help=CERT_HELP)
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help=KEY_HELP)
    parser.add_argument("--insecure", action="store_true", help=INSECURE_HELP)


def from_arguments(arguments: Namespace) -> ClientTls:
    return ClientTls(arguments.tls_ca, arguments.tls_cert, arguments.tls_key, arguments.insecure)


def _read_certificates(file: Path, option: str) -> bytes:
    content = _read(file, option, _CERTIFICATE, "certificate")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise InvalidInput(f"{option} {file}: not a valid certificate in PEM ({error.reason})") from None
    return content


def _read(file: Path, option: str, marker: bytes, kind: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{option} {explain(error)}") from None
    if marker not in content:
        raise InvalidInput(f"{option} {file}: no {kind} in PEM, which has a line {marker.decode().strip('-')!r}")
    return content
