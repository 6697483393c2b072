"""The OpenAPI 3.1 document of everything that the server answers: GET /openapi.json; GET /docs shows it.

document = openapi.document("http://127.0.0.1:8501", "0.1.0")
"""

import re
from typing import Any

from seaway.serve.bodies import SUPPORTED
from seaway.serve.supervisor.schemas import EXAMPLES, GRAPHPIPE_METADATA_REQUEST, SCHEMAS, Schema, ref

JSON, BINARY, TEXT, HTML = "application/json", "application/octet-stream", "text/plain", "text/html"
OPENMETRICS = "application/openmetrics-text"
BYTES: Schema = {"type": "string", "format": "binary"}

TAGS = {
    "TensorFlow Serving": "REST as TensorFlow Serving answers it, its errors and status codes included. A body may be "
    "gzip or deflate. NaN, Infinity and -Infinity are read and written as bare words.",
    "Open Inference Protocol": "Version 2, as Triton and KServe speak it, with the binary tensor extension: a body of "
    "JSON followed by raw tensors, and the JSON's length in Inference-Header-Content-Length.",
    "GraphPipe": "A FlatBuffer with an InferRequest or a MetadataRequest in, an InferResponse or a MetadataResponse "
    "out. Errors are text.",
    "Server": "Health, this document, and the page.",
    "Admin": "On the admin port alone.",
}

HEADERS: dict[str, Schema] = {
    "Seaway-Model": {
        "description": "The version that answered: name/version@digest.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "examples": ["characters/1@0f3a6c51"]},
    },
    "X-Request-Id": {
        "description": "The request's own, or one made for it; it stands in the access log.",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "Accept-Encoding": {
        "description": "The Content-Encodings that are known.",
        "required": True,
        "schema": {"type": "string", "const": SUPPORTED},
    },
    "Inference-Header-Content-Length": {
        "description": "Bytes of JSON before the tensors; absent where there are none.",
        "schema": {"type": "integer", "minimum": 0},
    },
}

SAID_WITH = {415: "Accept-Encoding", 429: "Retry-After", 503: "Retry-After"}  # status → a header of its answers
ERRORS = {
    400: "The request cannot be used: the message says what is wrong with it.",
    404: "No such model, version or path.",
    408: "The request did not arrive in time.",
    413: "The body is larger than the server takes.",
    415: "The body's Content-Encoding is not known; Accept-Encoding of the answer names those that are.",
    429: "Too many requests are under way. Try again after Retry-After.",
    431: "The request's headers are larger than the server takes.",
    500: "The server failed on this request; its log has the trace.",
    501: "Understood, but not offered: a type that the protocol cannot carry.",
    503: "Nothing can answer now: the version is loading, or the queue is full. Try again after Retry-After.",
    504: "No answer within the server's time limit.",
}
COMMON = (400, 408, 413, 429, 431, 503)  # what a port may answer to anything
CALL = (*COMMON, 404, 415, 500, 501, 504)

# How a version is named: not at all, by number, by label; as a path, in an operation's name and in its summary.
TARGETS = (
    ("", "", ""),
    ("/versions/{version}", "Version", " of one version"),
    ("/labels/{label}", "Label", " of a label's version"),
)
PARAMETERS: dict[str, Schema] = {
    "model": {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "example": "characters",
    },
    "version": {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 1, "maximum": (1 << 63) - 1},
        "example": 1,
    },
    "label": {
        "name": "label",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "example": "stable",
    },
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Comes back, and stands in the access log.",
        "schema": {"type": "string"},
    },
    "traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C trace context; what does not read is ignored.",
        "schema": {"type": "string"},
    },
    "Inference-Header-Content-Length": {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Bytes of JSON before the tensors; 0: the body is the only input's bytes.",
        "schema": {"type": "integer", "minimum": 0},
    },
}


