import socket

import numpy as np
import pytest
import toy
from responder import serving

from seaway.artifacts import model_repository
from seaway.errors import DataError, InvalidInput, NotFound, Unavailable
from seaway.load.client import Client, message_of
from seaway.load.payloads import read_model
from seaway.load.served_parity import served_parity
from seaway.protocols import client_codecs

BOTH = pytest.mark.parametrize("protocol", ["tfs", "graphpipe"])


@pytest.fixture(scope="module", params=["image", "table"])
def served(request, tmp_path_factory):
    """(server, metadata, golden examples) of a model with one input and of one with two."""
    folder = tmp_path_factory.mktemp(request.param)
    artifacts = toy.make(folder / "made", {"image": toy.IMAGE_INPUT, "table": toy.TABLE_INPUTS}[request.param])
    artifacts.publish(folder / "models")
    metadata = model_repository.read_metadata(folder / "models", "toy", 1)
    examples = read_model(model_repository.path(folder / "models", "toy", 1)).examples
    with serving(folder / "models") as server:
        yield server, metadata, examples


@pytest.fixture(autouse=True)
def healthy(served):
    yield
    served[0].fault, served[0].every = "", 1


def parity(served, protocol, **more):
    server, metadata, examples = served
    expected = {"scores": examples.outputs["scores"]}
    return served_parity(
        server.url, "toy", 1, examples.inputs, expected, None, metadata.tolerances, protocol, batch=5, **more
    )


def test_both_protocols_return_the_model_s_outputs_and_its_version(served):
    server, metadata, examples = served
    with Client(server.url) as client:
        rest, rest_by = client.predict(client_codecs.TFS, "toy", examples.inputs, "scores", 1)
        graphpipe, graphpipe_by = client.predict(client_codecs.GRAPHPIPE, "toy", examples.inputs, "scores")
    np.testing.assert_allclose(rest, examples.outputs["scores"], rtol=1e-6)
    np.testing.assert_array_equal(graphpipe, examples.outputs["scores"])
    assert rest_by == graphpipe_by == f"toy/1@{metadata.sha256}"


def test_status_of_a_version(served):
    with Client(served[0].url) as client:
        assert [(s.version, s.state) for s in client.status("toy", 1)] == [(1, "AVAILABLE")]
        with pytest.raises(NotFound, match="Could not find version 5"):
            client.status("toy", 5)


def test_errors_carry_the_server_s_message(served):
    server, _, examples = served
    with Client(server.url) as client:
        with pytest.raises(NotFound, match="Servable not found"):
            client.predict(client_codecs.TFS, "nobody", examples.inputs, "scores")
        with pytest.raises(InvalidInput, match="400"):
            client.predict(client_codecs.TFS, "toy", {"image": np.array(["a", "b"])}, "scores")
        client.predict(client_codecs.TFS, "toy", examples.inputs, "scores")
        server.fault = "error"
        with pytest.raises(Unavailable, match="ran out of luck"):
            client.predict(client_codecs.TFS, "toy", examples.inputs, "scores")
        server.fault = "drop"
        with pytest.raises(Unavailable, match="no response"):
            client.predict(client_codecs.TFS, "toy", examples.inputs, "scores")


def test_an_address_without_a_server_and_invalid_addresses():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url) as client, pytest.raises(Unavailable, match="is the server running"):
            client.status("toy")
    for address in ("127.0.0.1:8501", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://127.0.0.1:0"):
        with pytest.raises(InvalidInput, match="give one like"):
            Client(address)


def test_a_web_page_becomes_a_one_line_message():
    assert message_of(b"\n<!DOCTYPE html>\n<h1>Error response</h1>") == (
        "a web page, not a model server; check the URL"
    )
    assert message_of(b'{"error": "one\\n two"}') == "one two"


@BOTH
def test_served_parity_of_a_healthy_server(served, protocol):
    row = parity(served, protocol)
    assert (row.examples, row.wrong, row.flipped, row.accuracy) == (16, 0, 0, None)
    assert row.max_abs < 1e-6
    assert row.served_by == {f"toy/1@{served[1].sha256}": 4}
    assert row.hop == {"tfs": "served, REST", "graphpipe": "served, GraphPipe"}[protocol]


@BOTH
@pytest.mark.parametrize("fault", ["constant", "nan", "shape", "off", "permuted"])
def test_served_parity_counts_every_wrong_response(served, protocol, fault):
    served[0].fault = fault
    next(served[0].counter)  # the first inference is always correct
    row = parity(served, protocol)
    assert row.wrong >= 14  # a constant or mirrored output may happen to be correct
    assert row.max_abs is None if fault in ("nan", "shape") else row.max_abs > 5e-4


@BOTH
def test_accuracy_is_that_of_the_served_outputs(served, protocol):
    server, metadata, examples = served
    expected = examples.outputs["scores"]
    true_classes = expected.argmax(axis=1)
    true_classes[:4] = (true_classes[:4] + 1) % 3
    arguments = server.url, "toy", None, examples.inputs, {"scores": expected}
    row = served_parity(*arguments, true_classes, metadata.tolerances, protocol)
    assert row.accuracy == 12 / 16
    with pytest.raises(DataError, match="different test sets"):
        served_parity(*arguments, true_classes[:3], metadata.tolerances, protocol)
