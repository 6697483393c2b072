import socket

import numpy as np
import pytest
import toy
from responder import serving

from seaway.artifacts import store
from seaway.errors import DataError, InvalidInput, NotFound, Unavailable
from seaway.load.client import Client, message_of
from seaway.load.payloads import read_model
from seaway.load.served import served_parity

BOTH = pytest.mark.parametrize("protocol", ["tfs", "graphpipe"])


@pytest.fixture(scope="module", params=["picture", "table"])
def served(request, tmp_path_factory):
    """(server, card, golden examples) of a model with one input and of one with two."""
    folder = tmp_path_factory.mktemp(request.param)
    made = toy.make(folder / "made", {"picture": toy.PICTURE, "table": toy.TABLE}[request.param])
    made.publish(folder / "volume")
    card = store.read_card(folder / "volume", "toy", 1)
    examples = read_model(store.path(folder / "volume", "toy", 1)).examples
    with serving(folder / "volume") as server:
        yield server, card, examples


@pytest.fixture(autouse=True)
def healthy(served):
    yield
    served[0].fault, served[0].every = "", 1


def parity(served, protocol, **more):
    server, card, examples = served
    expected = examples.outputs["scores"]
    return served_parity(
        server.url, "toy", 1, examples.inputs, expected, None, card.tolerances["scores"], protocol, batch=5, **more
    )


def test_both_protocols_give_the_model_s_answers_and_say_who_gave_them(served):
    server, card, examples = served
    with Client(server.url) as client:
        rest = client.predict_rest("toy", examples.inputs, 1)
        graphpipe = client.predict_graphpipe("toy", examples.inputs, ["scores"])
    np.testing.assert_allclose(rest.outputs[""], examples.outputs["scores"], rtol=1e-6)
    np.testing.assert_array_equal(graphpipe.outputs["scores"], examples.outputs["scores"])
    assert rest.served_by == graphpipe.served_by == f"toy/1@{card.sha256}"


def test_status_of_a_version(served):
    with Client(served[0].url) as client:
        assert [(s.version, s.state) for s in client.status("toy", 1)] == [(1, "AVAILABLE")]
        with pytest.raises(NotFound, match="Could not find version 5"):
            client.status("toy", 5)


def test_errors_carry_the_server_s_message(served):
    server, _, examples = served
    with Client(server.url) as client:
        with pytest.raises(NotFound, match="Servable not found"):
            client.predict_rest("nobody", examples.inputs)
        with pytest.raises(InvalidInput, match="400"):
            client.predict_rest("toy", {"image": np.array(["a", "b"])})
        client.predict_rest("toy", examples.inputs)
        server.fault = "error"
        with pytest.raises(Unavailable, match="ran out of luck"):
            client.predict_rest("toy", examples.inputs)
        server.fault = "drop"
        with pytest.raises(Unavailable, match="no answer"):
            client.predict_rest("toy", examples.inputs)


def test_nobody_there_and_an_address_that_is_none():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with Client(url) as client, pytest.raises(Unavailable, match="is the server running"):
            client.status("toy")
    for address in ("127.0.0.1:8501", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://127.0.0.1:0"):
        with pytest.raises(InvalidInput, match="give one like"):
            Client(address)


def test_a_web_page_is_told_in_a_line_and_not_shown():
    assert message_of(b"\n<!DOCTYPE html>\n<h1>Error response</h1>") == (
        "a web page, so no model server answers there; check the address"
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
def test_served_parity_counts_every_wrong_answer(served, protocol, fault):
    served[0].fault = fault
    next(served[0].counter)  # the first inference is always right
    row = parity(served, protocol)
    assert row.wrong >= 14  # a constant or mirrored answer may happen to be right
    assert row.max_abs is None if fault in ("nan", "shape") else row.max_abs > 5e-4


@BOTH
def test_accuracy_is_of_what_was_served(served, protocol):
    server, card, examples = served
    expected = examples.outputs["scores"]
    truth = expected.argmax(axis=1)
    truth[:4] = (truth[:4] + 1) % 3
    tolerance = card.tolerances["scores"]
    row = served_parity(server.url, "toy", None, examples.inputs, expected, truth, tolerance, protocol)
    assert row.accuracy == 12 / 16
    with pytest.raises(DataError, match="two test sets"):
        served_parity(server.url, "toy", None, examples.inputs, expected, truth[:3], tolerance, protocol)
