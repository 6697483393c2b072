"""Endpoints translate: a request of some protocol into a call of the data plane, and its result back."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import orjson

from components.serve.dataplane import DataPlane
from components.serve.models import Signature, Version
from components.serve.pool import Arrays
from seaway.errors import InvalidInput, NotFound, SeawayError, Unavailable, Unsupported
from seaway.protocols import graphpipe, tfserving

JSON = "application/json"
BINARY = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
SERVER = "seaway"


@dataclass(frozen=True, slots=True)
class Request:
    """`target` is the path as it was sent, percent signs and query included; `body` is complete and inflated."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


Endpoint = Callable[[DataPlane, Request], Awaitable[Answer]]


def _identified(version: Version, body: bytes, type_: str) -> Answer:
    return Answer(200, body, type_, {"Seaway-Model": version.identity})


# ---- TensorFlow Serving REST


async def tfserving_rest(plane: DataPlane, request: Request) -> Answer:
    if request.method == "OPTIONS":  # "200 empty if an http(s) Origin header is present, else 400 with empty body"
        return Answer(200 if request.headers.get("origin", "").startswith("http") else 400, b"", "text/html")
    route = tfserving.read_path(request.method, request.target)
    if route.verb == "status":  # "label is ignored: all versions are returned"
        return Answer(200, tfserving.write_status(plane.statuses(route.model, route.version)))
    if route.verb == "metadata":
        version = plane.find(route.model, route.version, route.label)
        return _identified(version, tfserving.write_metadata(version.model, version.number, version.definitions), JSON)
    if route.verb != "predict":
        raise Unsupported(f":{route.verb} is not offered: call the signature with :predict")
    asked = tfserving.read_predict(request.body)
    version = plane.find(route.model, route.version, route.label)
    signature = version.signatures.get(asked.signature)
    if signature is None:
        raise InvalidInput(f'Serving signature name: "{asked.signature}" not found in signature def')
    inputs, row = tfserving.read_inputs(asked, signature.inputs)
    outputs = await plane.predict(version, asked.signature, inputs)
    return _identified(version, tfserving.write_predict(outputs, row), JSON)


def tfserving_error(error: SeawayError) -> Answer:
    return Answer(error.status, tfserving.write_error(str(error)))


# ---- GraphPipe


async def graphpipe_http(plane: DataPlane, request: Request) -> Answer:
    version = _graphpipe_version(plane, request.target.partition("?")[0])
    if request.method in ("GET", "HEAD"):
        return _identified(version, graphpipe.metadata_json(_metadata(version)), JSON)
    if request.method != "POST":
        raise SeawayError(f"{request.method} is not for GraphPipe: POST a request, or GET the metadata", status=405)
    asked = graphpipe.read_request(request.body)
    if isinstance(asked, graphpipe.MetadataRequest):
        return _identified(version, graphpipe.write_metadata_response(_metadata(version)), BINARY)
    name, inputs, outputs = _graphpipe_call(version, asked)
    values = await plane.predict(version, name, inputs, outputs)
    return _identified(version, graphpipe.write_infer_response([values[output] for output in outputs]), BINARY)


def graphpipe_error(error: SeawayError) -> Answer:
    return Answer(error.status, f"{error}\n".encode(errors="replace"), TEXT, {"X-Content-Type-Options": "nosniff"})


