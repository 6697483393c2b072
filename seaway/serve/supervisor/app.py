"""The application of each port: routes requests to endpoints, turns errors into responses, and records responses.

Only this module turns errors into HTTP: the `status` of a SeawayError, in the format of the path's protocol; any other
exception is a 500 with its traceback in the log.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from seaway.errors import NotFound, SeawayError
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import TEXT, Reply
from seaway.serve.supervisor import endpoints, openapi
from seaway.serve.supervisor.connection import Request
from seaway.serve.supervisor.cors import PREFLIGHT
from seaway.serve.supervisor.endpoints import Endpoint
from seaway.serve.supervisor.metrics import Metrics
from seaway.serve.supervisor.model_manager import ModelManager

log = logging.getLogger("seaway.serve")

PAGE = Path(__file__).parents[1] / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SECURE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

# Of X-Forwarded-Prefix: a path of plain segments, so that it cannot lead to another host or out of itself
PREFIX, MAX_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+/?"), 200

Route = tuple[Endpoint, str, ModuleType]  # endpoint, the protocol's name in logs and metrics, its module


class App:
    """Routes of one port over the model manager."""

    def __init__(
        self,
        manager: ModelManager,
        routes: "Callable[[Request], Route]",
        metrics: Metrics,
        access_log: bool,
        cors: bool,
    ) -> None:
        self._manager, self._routes, self._metrics, self._access_log = manager, routes, metrics, access_log
        self._cors = cors

    def handle(self, request: Request) -> None:
        """Responds to the request, or leaves it to the model manager, which will respond later."""
        endpoint, request.protocol, module = self._routes(request)
        try:
            reply = endpoint(self._manager, request)
        except SeawayError as error:
            reply = module.error(error)
            if error.status == 405 and self._cors and request.method == "OPTIONS" and "origin" in request.headers:
                reply = Reply(200, b"", TEXT, PREFLIGHT)  # to a browser's preflight request
            elif error.status == 405:
                reply = replace(reply, headers={**reply.headers, "Allow": _allowed(module, request.target)})
        except Exception:
            log.exception("%s %s failed", request.method, request.target)
            reply = module.error(SeawayError("the server failed on this request; its log has the traceback"))
        if reply is not None:
            request.respond(reply)

    def on_rejection(self, request: Request, reply: Reply) -> None:
        """Records the response to a request that could not be read; without its path, the protocol is unknown."""
        request.protocol = self._routes(request)[1] if request.target else "unknown"
        self.on_response(request, reply)

    def on_response(self, request: Request, reply: Reply) -> None:
        """Records a response as it is sent."""
        seconds = time.perf_counter() - request.began
        if request.protocol:
            model, _, version = request.key.rpartition("/")
            self._metrics.count_response(request.protocol, model, version, reply.status, seconds)
        if self._access_log:
            _log_access(request, reply, reply.headers.get("Seaway-Model", ""), seconds)


def _log_access(request: Request, reply: Reply, identity: str, seconds: float) -> None:
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": request.id,
        "trace": request.trace.split("-")[1] if request.trace else "",
        "client": request.client,
        "method": request.method,
        "path": request.target,
        "status": reply.status,
        "bytes": len(reply.body) if isinstance(reply.body, bytes) else sum(map(len, reply.body)),
        "ms": round(seconds * 1000, 3),
        "model": identity,
    }
    sys.stderr.write(json.dumps(line) + "\n")


# ---- routes


def _route(endpoint: Endpoint) -> Route:
    return endpoint, "", tfserving


def _file(path: Path) -> Route:
    reply = Reply(200, path.read_bytes(), TYPES[path.suffix], SECURE)
    return _route(lambda manager, request: reply)


def _description(_: ModelManager, request: Request) -> Reply:
    """The API's description. Its server is relative to itself, as all links of the page are; behind a gateway that
    removes a prefix from paths, it is that prefix, for clients that keep the file."""
    prefix = request.headers.get("x-forwarded-prefix", "")
    server = prefix.rstrip("/") + "/" if len(prefix) <= MAX_PREFIX and PREFIX.fullmatch(prefix) else "./"
    return Reply(200, json.dumps(openapi.document(server)).encode(), headers={"Vary": "X-Forwarded-Prefix"})


def _not_found(_: ModelManager, request: Request) -> Reply:
    raise NotFound(
        f"nothing at {request.target[:200]}: TensorFlow Serving REST is under /v1/models/, the Open Inference Protocol "
        "under /v2/, GraphPipe at / and /graphpipe/<model>, health at /healthz and /readyz, the documentation at /docs"
    )


def _allowed(module: ModuleType, target: str) -> str:
    """The methods that a path allows, for a 405 response as RFC 9110 requires."""
    if module is graphpipe:
        return "GET, HEAD, POST"
    return "POST" if target.partition("?")[0].endswith("/infer") else "GET, HEAD"


def _only_get(endpoint: Endpoint) -> Endpoint:
    def respond(manager: ModelManager, request: Request) -> Reply | None:
        if request.method not in ("GET", "HEAD"):
            raise SeawayError(f"{request.method} is not allowed for {request.target[:200]}: use GET", status=405)
        return endpoint(manager, request)

    return respond


def data_routes(metrics: Metrics, metrics_path: str = "") -> Callable[[Request], Route]:
    """Routes of the data port: three protocols, health, the page and the API's description; and the metrics, if they
    have a path here."""
    files = {path.name: _file(path) for path in sorted(PAGE.iterdir()) if path.suffix in TYPES}
    page = files.pop("index.html", _route(_not_found))
    fixed = {
        **_health(),
        "/docs": files.pop("docs.html"),
        **{f"/page/{name}": route for name, route in files.items()},
        "/openapi.json": _route(_description),
        "/page/about": _route(endpoints.page_about),
    }
    if metrics_path:
        fixed[metrics_path] = _exposition(metrics)
    fixed = {path: (_only_get(route[0]), *route[1:]) for path, route in fixed.items()}
    tfs, graph = (endpoints.tfserving_rest, "tfs", tfserving), (endpoints.graphpipe_http, "graphpipe", graphpipe)
    v2, not_found = (endpoints.oip_http, "oip", oip), _route(_not_found)

    def find(request: Request) -> Route:
        target = request.target
        if target[:4].lower() == "/v1/":
            return tfs
        path = target.partition("?")[0]
        if path == "/":
            wants_page = request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")
            return page if wants_page else graph
        if path == "/v2" or path.startswith("/v2/"):
            return v2
        return graph if path.startswith("/graphpipe/") else fixed.get(path, not_found)

    return find


def admin_routes(metrics: Metrics) -> Callable[[Request], Route]:
    """Routes of the admin port, which clients need not be able to reach."""
    fixed = {**_health(), "/status": _route(endpoints.admin_status), "/metrics": _exposition(metrics)}
    fixed = {path: (_only_get(route[0]), *route[1:]) for path, route in fixed.items()}
    return lambda request: fixed.get(request.target.partition("?")[0], _route(_not_found))


def _exposition(metrics: Metrics) -> Route:
    def exposition(_: ModelManager, request: Request) -> Reply:
        body, kind = metrics.exposition(request.headers.get("accept", ""))
        return Reply(200, body, kind)

    return _route(exposition)


def _health() -> dict[str, Route]:
    return {"/healthz": _route(endpoints.healthz), "/readyz": _route(endpoints.readyz)}
