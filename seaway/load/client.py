"""A small synchronous client for one model server: every protocol of `wire` over one kept connection."""

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import numpy as np

from seaway.errors import InvalidInput, NotFound, SeawayError, Unavailable
from seaway.protocols import graphpipe, tfserving, wire
from seaway.protocols.calls import BINARY, JSON

_ERRORS: dict[int, type[SeawayError]] = {400: InvalidInput, 404: NotFound, 413: InvalidInput}


@dataclass(frozen=True, slots=True)
class Answer:
    """Output arrays by name (REST's sole output: ""), and the answer's Seaway-Model header ("" where there is none)."""

    outputs: dict[str, np.ndarray]
    served_by: str


class NoAnswer(Unavailable):
    """Nobody answers at the address, or not in time."""


class Client:
    """Talks to the server at `url` ("http://127.0.0.1:8501"); `timeout` in seconds; `insecure`: any certificate is
    taken. Not for several threads at once.

    Every method raises NoAnswer where nobody answers in time, NotFound for an unknown model or version, InvalidInput
    for what the server calls the caller's fault, and Unavailable for what the server calls its own.
    """

    def __init__(self, url: str, timeout: float = 30, insecure: bool = False) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
            raise InvalidInput(f"{url!r} is not a server's address; give one like http://127.0.0.1:8501")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            if insecure:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
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

    def predict_rest(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        version: int | None = None,
        signature: str | None = None,
        row: bool = True,
    ) -> Answer:
        """One TensorFlow Serving predict call, `inputs` each [N, …]."""
        body = tfserving.write_predict_request(inputs, signature, row)
        answer, headers = self._send("POST", wire.tfs_path(model, version), body, {"Content-Type": JSON})
        return Answer(tfserving.read_predict_answer(answer), headers.get(wire.SERVED_BY, ""))

    def predict_graphpipe(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], version: int | None = None
    ) -> Answer:
        """One GraphPipe inference for the outputs named."""
        body = graphpipe.write_infer_request(dict(inputs), list(outputs))
        path = wire.graphpipe_path(model, version)
        answer, headers = self._send("POST", path, body, {"Content-Type": BINARY})
        arrays = graphpipe.read_infer_response(answer)
        return Answer(dict(zip(outputs, arrays, strict=True)), headers.get(wire.SERVED_BY, ""))

    def predict(
        self,
        protocol: wire.Protocol,
        model: str,
        inputs: Mapping[str, np.ndarray],
        output: str,
        version: int | None = None,
    ) -> tuple[np.ndarray, str]:
        """The model's first output, named `output`, over any protocol, and the answer's Seaway-Model header."""
        return self.ask(protocol, model, *protocol.write(inputs, output), output, version)

    def ask(
        self,
        protocol: wire.Protocol,
        model: str,
        body: bytes,
        headers: Mapping[str, str],
        output: str,
        version: int | None = None,
    ) -> tuple[np.ndarray, str]:
        """The same for a request that is written already."""
        answer, said = self._send("POST", protocol.path(model, version), body, headers)
        try:
            return protocol.read(answer, said, output), said.get(wire.SERVED_BY, "")
        except InvalidInput as error:
            raise Unavailable(f"{self.url}: what came is no {protocol.title} answer ({error})") from None

    def status(self, model: str, version: int | None = None) -> list[tfserving.VersionStatus]:
        """State of all loaded versions, or of one."""
        return tfserving.read_status(self._send("GET", wire.model_path(model, version))[0])

    def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """TensorFlow Serving's metadata JSON: model_spec and signature_def."""
        raw = json.loads(self._send("GET", f"{wire.model_path(model, version)}/metadata")[0])
        if not isinstance(raw, dict):
            raise Unavailable(f"{self.url}: what answers there is no model server")
        return raw

    def _send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, http.client.HTTPMessage]:
        """(body, headers) of a 2xx answer."""
        try:
            response, answer = self._exchange(method, self._base + path, body, dict(headers or {}))
        except ssl.SSLCertVerificationError as error:
            raise NoAnswer(
                f"{self.url}: its certificate is not trusted here ({error.verify_message}); name the authority in "
                "SSL_CERT_FILE, or give --insecure"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = str(error) or type(error).__name__
            raise NoAnswer(f"{self.url}: no answer ({reason}); is the server running there?") from None
        if not 200 <= response.status < 300:
            kind = _ERRORS.get(response.status, Unavailable)
            raise kind(f"{self.url}{path}: {response.status} {response.reason}: {message_of(answer)}")
        return answer, response.headers

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        kept = self._connection.sock is not None
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if not kept:
                raise
            self._connection.close()  # the server had closed the idle connection; a new one decides
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        return response, response.read()


def _has_port(parts: SplitResult) -> bool:
    """Whether the address names a port that there can be, or none."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def message_of(body: bytes) -> str:
    """The message of an error answer, JSON's "error" or plain text, in one line of at most 300 characters."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    text = found.get("error") if isinstance(found, dict) else None
    if text is None and body.lstrip()[:1] == b"<":
        return "a web page, so no model server answers there; check the address"
    return " ".join(str(text or body.decode("utf-8", "replace")).split())[:300]
