"""The server's responses match its OpenAPI document, and /docs shows them.

Schemathesis sends valid and invalid requests. TensorFlow Serving's paths are excluded because their status codes follow
TensorFlow Serving; so is the admin port.
"""

import copy
import json
import shutil
import subprocess

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from playwright.sync_api import expect, sync_playwright
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from seaway.protocols import graphpipe
from seaway.serve.supervisor import openapi

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
METADATA_REQUEST = bytes.fromhex(openapi.document("/")["paths"]["/"]["post"]["requestBody"]["x-hex"])
INFER_REQUEST = bytes(graphpipe.write_infer_request([("x", np.float32([1, 2]))]))


@st.composite
def graphpipe_bodies(draw):
    """A real request, one with a few changed bytes, or arbitrary bytes."""
    body = bytearray(draw(st.sampled_from([METADATA_REQUEST, INFER_REQUEST, b""])))
    for _ in range(draw(st.integers(0, 3)) if body else 0):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body) or draw(st.binary(max_size=200))


schemathesis.openapi.media_type("application/octet-stream", graphpipe_bodies())


def document():
    """The server's document, narrowed to the models under test, so that not every response is 404."""
    made = copy.deepcopy(openapi.document("http://127.0.0.1"))
    parameters, parts = made["components"]["parameters"], made["components"]["schemas"]
    for name, values in (
        ("model", ["half", "multi", "types", "nobody"]),
        ("version", [1, 2, 7]),
        ("label", ["stable", "canary", "unknown"]),
    ):
        parameters[name] |= {"schema": {"enum": values}, "example": values[0]}
    half = copy.deepcopy(parts["InferInput"])
    half["properties"] |= {
        "name": {"const": "x"},
        "datatype": {"const": "FP32"},
        "shape": {"type": "array", "items": {"enum": [0, 1, 2, 3]}, "minItems": 1, "maxItems": 2},
        "data": {"type": "array", "items": {"type": "number"}, "maxItems": 4},
    }
    parts["InferRequest"]["properties"]["inputs"]["items"] = {"anyOf": [half, parts["InferInput"]]}
    sent = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    made["components"]["examples"]["infer"]["value"] = {"inputs": [sent]}
    return made


schema = schemathesis.openapi.from_dict(document()).exclude(tag=["TensorFlow Serving"])


@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_responses_are_as_documented(server, case):
    excluded = [positive_data_acceptance]  # what fits the schema may still not fit this model: 400 is right there
    if "Inference-Header-Content-Length" in case.headers:
        excluded.append(negative_data_rejection)  # it sends plain numbers instead of JSON, whatever Content-Type says
    case.call_and_validate(base_url=server.url, excluded_checks=excluded)


# ---- /docs


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no chromium here: install Debian's package chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def docs(browser, server):
    """The loaded page; its console may have nothing but failed requests at the end."""
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{server.url}/docs")
    page.wait_for_selector("h1")
    yield page
    page.close()
    assert [text for text in said if not text.startswith("Failed to load resource")] == []


def opened(page, operation):
    page.click(f"#{operation} > summary")
    return page.locator(f"#{operation}")


def answer(operation):
    return operation.get_by_label("Response").inner_text()


def test_docs_shows_every_operation_and_schema(docs, server):
    served = server.get("/openapi.json").json()
    names = [
        item[method]["operationId"] for item in served["paths"].values() for method in item.keys() & {"get", "post"}
    ]
    shown = docs.eval_on_selector_all("main details", "all => all.map(one => one.id)")
    assert sorted(shown) == sorted([*names, *(f"schema-{name}" for name in served["components"]["schemas"])])


def test_docs_sends_a_request_and_shows_the_response(docs):
    predict = opened(docs, "tfsPredict")
    predict.get_by_label("model").fill("half")
    predict.get_by_label("Request body").fill('{"instances": [1, 2]}')
    predict.get_by_role("button", name="Send").click()
    expect(predict.get_by_label("Headers")).to_contain_text("seaway-model: half/")
    assert json.loads(answer(predict)) == {"predictions": [3.5, 4]}


def test_docs_curl_lines_work_as_they_are_shown(docs):
    predict = opened(docs, "tfsPredict")
    predict.get_by_label("model").fill("half")
    predict.get_by_label("Request body").fill('{"instances": [1, 2], "note": "it\'s"}')
    assert json.loads(shell(predict)) == {"predictions": [3.5, 4]}
    metadata = opened(docs, "graphpipe")
    metadata.get_by_label("model").fill("half")
    assert graphpipe.read_metadata_response(shell(metadata)).name == "half"


def shell(operation):
    line = operation.locator(".curl pre").inner_text()
    return subprocess.run(["sh", "-c", line.replace("curl ", "curl -s ")], capture_output=True, timeout=60).stdout


def test_docs_shows_bytes_as_bytes(docs):
    infer = opened(docs, "graphpipe")
    infer.get_by_label("model").fill("half")
    infer.get_by_label("Request body").fill(INFER_REQUEST.hex())
    infer.get_by_role("button", name="Send").click()
    expect(infer.get_by_label("Headers")).to_contain_text("application/octet-stream")
    assert answer(infer).startswith("000000  ")


def test_docs_shows_the_server_s_error(docs):
    predict = opened(docs, "tfsPredict")
    predict.get_by_label("model").fill("half")
    predict.get_by_label("Request body").fill("{")
    predict.get_by_role("button", name="Send").click()
    expect(predict.locator("form .status")).to_have_text("400 Bad Request")
    assert "JSON Parse error" in json.loads(answer(predict))["error"]


def test_docs_filter(docs):
    docs.get_by_label("Filter operations").fill("v2 ready label")
    expect(docs.locator("main details:visible")).to_have_count(1)
    assert docs.locator("main details:visible").get_attribute("id") == "oipReadyLabel"


def test_docs_opens_the_operation_in_its_address(browser, server):
    page = browser.new_page()
    page.goto(f"{server.url}/docs#oipInfer")
    expect(page.locator("#oipInfer form")).to_be_visible()
    page.close()
