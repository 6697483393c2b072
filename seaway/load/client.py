"""A small synchronous client for one model server: every protocol of `client_codecs` over one persistent connection."""

import http.client
import json
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, urlsplit

import numpy as np

from seaway.errors import InvalidInput, NotFound, SeawayError, Unavailable
from seaway.protocols import client_codecs, graphpipe, oip, tfserving
from seaway.protocols.calls import DEFAULT_SIGNATURE, Signature

_PROTOCOL_PATH = re.compile(r"/(v1/models|v2/models|graphpipe)\b")
_ERRORS: dict[int, type[SeawayError]] = {400: InvalidInput, 404: NotFound, 413: InvalidInput}


class NoResponse(Unavailable):
    """Nothing responds at the address, or not in time."""


class Client:
    """Talks to the server at `url` ("http://127.0.0.1:8501"); `insecure` accepts any certificate. Not thread-safe.

    Every method raises NoResponse if nothing responds in time, NotFound for an unknown model or version, InvalidInput
    for the server's statuses 400 and 413, and Unavailable for its other errors.
    """

    def __init__(self, url: str, timeout_s: float = 30, insecure: bool = False) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
            raise InvalidInput(f"{url!r} is not a server's URL; give one like http://127.0.0.1:8501")
        if parts.query or parts.fragment or _PROTOCOL_PATH.search(parts.path):
            server = parts._replace(path=_PROTOCOL_PATH.split(parts.path)[0], query="", fragment="").geturl()
            raise InvalidInput(f"{url!r} is the URL of a request; give that of the server, {server}")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            if insecure:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout_s, context=context
            )
        self._base = parts.path.rstrip("/")
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def connect(self) -> None:
        """Opens the connection, which the first request does otherwise."""
        try:
            self._connection.connect()
        except OSError as error:
            raise self._no_response(error) from None

    def predict(
        self,
        protocol: client_codecs.Protocol,
        model: str,
        inputs: Mapping[str, np.ndarray],
        output: str,
        version: int | None = None,
        signature: str = "",
        whole: bool = False,
    ) -> tuple[np.ndarray, str]:
        """The model's output named `output` over any protocol, and the response's Seaway-Model header.

        `whole`: the inputs have no common batch as their first axis.
        """
        write = client_codecs.write_call if whole else client_codecs.Protocol.write
        return self.predict_encoded(protocol, model, *write(protocol, inputs, output, signature), output, version)

    def predict_outputs(
        self,
        protocol: client_codecs.Protocol,
        model: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        signature: str,
    ) -> Mapping[str, np.ndarray]:
        """Several outputs of one signature."""
        body, headers = protocol.encode(inputs, outputs, signature)
        content, received = self._request("POST", protocol.path(model, None), body, headers)
        try:
            arrays = protocol.decode(content, received, outputs)
            if len(arrays) == len(outputs) == 1:
                return dict(zip(outputs, arrays.values(), strict=True))  # REST does not name an only output
            return {name: arrays[name] for name in outputs}
        except (InvalidInput, KeyError):
            raise Unavailable(
                f"{self.url}: not a {protocol.title} response with the outputs {', '.join(outputs)}"
            ) from None

    def predict_encoded(
        self,
        protocol: client_codecs.Protocol,
        model: str,
        body: bytes,
        headers: Mapping[str, str],
        output: str,
        version: int | None = None,
    ) -> tuple[np.ndarray, str]:
        """The same for a request that is already encoded."""
        content, received = self._request("POST", protocol.path(model, version), body, headers)
        try:
            return protocol.read(content, received, output), received.get(client_codecs.SERVED_BY, "")
        except InvalidInput as error:
            raise Unavailable(f"{self.url}: not a {protocol.title} response ({error})") from None

    def status(self, model: str, version: int | None = None) -> list[tfserving.VersionStatus]:
        """The state of all loaded versions, or of one."""
        return tfserving.read_status(self._request("GET", client_codecs.model_path(model, version))[0])

    def models(self) -> list[str]:
        """The names of a Seaway server's models. Other servers do not list theirs: NotFound, or Unavailable."""
        try:
            return [model["name"] for model in json.loads(self._request("GET", "/page/about")[0])["models"]]
        except (ValueError, TypeError, LookupError):
            raise Unavailable(f"{self.url}: not a Seaway server, so it does not list its models") from None

    def signatures(self, model: str) -> dict[str, Signature]:
        """The model's signatures by name, from the first protocol whose metadata the server has. Those other than
        TensorFlow Serving's describe one, here called serving_default."""
        attempts: tuple[tuple[str, str, bytes | None, Callable[[bytes], dict[str, Signature]]], ...] = (
            ("GET", f"{client_codecs.model_path(model, None)}/metadata", None, tfserving.read_metadata),
            ("GET", client_codecs.oip_path(model, None).removesuffix("/infer"), None, oip.read_metadata),
            ("POST", client_codecs.graphpipe_path(model, None), graphpipe.write_metadata_request(), _graphpipe),
        )
        errors: list[SeawayError] = []
        for method, path, body, read in attempts:
            try:
                return read(self._request(method, path, body)[0])
            except NoResponse:
                raise
            except SeawayError as error:
                errors.append(error)
        raise errors[0]

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, http.client.HTTPMessage]:
        """(body, headers) of a 2xx response."""
        try:
            response, content = self._exchange(method, self._base + path, body, dict(headers or {}))
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._no_response(error) from None
        if not 200 <= response.status < 300:
            kind = _ERRORS.get(response.status, Unavailable)
            text = f"{self.url.rstrip('/')}{path}: {response.status} {response.reason}: {message_of(content)}"
            if self._base and response.status == 404:
                text += f"; every path begins with the URL's {self._base}: if the server does not, omit it"
            raise kind(text)
        return content, response.headers

    def _no_response(self, error: Exception) -> NoResponse:
        if isinstance(error, ssl.SSLCertVerificationError):
            return NoResponse(
                f"{self.url}: the TLS certificate is not trusted ({error.verify_message}): set SSL_CERT_FILE to the CA "
                "certificate, or skip verification with --insecure"
            )
        reason = str(error) or type(error).__name__
        return NoResponse(f"{self.url}: no response ({reason}); is the server running there?")

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        reused = self._connection.sock is not None
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if not reused:
                raise
            self._connection.close()  # the server closed the idle connection; try a new one
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        return response, response.read()


def _graphpipe(body: bytes) -> dict[str, Signature]:
    metadata = graphpipe.read_metadata_response(body)
    return {DEFAULT_SIGNATURE: Signature(metadata.inputs, metadata.outputs)}


def _has_port(parts: SplitResult) -> bool:
    """Whether the address has a valid port, or none."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def message_of(body: bytes) -> str:
    """The message of an error response, JSON's "error" or plain text, in one line of at most 300 characters."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    text = document.get("error") if isinstance(document, dict) else None
    if text is None and body.lstrip()[:1] == b"<":
        return "a web page, not a model server; check the URL"
    return " ".join(str(text or body.decode("utf-8", "replace")).split())[:300]
