"""A small synchronous client for one model server: the protocols of `client_codecs` over one persistent connection."""

import http.client
import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import numpy as np

from seaway.client_tls import DEFAULT_TLS, ClientTls, is_closed, is_tls
from seaway.errors import InvalidInput, NotFound, SeawayError, Unavailable
from seaway.protocols import client_codecs, graphpipe, oip, protobuf_wire, tfs_grpc, tfserving
from seaway.protocols.calls import DEFAULT_SIGNATURE, Signature

_PROTOCOL_PATH = re.compile(r"/(v1/models|v2/models|graphpipe)\b")
_ERRORS: dict[int, type[SeawayError]] = {400: InvalidInput, 404: NotFound, 413: InvalidInput}


class NoResponse(Unavailable):
    """Nothing responds at the address, or not in time."""


class Client:
    """Talks to the server at `url` ("http://127.0.0.1:8501", or "grpc://127.0.0.1:8500" for the protocols over gRPC);
    `tls` is for https:// and grpcs://. Not thread-safe.

    Every method raises NoResponse if nothing responds in time, NotFound for an unknown model or version, InvalidInput
    for the server's statuses 400 and 413, and Unavailable for its other errors.
    """

    def __init__(self, url: str, timeout_s: float = 30, tls: ClientTls = DEFAULT_TLS) -> None:
        self.url, self._timeout_s, self._tls = url, timeout_s, tls
        self._channel: Any = None
        if client_codecs.is_grpc(url):
            from seaway.load import grpc_client

            self._channel = grpc_client.open_channel(url, grpc_client.credentials(tls) if is_tls(url) else None)
            return
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
            raise InvalidInput(f"{url!r} is not a server's URL; give one like http://127.0.0.1:8501")
        if parts.query or parts.fragment or _PROTOCOL_PATH.search(parts.path):
            server = parts._replace(path=_PROTOCOL_PATH.split(parts.path)[0], query="", fragment="").geturl()
            raise InvalidInput(f"{url!r} is the URL of a request; give that of the server, {server}")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout_s, context=tls.ssl_context()
            )
        self._base = parts.path.rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        (self._channel or self._connection).close()

    def connect(self) -> None:
        """Opens the connection, which the first request does otherwise."""
        if self._channel:
            self._call("/grpc.health.v1.Health/Check", b"", missing_ok=True)
            return
        try:
            self._connection.connect()
        except OSError as error:
            raise self._no_response(str(error) or type(error).__name__) from None

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
        arrays, served_by = self.predict_outputs(protocol, model, inputs, [output], version, signature, whole)
        return arrays[output], served_by

    def predict_outputs(
        self,
        protocol: client_codecs.Protocol,
        model: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        version: int | None = None,
        signature: str = "",
        whole: bool = False,
    ) -> tuple[Mapping[str, np.ndarray], str]:
        """The same for several outputs of one signature, by name."""
        body, headers = protocol.write(inputs, outputs, signature, whole)
        return self.predict_encoded(protocol, model, body, headers, outputs, version)

    def predict_encoded(
        self,
        protocol: client_codecs.Protocol,
        model: str,
        body: bytes,
        headers: Mapping[str, str],
        outputs: Sequence[str],
        version: int | None = None,
    ) -> tuple[Mapping[str, np.ndarray], str]:
        """The same for a request that is already encoded; without `outputs`, all that the response has."""
        client_codecs.check_url(self.url, protocol)
        received: client_codecs.Headers
        if protocol.name_model:
            content, received = self._call(protocol.path(model, version), protocol.name_model(model, version) + body)
        else:
            content, received = self._request("POST", protocol.path(model, version), body, headers)
        try:
            arrays = protocol.read(content, received, outputs)
        except InvalidInput as error:
            raise Unavailable(f"{self.url}: not a {protocol.title} response ({error})") from None
        if missing := [name for name in outputs if name not in arrays]:
            raise Unavailable(f"{self.url}: the {protocol.title} response has no output {', '.join(missing)}")
        return arrays, dict(received.items()).get(client_codecs.SERVED_BY, "")

    def status(self, model: str, version: int | None = None) -> list[tfserving.VersionStatus]:
        """The state of all loaded versions, or of one."""
        if self._channel:
            request = tfs_grpc.name_model(model, version)
            return tfs_grpc.read_status(self._call(f"/{tfs_grpc.MODEL}/GetModelStatus", request)[0])
        return tfserving.read_status(self._request("GET", client_codecs.model_path(model, version))[0])

    def models(self) -> list[str]:
        """The names of a Seaway server's models. Other servers do not list theirs: NotFound, or Unavailable."""
        if self._channel:
            raise NotFound(f"{self.url}: the models are not listed over gRPC; give the model's name")
        try:
            return [model["name"] for model in json.loads(self._request("GET", "/page/about")[0])["models"]]
        except (ValueError, TypeError, LookupError):
            raise Unavailable(f"{self.url}: not a Seaway server, so it does not list its models") from None

    def signatures(self, model: str) -> dict[str, Signature]:
        """The model's signatures by name, from the first protocol whose metadata the server has. Those other than
        TensorFlow Serving's describe one, here called serving_default."""
        if self._channel:
            request = tfs_grpc.name_model(model, None) + protobuf_wire.encode(2, b"signature_def")
            return tfs_grpc.read_metadata(self._call(f"/{tfs_grpc.PREDICTION}/GetModelMetadata", request)[0])
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

    def _call(self, path: str, request: bytes, missing_ok: bool = False) -> tuple[bytes, Mapping[str, str]]:
        """The response of a gRPC method, and those of its metadata that HTTP has as headers. `missing_ok`: an error of
        the server is a response, too."""
        import grpc

        from seaway.load import grpc_client

        try:
            response, call = grpc_client.method(self._channel, path).with_call(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code, details = error.code(), " ".join(str(error.details()).split())[:300]
            answered = "x-request-id" in {key for key, _ in error.trailing_metadata() or ()}
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) and not answered:
                raise self._no_response(details) from None
            if missing_ok:
                return b"", {}
            kind = _ERRORS.get(grpc_client.STATUSES.get(code, 0), Unavailable)
            raise kind(f"{self.url}{path}: {code.name}: {details}") from None
        return response, grpc_client.headers(call)

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, http.client.HTTPMessage]:
        """(body, headers) of a 2xx response."""
        try:
            response, content = self._exchange(method, self._base + path, body, dict(headers or {}))
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._no_response(str(error) or type(error).__name__) from None
        if not 200 <= response.status < 300:
            kind = _ERRORS.get(response.status, Unavailable)
            text = f"{self.url.rstrip('/')}{path}: {response.status} {response.reason}: {message_of(content)}"
            if self._base and response.status == 404:
                text += f"; every path begins with the URL's {self._base}: if the server does not, omit it"
            raise kind(text)
        return content, response.headers

    def _no_response(self, reason: str) -> NoResponse:
        if is_tls(self.url) and (advice := self._tls.advice(reason)):
            return NoResponse(f"{self.url}: {advice}")
        hint = ""
        if not is_tls(self.url) and is_closed(reason):
            hint = f" If it speaks TLS, give {'grpcs' if self._channel else 'https'}://."
        return NoResponse(f"{self.url}: no response ({reason}); is the server running there?{hint}")

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