def document(server_url: str, version: str, admin_url: str | None = None) -> dict[str, Any]:
    """The whole document, as JSON values; the admin port is in it where `admin_url` is given."""
    paths = {**_tensorflow_serving(), **_open_inference(), **_graphpipe(), **_server()}
    if admin_url:
        paths |= {path: {"servers": [{"url": admin_url}], **item} for path, item in _admin().items()}
    tags = [{"name": name, "description": text} for name, text in TAGS.items() if name != "Admin" or admin_url]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Seaway",
            "version": version,
            "summary": "A model server for TensorFlow and ONNX models.",
            "description": "Three protocols over one data plane. Every answer of a model names the version that gave "
            "it in Seaway-Model; every answer has an X-Request-Id; traceparent is passed on.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url}],
        "tags": tags,
        "paths": {path: _with_parameters(path, item) for path, item in paths.items()},
        "components": {
            "schemas": SCHEMAS,
            "headers": HEADERS,
            "examples": EXAMPLES,
            "parameters": PARAMETERS,
            "responses": _error_responses(),
        },
    }


# ---- what is answered


def _tensorflow_serving() -> dict[str, Any]:
    tag = "TensorFlow Serving"
    predict = _json_body({"anyOf": [ref("PredictRows"), ref("PredictColumns")]}, "rows", "png", "columns")
    examples = _json_body(ref("Examples"), "examples")
    verbs = {
        "predict": ("Prediction", predict, {"anyOf": [ref("Predictions"), ref("Outputs")]}),
        "classify": ("Classification", examples, ref("Classes")),
        "regress": ("Regression", examples, ref("Regressions")),
    }
    paths: dict[str, Any] = {}
    for target, suffix, whose in TARGETS:
        base = f"/v1/models/{{model}}{target}"
        for verb, (noun, body, answer) in verbs.items():
            operation = _operation(
                tag, f"tfs{verb.capitalize()}{suffix}", f"{noun}{whose}", _of_model({JSON: answer}), CALL
            )
            paths[f"{base}:{verb}"] = {"post": {**operation, "requestBody": body}}
        status = _answer("The versions and their states.", {JSON: ref("ModelStatus")})
        metadata = _of_model({JSON: ref("SignatureMetadata")})
        paths[base] = {"get": _operation(tag, f"tfsStatus{suffix}", f"Status{whose}", status, (*COMMON, 404))}
        paths[f"{base}/metadata"] = {
            "get": _operation(tag, f"tfsMetadata{suffix}", f"Signatures{whose}", metadata, (*COMMON, 404))
        }
    return paths


def _open_inference() -> dict[str, Any]:
    tag = "Open Inference Protocol"

    def get(name: str, summary: str, responses: Schema, *errors: int) -> Schema:
        return {"get": _operation(tag, name, summary, responses, (*COMMON, *errors))}

    body = _json_body(ref("InferRequest"), "infer")
    body["content"][BINARY] = {"schema": BYTES}  # JSON, then raw tensors
    body["required"] = False  # no bytes are no rows, where Inference-Header-Content-Length is 0
    inferred = _of_model({JSON: ref("InferResponse"), BINARY: BYTES})
    inferred["200"]["headers"]["Inference-Header-Content-Length"] = _header("Inference-Header-Content-Length")
    paths: dict[str, Any] = {}
    paths["/v2"] = get("oipServer", "Name, version and extensions", _answer("", {JSON: ref("ServerMetadata")}))
    paths["/v2/health/live"] = get("oipLive", "The process lives", _answer("It does.", {JSON: ref("Live")}))
    ready = _answer("One can.", {JSON: ref("ServerReady")})
    paths["/v2/health/ready"] = get("oipServerReady", "A version can answer", ready)
    for target, suffix, whose in TARGETS:
        base = f"/v2/models/{{model}}{target}"
        operation = _operation(tag, f"oipInfer{suffix}", f"Inference{whose}", inferred, CALL)
        length = {"$ref": "#/components/parameters/Inference-Header-Content-Length"}
        paths[f"{base}/infer"] = {"post": {**operation, "parameters": [length], "requestBody": body}}
        metadata = _of_model({JSON: ref("ModelMetadata")})
        paths[base] = get(f"oipMetadata{suffix}", f"Inputs and outputs{whose}", metadata, 404)
        ready = _answer("It answers requests.", {JSON: ref("Ready")})
        paths[f"{base}/ready"] = get(f"oipReady{suffix}", f"Readiness{whose}", ready, 404)
    return paths


