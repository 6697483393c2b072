import base64
import io
import json
import re

import jsonschema_rs
import numpy as np
import pytest
import schemathesis
from PIL import Image

from seaway.protocols import graphpipe
from seaway.serve import decompression
from seaway.serve.supervisor import openapi
from seaway.version import VERSION

METHODS = ("get", "post", "put", "delete", "patch", "head", "options")


@pytest.fixture(scope="module")
def document():
    return openapi.document("http://127.0.0.1:8501", "http://127.0.0.1:8502")


def operations(document):
    return [
        (path, method, item[method]) for path, item in document["paths"].items() for method in METHODS & item.keys()
    ]


def refs(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for part in value.values():
            yield from refs(part)
    elif isinstance(value, list):
        for part in value:
            yield from refs(part)


def validator(document, schema):
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def test_the_document_is_valid_openapi(document):
    schemathesis.openapi.from_dict(document).validate()
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}), name


def test_a_broken_document_is_invalid(document):
    broken = json.loads(json.dumps(document))
    broken["paths"]["/v2"]["get"]["responses"] = 5
    with pytest.raises(Exception, match="5 is not"):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_reference_leads_somewhere_and_every_component_is_used(document):
    used = set(refs(document))
    there = {f"#/components/{kind}/{name}" for kind, parts in document["components"].items() for name in parts}
    assert used == there


def test_operations_have_unique_names_and_declared_tags(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) > 40
    tags = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert tags == {tag["name"] for tag in document["tags"]}


def test_path_parameters_are_declared_once(document):
    for path, item in document["paths"].items():
        declared = [ref["$ref"].rpartition("/")[2] for ref in item["parameters"]]
        assert len(declared) == len(set(declared))
        in_path = {name for name in declared if document["components"]["parameters"][name]["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/{model}:predict",
        "/v1/models/{model}/versions/{version}:classify",
        "/v1/models/{model}/labels/{label}:regress",
        "/v2/models/{model}/versions/{version}/infer",
        "/graphpipe/{model}/labels/{label}",
        "/",
    ],
)
def test_a_call_documents_its_version_header_and_every_error(document, path):
    responses = document["paths"][path]["post"]["responses"]
    assert {"X-Request-Id", "Seaway-Model", "Seaway-Backend"} <= responses["200"]["headers"].keys()
    assert responses.keys() == {"200", *map(str, (400, 404, 408, 413, 415, 429, 431, 500, 501, 503, 504))}


def test_429_and_503_have_retry_after(document):
    shared = document["components"]["responses"]
    assert {status for status, response in shared.items() if "Retry-After" in response["headers"]} == {"429", "503"}


def test_examples_match_their_schemas(document):
    checked = set()
    for _, _, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name in content.get("examples", {}):
            example = document["components"]["examples"][name]["value"]
            validator(document, content["schema"]).validate(example)
            checked.add(name)
    assert checked == document["components"]["examples"].keys()


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("InferRequest", {"inputs": []}),
        ("InferRequest", {"inputs": [{"name": "x", "shape": [-1], "datatype": "FP32", "data": []}]}),
        ("InferRequest", {"inputs": [{"name": "x", "shape": [1], "datatype": "FLOAT", "data": [1]}]}),
        ("PredictRows", {"instances": []}),
        ("PredictRows", {"inputs": [1]}),
        ("Error", {"error": 5}),
        ("VersionStatus", {"version": 1, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}),
    ],
)
def test_schemas_reject_invalid_documents(document, name, wrong):
    assert not validator(document, {"$ref": f"#/components/schemas/{name}"}).is_valid(wrong)


def test_the_examples_are_the_same_image(document):
    examples = document["components"]["examples"]
    rows = np.array(examples["rows"]["value"]["instances"])
    assert rows.shape == (1, 28, 28, 1)
    assert rows.sum() > 60
    [infer] = examples["infer"]["value"]["inputs"]
    assert np.array_equal(np.reshape(infer["data"], infer["shape"]), rows)
    assert np.array_equal(examples["columns"]["value"]["inputs"]["image"], rows)
    [png] = examples["png"]["value"]["instances"]
    assert np.array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(png["b64"])))) / 255, rows[0, :, :, 0])


def test_graphpipe_s_example_is_a_valid_request(document):
    shown = bytes.fromhex(document["paths"]["/"]["post"]["requestBody"]["x-hex"])
    assert isinstance(graphpipe.read_request(shown), graphpipe.MetadataRequest)


def test_the_file_states_the_server_s_own_version_and_encodings(document):
    assert document["info"]["version"] == VERSION
    assert document["components"]["headers"]["Accept-Encoding"]["schema"]["const"] == decompression.SUPPORTED


def test_without_an_admin_port_its_paths_are_left_out():
    paths = openapi.document("http://h")["paths"]
    assert "/metrics" not in paths
    assert "Admin" not in {tag for item in paths.values() for tag in item["get" if "get" in item else "post"]["tags"]}


def test_the_admin_port_has_its_own_server_url(document):
    assert document["paths"]["/metrics"]["servers"] == [{"url": "http://127.0.0.1:8502"}]
    assert "servers" not in document["paths"]["/healthz"]