def _graphpipe_version(plane: DataPlane, path: str) -> Version:
    """`/` is the only model there is; /graphpipe/<model>[/versions/<v> | /labels/<l>] names one."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    match parts:
        case [""]:
            if len(plane.models) > 1:
                raise NotFound(f"several models are served: use /graphpipe/<model>, one of {sorted(plane.models)}")
            for name in plane.models:
                return plane.find(name)
            raise Unavailable(plane.why_not_ready())
        case ["graphpipe", model]:
            return plane.find(model)
        case ["graphpipe", model, "versions", number] if number.isdecimal() and len(number) < 19:
            return plane.find(model, number=int(number))
        case ["graphpipe", model, "labels", label]:
            return plane.find(model, label=label)
    raise NotFound(f"no model at {path}: use /graphpipe/<model>[/versions/<number> | /labels/<label>]")


def _graphpipe_call(version: Version, asked: graphpipe.InferRequest) -> tuple[str, Arrays, list[str]]:
    """The signature that is meant, its inputs by name, and the outputs in order.

    Config may name it: {"signature_name": …}. Else it is serving_default, or where that does not have the inputs and
    outputs that the request names, the first signature that has.
    """
    chosen = _config_signature(asked.config)
    names = [chosen] if chosen else _by_preference(version)
    given = {name for name, _ in asked.inputs if name}
    for name in names:
        signature = version.signatures.get(name)
        if signature is not None and _fits(signature, len(asked.inputs), given, asked.outputs):
            outputs = asked.outputs or [tensor.name for tensor in signature.outputs]
            return name, _named_inputs(signature, asked), outputs
    offered = {
        name: f"({', '.join(t.name for t in s.inputs)}) -> ({', '.join(t.name for t in s.outputs)})"
        for name, s in version.signatures.items()
    }
    raise InvalidInput(
        f"no signature of {version.key}{f' called {chosen}' if chosen else ''} takes {len(asked.inputs)} inputs "
        f"{sorted(given) or ''} and gives {asked.outputs or 'its outputs'}; there are {offered}"
    )


def _by_preference(version: Version) -> list[str]:
    return sorted(version.signatures, key=lambda name: (name != tfserving.DEFAULT_SIGNATURE, name))


def _fits(signature: Signature, count: int, given: set[str], outputs: list[str]) -> bool:
    inputs = {tensor.name for tensor in signature.inputs}
    return count == len(inputs) and given <= inputs and {*outputs} <= {tensor.name for tensor in signature.outputs}


def _named_inputs(signature: Signature, asked: graphpipe.InferRequest) -> Arrays:
    """Unnamed tensors are the signature's inputs in order: "missing trailing names or "" as "use default i""."""
    inputs = {name or signature.inputs[i].name: array for i, (name, array) in enumerate(asked.inputs)}
    if len(inputs) != len(asked.inputs):
        raise InvalidInput(f"an input is given twice: {[name for name, _ in asked.inputs]}")
    return inputs


def _config_signature(config: str) -> str:
    if not config.strip():
        return ""
    try:
        options = json.loads(config)
    except (ValueError, RecursionError):
        options = None
    name = options.get("signature_name", "") if isinstance(options, dict) else None
    if not isinstance(name, str):
        raise InvalidInput(f'config {config[:80]!r} cannot be used: leave it empty or give {{"signature_name": "…"}}')
    return name


def _metadata(version: Version) -> graphpipe.Metadata:
    signature = version.signatures[_by_preference(version)[0]]
    description = f"{version.identity}, signature {_by_preference(version)[0]}"
    return graphpipe.Metadata(
        version.model, str(version.number), SERVER, description, signature.inputs, signature.outputs
    )


# ---- health, and the admin port's status


async def healthz(_: DataPlane, request: Request) -> Answer:
    return Answer(200, b"ok\n", TEXT)


async def readyz(plane: DataPlane, request: Request) -> Answer:
    why = plane.why_not_ready()
    return Answer(503 if why else 200, f"{why or 'ready'}\n".encode(), TEXT)


async def admin_status(plane: DataPlane, request: Request) -> Answer:
    models = {
        name: {
            "labels": model.labels,
            "versions": [
                {"version": v.number, "state": v.state, "error": v.error, "identity": v.identity, "active": v.active}
                for v in model.versions.values()
            ],
        }
        for name, model in plane.models.items()
    }
    status = {"ready": plane.why_not_ready() or "ready", "models": models, "workers": plane.workers()}
    return Answer(200, orjson.dumps(status, option=orjson.OPT_INDENT_2), JSON)
