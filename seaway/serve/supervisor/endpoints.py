"""Endpoints choose the version that responds, from a request's path alone: they do not read bodies.

Each returns a reply, or None for a request that it submitted to the model manager, to which a worker will respond.
"""

import functools
import re
from collections.abc import Callable, Collection, Sequence
from urllib.parse import unquote

import orjson

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import NotFound, SeawayError, Unavailable
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import JSON, TEXT, ModelVersionInfo, Reply
from seaway.serve import decompression
from seaway.serve.supervisor.connection import Request
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.model_manager import ModelManager
from seaway.serve.supervisor.models import ModelVersion
from seaway.version import VERSION

SERVER = "seaway"
MAX_CACHED_PATH = 512  # characters of a path that is cached
MAX_CHECKED_BYTES = 64 << 10  # of a body that is checked although its model does not exist

Endpoint = Callable[[ModelManager, Request], Reply | None]


def loaded_info(version: ModelVersion) -> ModelVersionInfo:
    """What protocols say of a version. Raises Unavailable."""
    if version.served is None:
        raise Unavailable(f"{version.key} is being loaded")
    return version.served


def _model_reply(version: ModelVersion, body: bytes | list[bytes | memoryview], type_: str = JSON) -> Reply:
    return Reply(200, body, type_, dict(version.headers))


def _submit(
    manager: ModelManager, request: Request, version: ModelVersion, protocol: str, verb: str, headers: tuple[str, ...]
) -> None:
    selected = {name: request.headers[name] for name in (*headers, "content-encoding") if name in request.headers}
    manager.submit(Job(request, version, protocol, verb, selected, request.complete))


# ---- TensorFlow Serving REST

_short_path = functools.lru_cache(1024)(tfserving.read_path)


def _tfserving_path(method: str, target: str) -> tfserving.Route:
    """`tfserving.read_path`, cached for paths of ordinary length."""
    return _short_path(method, target) if len(target) < MAX_CACHED_PATH else tfserving.read_path(method, target)


def tfserving_rest(manager: ModelManager, request: Request) -> Reply | None:
    if request.method == "OPTIONS":  # as TensorFlow Serving responds
        return Reply(200 if request.headers.get("origin", "").startswith("http") else 400, b"", "text/html")
    route = _tfserving_path(request.method, request.target)
    if route.verb == "status":  # a label is ignored, as in TensorFlow Serving: all versions are returned
        return Reply(200, tfserving.write_status(manager.statuses(route.model, route.version)))
    if route.verb == "metadata":
        version = manager.find(route.model, route.version, route.label)
        return _model_reply(
            version, tfserving.write_metadata(version.model, version.number, loaded_info(version).definitions)
        )
    try:
        version = manager.find(route.model, route.version, route.label)
    except SeawayError:
        _check_body(request, route.verb)
        raise
    _submit(manager, request, version, "tfs", route.verb, ())
    return None


def _check_body(request: Request, verb: str) -> None:
    """Raises for an invalid body although its model does not exist: TensorFlow Serving parses the body first."""
    if len(request.body) > MAX_CHECKED_BYTES:
        return
    try:
        plain = decompression.decompress(request.body, request.headers.get("content-encoding", ""), MAX_CHECKED_BYTES)
    except SeawayError as error:
        if error.status == 413:  # the limit of this check, not of what clients may send
            return
        raise
    tfserving.check(plain, verb)


# ---- Open Inference Protocol


def oip_http(manager: ModelManager, request: Request) -> Reply | None:
    route = oip.read_path(request.method, request.target)
    if route.verb == "server":
        return Reply(200, oip.server_metadata(SERVER, VERSION))
    if route.verb == "live":
        return Reply(200, orjson.dumps({"live": True}))
    if route.verb == "ready" and not route.model:
        reason = manager.not_ready_reason()
        return Reply(
            503 if reason else 200, orjson.dumps({"ready": not reason} | ({"error": reason} if reason else {}))
        )
    if route.verb == "ready":
        version = manager.find_ready(route.model, route.version, route.label)
        return _model_reply(version, orjson.dumps({"name": version.model, "ready": True}))
    version = manager.find(route.model, route.version, route.label)
    if route.verb == "metadata":
        numbers = [str(number) for number in manager.models[route.model].available()]
        return _model_reply(version, oip.model_metadata(loaded_info(version), numbers))
    _submit(manager, request, version, "oip", "infer", ("inference-header-content-length",))
    return None


