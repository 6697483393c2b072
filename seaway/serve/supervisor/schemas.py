"""The JSON that the server reads and writes, as JSON Schema, with examples for the model `characters`.

The examples are a real picture, a "1" of 28 by 28 pixels, so that they can be sent as they are.
"""

from typing import Any

Schema = dict[str, Any]

SIDE = 28
# The same picture as PNG, for the signature from_png.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAKElEQVR42mNgGGSAEYn9H12ACZ9OoiUZGcnVOSpJIMr+Y4iRb+ygAwCrWQIl"
    "M/mp6QAAAABJRU5ErkJggg=="
)
# GraphPipe's MetadataRequest, whole: the shortest request that its parser takes.
GRAPHPIPE_METADATA_REQUEST = "0c00000008000c000b000400080000000c000000000000020400040004000000"

DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
STATES = ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str = "", *, open_: bool = True, **properties: Schema) -> Schema:
    """`required`: names, separated by spaces. An open object may have further members, which are ignored."""
    made: Schema = {"type": "object", "properties": properties}
    if required:
        made["required"] = required.split()
    return made if open_ else {**made, "additionalProperties": False}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


def _map(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


def _text(description: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def picture() -> list[list[list[int]]]:
    """The "1": [28, 28, 1], ink 1 on 0."""
    ink = {(row, column) for row in range(5, 23) for column in range(13, 16)}  # the stem
    ink |= {(row, column) for row in range(5, 8) for column in range(11, 13)}  # the flag
    ink |= {(row, column) for row in range(20, 23) for column in range(10, 19)}  # the foot
    return [[[int((row, column) in ink)] for column in range(SIDE)] for row in range(SIDE)]


SIGNATURE_NAME = _text("The signature to call.", default="serving_default")
SHAPE = _list({"type": "integer"}, description="-1 is any size.")
NULLABLE_SHAPE = _list({"type": ["integer", "null"]}, description="null is any size.")


def _parameters(description: str = "Further options, by name.", **properties: Schema) -> Schema:
    return {"type": ["object", "null"], "description": description, "properties": properties}


SCHEMAS: dict[str, Schema] = {
    "Error": _object("error", error=_text("What was wrong, where, and what to do.")),
    # ---- TensorFlow Serving
    "Value": {
        "description": "A number, string or boolean, bytes as base64, or lists of these, nested as the tensor's shape.",
        "anyOf": [{"type": ["number", "string", "boolean"]}, ref("Base64"), _list(ref("Value"))],
    },
    "Base64": _object("b64", open_=False, b64=_text(contentEncoding="base64")),
    "Named": {"description": "Values by the name of the input or output.", **_map(ref("Value"))},
    "PredictRows": _object(
        "instances",
        signature_name=SIGNATURE_NAME,
        instances=_list({"anyOf": [ref("Value"), ref("Named")]}, minItems=1, description="One entry a row."),
    ),
    "PredictColumns": _object(
        "inputs",
        signature_name=SIGNATURE_NAME,
        inputs={"description": "Whole tensors.", "anyOf": [ref("Value"), ref("Named")]},
    ),
    "Predictions": _object(
        "predictions", predictions=_list({"anyOf": [ref("Value"), ref("Named")]}, description="One entry a row.")
    ),
    "Outputs": _object("outputs", outputs={"anyOf": [ref("Value"), ref("Named")]}),
    "Examples": _object(
        "examples",
        signature_name=SIGNATURE_NAME,
        context={"description": "Features that all examples share.", **_map(ref("Feature"))},
        examples=_list(_map(ref("Feature")), minItems=1, description="Features by name, one entry an example."),
    ),
    "Feature": {
        "description": "One value, or a list of values of one kind.",
        "anyOf": [ref("FeatureValue"), _list(ref("FeatureValue"))],
    },
    "FeatureValue": {"anyOf": [{"type": ["number", "string", "boolean"]}, ref("Base64")]},
    "Classes": _object(
        "results",
        results=_list(
            _list(_list({"type": ["string", "number"]}, minItems=2, maxItems=2)),
            description="Pairs of label and score, a list an example.",
        ),
    ),
    "Regressions": _object("results", results=_list({"type": "number"}, description="One value an example.")),
    "VersionStatus": _object(
        "version state status",
        version=_text(examples=["1"]),
        state={"enum": STATES, "description": "END with an error: it would not load."},
        status=_object("error_code error_message", error_code=_text(examples=["OK"]), error_message=_text()),
    ),
    "ModelStatus": _object("model_version_status", model_version_status=_list(ref("VersionStatus"))),
    "SignatureMetadata": _object(
        "model_spec metadata",
        model_spec=_object("name version", name=_text(), signature_name=_text(), version=_text()),
        metadata=_object("signature_def", signature_def=_object("signature_def", signature_def={"type": "object"})),
    ),
    # ---- Open Inference Protocol
    "ServerMetadata": _object(
        "name version extensions",
        name=_text(),
        version=_text(),
        extensions=_list(_text(examples=["binary_tensor_data"])),
    ),
    "ModelMetadata": _object(
        "name platform inputs outputs",
        name=_text(),
        versions=_list(_text()),
        platform=_text(examples=["tensorflow_savedmodel", "onnx_onnxv1"]),
        inputs=_list(ref("TensorMetadata")),
        outputs=_list(ref("TensorMetadata")),
        parameters=_parameters(),
    ),
    "Datatype": {"enum": [*DATATYPES, "BYTES"]},
    "TensorMetadata": _object(
        "name datatype shape",
        name=_text(),
        datatype=_text("As in a request, or a type that no request can carry.", examples=["FP32"]),
        shape=SHAPE,
    ),
    "Live": _object("live", live={"type": "boolean"}),
    "ServerReady": _object("ready", ready={"type": "boolean"}),
    "Ready": _object("name ready", name=_text(), ready={"type": "boolean"}),
    "InferRequest": _object(
        "inputs",
        id=_text("Comes back in the answer."),
        parameters=_parameters(
            signature_name=_text("The signature to call; else the first that has these inputs and outputs."),
            binary_data_output={"type": "boolean", "description": "All outputs as bytes."},
        ),
        inputs=_list(ref("InferInput"), minItems=1),
        outputs={
            "type": ["array", "null"],
            "items": ref("InferOutput"),
            "description": "The outputs that are wanted; all where it is absent.",
        },
    ),
    "InferInput": _object(
        "name shape datatype",
        name=_text(),
        shape=_list({"type": "integer", "minimum": 0}),
        datatype=ref("Datatype"),
        parameters=_parameters(
            binary_data_size={
                "type": "integer",
                "minimum": 0,
                "description": "Bytes of this tensor behind the JSON, in place of data.",
            }
        ),
        data={"description": "Row-major, nested or flat.", **_list(ref("InferData"))},
    ),
    "InferData": {"anyOf": [{"type": ["number", "string", "boolean"]}, _list(ref("InferData"))]},
    "InferOutput": _object(
        "name",
        name=_text(),
        parameters=_parameters(
            binary_data={"type": "boolean", "description": "This output as bytes."},
            classification={
                "type": "integer",
                "minimum": 0,
                "description": "The best classes, so many, as strings score:index:label.",
            },
        ),
    ),
    "InferResponse": _object(
        "model_name outputs",
        model_name=_text(),
        model_version=_text(),
        id=_text(),
        parameters=_parameters(),
        outputs=_list(
            _object(
                "name shape datatype",
                name=_text(),
                shape=_list({"type": "integer", "minimum": 0}),
                datatype=ref("Datatype"),
                parameters=_parameters(),
                data=_list(ref("InferData")),
            )
        ),
    ),
    # ---- GraphPipe
    "GraphPipeMetadata": _object(
        "Name Version Server Description Inputs Outputs",
        Name=_text(),
        Version=_text(),
        Server=_text(),
        Description=_text(),
        Inputs={"type": ["array", "null"], "items": ref("GraphPipeTensor")},
        Outputs={"type": ["array", "null"], "items": ref("GraphPipeTensor")},
    ),
    "GraphPipeTensor": _object(
        "Name Shape Type",
        Name=_text(),
        Description=_text(),
        Shape={"type": ["array", "null"], "items": {"type": "integer"}, "description": "-1 is any size."},
        Type={"type": "integer", "minimum": 0, "maximum": 12, "description": "GraphPipe's number of the type."},
    ),
    # ---- the page and the admin port
    "About": _object(
        "models server why_not_ready",
        server=_text(examples=["seaway 0.1.0"]),
        why_not_ready=_text("Empty where the server is ready."),
        models=_list(
            _object(
                "name labels versions",
                name=_text(),
                labels={"description": "Versions by label.", **_map({"type": "integer"})},
                default={"type": ["integer", "null"], "description": "The version that answers where none is named."},
                versions=_list(ref("AboutVersion")),
            )
        ),
    ),
    "AboutVersion": _object(
        "version state",
        version={"type": "integer"},
        state={"enum": STATES},
        error=_text(),
        identity=_text("name/version@digest", examples=["characters/1@0f3a…"]),
        signatures=_map(_object("inputs outputs", inputs=_list(ref("AboutTensor")), outputs=_list(ref("AboutTensor")))),
        labels=_list(_text(), description="Names of the classes."),
    ),
    "AboutTensor": _object("name dtype shape", name=_text(), dtype=_text(), shape=NULLABLE_SHAPE),
    "AdminStatus": _object(
        "ready models workers",
        ready=_text('"ready", or why not.'),
        models={"type": "object"},
        workers=_list({"type": "object"}),
    ),
}


def _example(summary: str, value: Any) -> Schema:
    return {"summary": summary, "value": value}


EXAMPLES: dict[str, Schema] = {
    "rows": _example("One picture, as a row", {"instances": [picture()]}),
    "png": _example("One picture, as PNG", {"signature_name": "from_png", "instances": [{"b64": PNG}]}),
    "columns": _example("One picture, as a column", {"inputs": {"image": [picture()]}}),
    "examples": _example("One example, of a model that takes tf.Example", {"examples": [{"x": 1.0}]}),
    "infer": _example(
        "One picture",
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1, SIDE, SIDE, 1],
                    "datatype": "FP32",
                    "data": [pixel for row in picture() for column in row for pixel in column],
                }
            ]
        },
    ),
}
