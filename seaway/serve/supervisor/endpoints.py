"""Endpoints decide, from a request's path alone, which version is to answer it: they never look into a body.

Each returns a reply, or None for a request that was given to the data plane and will be answered by a worker.
"""

import functools
import re
from collections.abc import Callable
from urllib.parse import unquote

import orjson

from seaway.errors import NotFound, SeawayError, Unavailable
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import JSON, TEXT, Reply, Served
from seaway.serve import bodies
from seaway.serve.supervisor.connection import Request
from seaway.serve.supervisor.dataplane import DataPlane
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.models import Version

SERVER = "seaway"
VERSION = "0.1.0"  # pyproject's
SHORT = 512  # characters of a path that is remembered
CHECKED = 64 << 10  # bytes of a body that are looked at although there is no model for them

Endpoint = Callable[[DataPlane, Request], Reply | None]


def _served(version: Version) -> Served:
    if version.served is None:
        raise Unavailable(f"{version.key} is being loaded")
    return version.served


def _identified(version: Version, body: bytes | list[bytes | memoryview], type_: str = JSON) -> Reply:
    return Reply(200, body, type_, {"Seaway-Model": version.header})


def _ask(
    plane: DataPlane, request: Request, version: Version, protocol: str, verb: str, headers: tuple[str, ...]
) -> None:
    passed = {name: request.headers[name] for name in (*headers, "content-encoding") if name in request.headers}
    plane.ask(Job(request, version, protocol, verb, passed, request.complete))


# ---- TensorFlow Serving REST

_short_path = functools.lru_cache(1024)(tfserving.read_path)


def _tfserving_path(method: str, target: str) -> tfserving.Route:
    """The same as `tfserving.read_path`, which need not read those of a usual length again."""
    return _short_path(method, target) if len(target) < SHORT else tfserving.read_path(method, target)


def tfserving_rest(plane: DataPlane, request: Request) -> Reply | None:
    if request.method == "OPTIONS":  # "200 empty if an http(s) Origin header is present, else 400 with empty body"
        return Reply(200 if request.headers.get("origin", "").startswith("http") else 400, b"", "text/html")
    route = _tfserving_path(request.method, request.target)
    if route.verb == "status":  # "label is ignored: all versions are returned"
        return Reply(200, tfserving.write_status(plane.statuses(route.model, route.version)))
    if route.verb == "metadata":
        version = plane.find(route.model, route.version, route.label)
        return _identified(
            version, tfserving.write_metadata(version.model, version.number, _served(version).definitions)
        )
    try:
        version = plane.find(route.model, route.version, route.label)
    except SeawayError:
        _check_body(request, route.verb)
        raise
    _ask(plane, request, version, "tfs", route.verb, ())
    return None


def _check_body(request: Request, verb: str) -> None:
    """Raises what is wrong with a body that has no model: what is no JSON is told so before the model is looked for."""
    if len(request.body) > CHECKED:
        return
    try:
        plain = bodies.inflated(request.body, request.headers.get("content-encoding", ""), CHECKED)
    except SeawayError as error:
        if error.status == 413:  # of what is looked at here, not of what may be sent
            return
        raise
    tfserving.check(plain, verb)


# ---- Open Inference Protocol


def oip_http(plane: DataPlane, request: Request) -> Reply | None:
    route = oip.read_path(request.method, request.target)
    if route.verb == "server":
        return Reply(200, oip.server_metadata(SERVER, VERSION))
    if route.verb == "live":
        return Reply(200, orjson.dumps({"live": True}))
    if route.verb == "ready" and not route.model:
        why = plane.why_not_ready()
        return Reply(503 if why else 200, orjson.dumps({"ready": not why} | ({"error": why} if why else {})))
    if route.verb == "ready":
        version = plane.find_ready(route.model, route.version, route.label)
        return _identified(version, orjson.dumps({"name": version.model, "ready": True}))
    version = plane.find(route.model, route.version, route.label)
    if route.verb == "metadata":
        numbers = [str(number) for number in plane.models[route.model].available()]
        return _identified(version, oip.model_metadata(_served(version), numbers))
    _ask(plane, request, version, "oip", "infer", ("inference-header-content-length",))
    return None


# ---- GraphPipe


def graphpipe_http(plane: DataPlane, request: Request) -> Reply | None:
    if request.method not in ("GET", "HEAD", "POST"):
        raise SeawayError(f"{request.method} is not for GraphPipe: POST a request, or GET the metadata", status=405)
    version = _graphpipe_version(plane, request.target.partition("?")[0])
    if request.method != "POST":
        return _identified(version, graphpipe.metadata_json(graphpipe.metadata(_served(version))))
    _ask(plane, request, version, "graphpipe", "infer", ())
    return None


def _graphpipe_version(plane: DataPlane, path: str) -> Version:
    """`/` is the only model there is; /graphpipe/<model>[/versions/<v> | /labels/<l>] names one."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    match parts:
        case [""]:
            if len(plane.models) > 1:
                raise NotFound(f"several models are served: use /graphpipe/<model>, one of {sorted(plane.models)}")
            for name in plane.models:
                return plane.find(name)
            raise Unavailable(plane.why_not_ready() or "there is no model yet")
        case ["graphpipe", model]:
            return plane.find(model)
        case ["graphpipe", model, "versions", number] if re.fullmatch("[0-9]{1,40}", number):
            return plane.find(model, number=int(number))
        case ["graphpipe", model, "labels", label]:
            return plane.find(model, label=label)
    raise NotFound(f"no model at {path}: use /graphpipe/<model>[/versions/<number> | /labels/<label>]")


# ---- health, the admin port's status, what the page wants to know


def healthz(_: DataPlane, request: Request) -> Reply:
    return Reply(200, b"ok\n", TEXT)


def readyz(plane: DataPlane, request: Request) -> Reply:
    why = plane.why_not_ready()
    return Reply(503 if why else 200, f"{why or 'ready'}\n".encode(), TEXT)


def admin_status(plane: DataPlane, request: Request) -> Reply:
    models = {
        name: {
            "labels": model.labels,
            "versions": [
                {
                    "version": v.number,
                    "state": v.state,
                    "error": plane.why_not(v),
                    "identity": v.identity,
                    "active": v.active,
                }
                for v in model.versions.values()
            ],
        }
        for name, model in plane.models.items()
    }
    status = {
        "ready": plane.why_not_ready() or "ready",
        "models": models,
        "workers": plane.workers(),
        "waiting": plane.waiting,
    }
    return Reply(200, orjson.dumps(status, option=orjson.OPT_INDENT_2))


def page_about(plane: DataPlane, request: Request) -> Reply:
    """What the page shows: models, their versions and signatures."""
    models = []
    for name, model in plane.models.items():
        versions = [_about(version) for version in sorted(model.versions.values(), key=lambda v: -v.number)]
        models.append({"name": name, "labels": model.labels, "default": plane.default(name), "versions": versions})
    return Reply(
        200, orjson.dumps({"server": f"{SERVER} {VERSION}", "why_not_ready": plane.why_not_ready(), "models": models})
    )


def _about(version: Version) -> dict[str, object]:
    served = version.served
    signatures = served.signatures if served else {}
    return {
        "version": version.number,
        "state": version.state,
        "error": version.error,  # without the seconds until it is tried again: the page compares what it gets
        "identity": version.identity,
        "labels": served.labels if served else (),
        "signatures": {name: {"inputs": s.inputs, "outputs": s.outputs} for name, s in signatures.items()},
    }