def _graphpipe() -> dict[str, Any]:
    tag = "GraphPipe"
    body = {"required": True, "content": {BINARY: {"schema": BYTES}}, "x-hex": GRAPHPIPE_METADATA_REQUEST}
    places = [(f"/graphpipe/{{model}}{target}", suffix, whose) for target, suffix, whose in TARGETS]
    paths: dict[str, Any] = {}
    for path, suffix, whose in (("/", "Only", " of the only model"), *places):
        metadata = _of_model({JSON: ref("GraphPipeMetadata")})
        if path == "/":
            metadata = _answer("The metadata; the page, where Accept names text/html.", metadata["200"]["content"])
            metadata["200"]["content"][HTML] = {}
        get = _operation(tag, f"graphpipeMetadata{suffix}", f"Metadata{whose}", metadata, (*COMMON, 404))
        post = _operation(tag, f"graphpipe{suffix}", f"Inference{whose}", _of_model({BINARY: BYTES}), CALL)
        paths[path] = {"get": get, "post": {**post, "requestBody": body}}
    return paths


def _server() -> dict[str, Any]:
    def get(name: str, summary: str, type_: str, schema: Schema) -> Schema:
        return {"get": _operation("Server", name, summary, _answer(summary, {type_: schema}), COMMON)}

    return {
        "/healthz": get("healthz", "The process lives", TEXT, {"type": "string"}),
        "/readyz": get("readyz", "A version can answer, and the server is not going down", TEXT, {"type": "string"}),
        "/page/about": get("about", "Models, versions, signatures and labels", JSON, ref("About")),
        "/openapi.json": get("openapi", "This document", JSON, {"type": "object", "required": ["openapi", "paths"]}),
        "/docs": get("docs", "This document, to read and to try", HTML, {}),
    }


def _admin() -> dict[str, Any]:
    metrics = _answer("Prometheus's text, or OpenMetrics where Accept names it.", {TEXT: {}, OPENMETRICS: {}})
    status = _answer("Models, labels, workers.", {JSON: ref("AdminStatus")})
    return {
        "/metrics": {"get": _operation("Admin", "metrics", "Metrics for Prometheus", metrics, COMMON)},
        "/status": {"get": _operation("Admin", "status", "Models, versions and workers", status, COMMON)},
    }


# ---- the document's own forms


def _operation(tag: str, name: str, summary: str, responses: Schema, errors: tuple[int, ...]) -> Schema:
    failures = {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(errors)}
    return {"tags": [tag], "operationId": name, "summary": summary, "responses": responses | failures}


def _answer(description: str, content: dict[str, Schema]) -> Schema:
    """`content`: a schema by media type, {} for what is no JSON."""
    made = {type_: {"schema": schema} if schema else {} for type_, schema in content.items()}
    return {"200": {"description": description, "headers": {"X-Request-Id": _header("X-Request-Id")}, "content": made}}


def _of_model(content: dict[str, Schema]) -> Schema:
    made = _answer("The answer of the version that Seaway-Model names.", content)
    made["200"]["headers"]["Seaway-Model"] = _header("Seaway-Model")
    return made


def _json_body(schema: Schema, *examples: str) -> Schema:
    named = {name: {"$ref": f"#/components/examples/{name}"} for name in examples}
    return {"required": True, "content": {JSON: {"schema": schema, "examples": named}}}


def _header(name: str) -> Schema:
    return {"$ref": f"#/components/headers/{name}"}


def _error_responses() -> dict[str, Schema]:
    """JSON, as the JSON protocols have it; text for GraphPipe and the probes."""
    made = {}
    for status, description in ERRORS.items():
        names = ["X-Request-Id", *([SAID_WITH[status]] if status in SAID_WITH else [])]
        content = {JSON: {"schema": ref("Error")}, TEXT: {"schema": {"type": "string"}}}
        headers = {name: _header(name) for name in names}
        made[str(status)] = {"description": description, "headers": headers, "content": content}
    return made


def _with_parameters(path: str, item: Schema) -> Schema:
    """The path's own variables, and the headers that every request may have."""
    names = [*re.findall(r"{(\w+)}", path), "X-Request-Id", "traceparent"]
    return {"parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names], **item}
