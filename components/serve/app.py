"""The ASGI application: reads a request whole within its limits, finds its endpoint, makes errors into answers.

This is the one place where errors become HTTP: `status` of a SeawayError, in the words of the endpoint's protocol;
anything else is a 500 with its trace in the log.
"""

import json
import logging
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from components.serve import endpoints
from components.serve.dataplane import DataPlane
from components.serve.endpoints import Answer, Endpoint, Request
from seaway.errors import InvalidInput, NotFound, SeawayError

log = logging.getLogger("seaway.serve")

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
WriteError = Callable[[SeawayError], Answer]
Found = tuple[Endpoint, WriteError]

HEALTH: dict[str, Found] = {
    "/healthz": (endpoints.healthz, endpoints.tfserving_error),
    "/readyz": (endpoints.readyz, endpoints.tfserving_error),
}
RETRY_AFTER = {429: "1", 503: "1"}


def data_routes(target: str) -> Found:
    if target.lower().startswith("/v1/"):
        return endpoints.tfserving_rest, endpoints.tfserving_error
    path = target.partition("?")[0]
    if path == "/" or path.startswith("/graphpipe/"):
        return endpoints.graphpipe_http, endpoints.graphpipe_error
    return HEALTH.get(path) or (_nowhere, endpoints.tfserving_error)


def admin_routes(target: str) -> Found:
    path = target.partition("?")[0]
    if path == "/status":
        return endpoints.admin_status, endpoints.tfserving_error
    return HEALTH.get(path) or (_nowhere, endpoints.tfserving_error)


async def _nowhere(_: DataPlane, request: Request) -> Answer:
    raise NotFound(
        f"nothing at {request.target}: TensorFlow Serving REST is under /v1/models/, GraphPipe at / and "
        "/graphpipe/<model>, health at /healthz and /readyz"
    )


class App:
    """Routes of one port over the data plane. While it drains, answers close their connections."""

    def __init__(self, plane: DataPlane, routes: Callable[[str], Found], max_body: int, access_log: bool) -> None:
        self._plane, self._routes, self._max_body, self._access_log = plane, routes, max_body, access_log

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # a websocket, which nothing here speaks
            return
        began = time.perf_counter()
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        answer = await self._answer(scope, target, receive)
        await _send(answer, self._plane.draining, send)
        if self._access_log:
            _log_access(scope, target, answer, time.perf_counter() - began)

    async def _answer(self, scope: MutableMapping[str, Any], target: str, receive: Receive) -> Answer:
        endpoint, write_error = self._routes(target)
        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            body = await self._read(headers, receive)
            return await endpoint(self._plane, Request(scope["method"], target, headers, body))
        except SeawayError as error:
            return write_error(error)
        except Exception:
            log.exception("%s %s failed", scope["method"], target)
            return write_error(SeawayError("the server failed on this request; its log has the trace"))

    async def _read(self, headers: dict[str, str], receive: Receive) -> bytes:
        """Raises SeawayError with status 413 before more than the limit is kept."""
        if int(headers.get("content-length", 0)) > self._max_body:
            raise self._too_large()
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidInput("the client went away before its request was complete", status=499)
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._max_body:
                raise self._too_large()
            if not message.get("more_body"):
                break
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._inflated(body) if "gzip" in headers.get("content-encoding", "") else body

    def _inflated(self, body: bytes) -> bytes:
        """A body that is no gzip counts as empty, as in TensorFlow Serving."""
        inflater = zlib.decompressobj(wbits=31)
        try:
            inflated = inflater.decompress(body, self._max_body)
        except zlib.error:
            return b""
        if inflater.unconsumed_tail:
            raise self._too_large()
        return inflated if inflater.eof else b""

    def _too_large(self) -> SeawayError:
        return SeawayError(
            f"the body is larger than {self._max_body} bytes: send fewer examples at once, or start the server with a "
            "larger --max-body-bytes",
            status=413,
        )


async def _send(answer: Answer, closing: bool, send: Send) -> None:
    headers = {"content-type": answer.type, "content-length": str(len(answer.body)), **answer.headers}
    if answer.status in RETRY_AFTER:
        headers["retry-after"] = RETRY_AFTER[answer.status]
    if closing or answer.status == 413:  # after a 413 the rest of the body is still on its way
        headers["connection"] = "close"
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer.body})


def _log_access(scope: MutableMapping[str, Any], target: str, answer: Answer, seconds: float) -> None:
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "client": (scope.get("client") or ("",))[0],
        "method": scope["method"],
        "path": target,
        "status": answer.status,
        "bytes": len(answer.body),
        "ms": round(seconds * 1000, 3),
        "model": answer.headers.get("Seaway-Model", ""),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