# ---- GraphPipe


def graphpipe_http(manager: ModelManager, request: Request) -> Reply | None:
    if request.method not in ("GET", "HEAD", "POST"):
        raise SeawayError(
            f"{request.method} is not allowed for GraphPipe: POST a request, or GET the metadata", status=405
        )
    version = _graphpipe_version(manager, request.target.partition("?")[0])
    if request.method != "POST":
        return _model_reply(version, graphpipe.metadata_json(graphpipe.metadata(loaded_info(version))))
    _submit(manager, request, version, "graphpipe", "infer", ())
    return None


def _graphpipe_version(manager: ModelManager, path: str) -> ModelVersion:
    """`/` means the only model; /graphpipe/<model>[/versions/<v> | /labels/<l>] names one."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    match parts:
        case [""]:
            if len(manager.models) > 1:
                raise NotFound(f"several models are served: use /graphpipe/<model>, one of {sorted(manager.models)}")
            if manager.models:
                [name] = manager.models
                return manager.find(name)
            raise Unavailable(manager.not_ready_reason() or "there is no model yet")
        case ["graphpipe", model]:
            return manager.find(model)
        case ["graphpipe", model, "versions", number] if re.fullmatch("[0-9]{1,40}", number):
            return manager.find(model, number=int(number))
        case ["graphpipe", model, "labels", label]:
            return manager.find(model, label=label)
    raise NotFound(f"no model at {path}: use /graphpipe/<model>[/versions/<number> | /labels/<label>]")


# ---- health, the admin port's status, the page's data


def healthz(_: ModelManager, request: Request) -> Reply:
    return Reply(200, b"ok\n", TEXT)


def readyz(manager: ModelManager, request: Request) -> Reply:
    reason = manager.not_ready_reason()
    return Reply(503 if reason else 200, f"{reason or 'ready'}\n".encode(), TEXT)


def admin_status(manager: ModelManager, request: Request) -> Reply:
    models = {
        name: {
            "labels": model.labels,
            "versions": [
                {
                    "version": v.number,
                    "state": v.state,
                    "error": manager.unavailable_reason(v),
                    "identity": v.identity,
                    "active": v.active,
                }
                for v in model.versions.values()
            ],
        }
        for name, model in manager.models.items()
    }
    status = {
        "ready": manager.not_ready_reason() or "ready",
        "models": models,
        "workers": manager.workers(),
        "waiting": manager.waiting,
    }
    return Reply(200, orjson.dumps(status, option=orjson.OPT_INDENT_2))


def page_about(manager: ModelManager, request: Request) -> Reply:
    """The data of the page: models, their versions and signatures."""
    models = []
    for name, model in manager.models.items():
        versions = [_about(version) for version in sorted(model.versions.values(), key=lambda v: -v.number)]
        models.append({"name": name, "labels": model.labels, "default": manager.default(name), "versions": versions})
    return Reply(
        200,
        orjson.dumps({"server": f"{SERVER} {VERSION}", "why_not_ready": manager.not_ready_reason(), "models": models}),
    )


def _about(version: ModelVersion) -> dict[str, object]:
    served = version.served
    signatures = served.signatures if served else {}
    return {
        "version": version.number,
        "state": version.state,
        "error": version.error,  # without the countdown to the next attempt, because the page compares responses
        "identity": version.identity,
        "labels": served.labels if served else (),
        "training_data": served.training_data if served else "",
        "signatures": {
            name: {"inputs": _tensors(s.inputs, s.unranked), "outputs": _tensors(s.outputs, s.unranked)}
            for name, s in signatures.items()
        },
    }


def _tensors(specs: Sequence[Tensor], unranked: Collection[str]) -> list[dict[str, object]]:
    """Describes tensors for JSON; the shape of one of unknown rank is null."""
    return [{"name": t.name, "dtype": t.dtype, "shape": None if t.name in unranked else t.shape} for t in specs]
