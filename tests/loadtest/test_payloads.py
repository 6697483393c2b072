import dataclasses
import json

import numpy as np
import pytest
import toy
from responder import FAULTS

from loadtest import payloads, wire
from loadtest.payloads import WrongAnswer, check, distinct, encode, read_model
from seaway.card import Tensor
from seaway.errors import CardError
from seaway.golden import Golden
from seaway.protocols import graphpipe, tfserving


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("toy") / "made")


@pytest.fixture(scope="module")
def model(made):
    return read_model(made.onnx)


def answer(protocol, scores):
    if protocol is wire.REST:
        return tfserving.write_predict({"scores": scores}, row=True)
    return graphpipe.write_infer_response([scores.astype(np.float32)])


@pytest.mark.parametrize("protocol", wire.PROTOCOLS.values(), ids=list(wire.PROTOCOLS))
class TestCheck:
    def test_a_right_answer_gives_its_distance(self, model, protocol):
        payload = encode(*model, protocol, batch=4)[3]
        assert check(answer(protocol, payload.expected), payload, protocol) < 1e-7
        assert check(answer(protocol, payload.expected + 5e-6), payload, protocol) == pytest.approx(5e-6, rel=0.05)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_each_fault_is_a_wrong_answer(self, model, protocol, fault):
        payload = encode(*model, protocol, batch=4)[0]
        scores = FAULTS[fault](payload.expected.astype(np.float32))
        with pytest.raises(WrongAnswer):
            check(answer(protocol, scores), payload, protocol)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"\x00" * 64, b'{"predictions": ["a"]}'])
    def test_what_is_no_answer_is_a_wrong_answer(self, model, protocol, body):
        payload = encode(*model, protocol, batch=1)[0]
        with pytest.raises(WrongAnswer):
            check(body, payload, protocol)

    def test_every_request_gets_the_other_s_answer_refused(self, model, protocol):
        made = encode(*model, protocol, batch=4)
        for payload, other in zip(made, made[1:] + made[:1], strict=True):
            with pytest.raises(WrongAnswer, match="tolerance"):
                check(answer(protocol, other.expected), payload, protocol)

    def test_nan_is_right_where_pytorch_gave_it(self, model, protocol):
        card, examples = model
        scores = examples.outputs["scores"].copy()
        scores[0, 0] = np.nan
        payload = encode(card, Golden(examples.inputs, {"scores": scores}), protocol, batch=1)[0]
        assert check(answer(protocol, scores[:1]), payload, protocol) < 1e-7
        with pytest.raises(WrongAnswer):
            check(answer(protocol, np.nan_to_num(scores[:1])), payload, protocol)


def test_batches_rotate_and_repeat_where_there_are_fewer_examples(model):
    card, examples = model
    made = encode(card, examples, wire.REST, batch=20)
    assert len(made) == 16
    sent = np.array(json.loads(made[3].body)["instances"], np.float32)
    np.testing.assert_array_equal(sent, np.roll(examples.inputs["image"], -3, axis=0)[[*range(16), *range(4)]])


def test_big_batches_do_not_fill_the_memory(model, monkeypatch):
    monkeypatch.setattr(payloads, "MOST_BYTES", 10_000)
    assert 1 <= len(encode(*model, wire.REST, batch=16)) < 16


def test_answers_that_cannot_be_told_apart_are_known(model):
    card, examples = model
    assert distinct(encode(card, examples, wire.REST, batch=2))
    alike = Golden(examples.inputs, {"scores": np.full((16, 3), 1 / 3, np.float32)})
    assert not distinct(encode(card, alike, wire.REST, batch=2))
    assert not distinct(encode(card, examples, wire.REST, batch=2)[:1])


def test_a_folder_without_examples_or_of_another_output_is_refused(made, tmp_path):
    with pytest.raises(CardError, match="no card"):
        read_model(tmp_path)
    with pytest.raises(CardError, match="golden"):
        read_model(made.parity)


def test_the_model_s_inputs_are_sent_in_the_card_s_order(model):
    card, examples = model
    card = dataclasses.replace(card, inputs=(Tensor("b", "float32", (None, 1)), Tensor("a", "float32", (None, 1))))
    inputs = {"a": np.ones((16, 1), np.float32), "b": np.zeros((16, 1), np.float32)}
    body = encode(card, Golden(inputs, examples.outputs), wire.GRAPHPIPE, batch=1)[0].body
    assert [name for name, _ in graphpipe.read_request(body).inputs] == ["b", "a"]


def test_infinity_is_not_met_by_any_number(model):
    card, examples = model
    scores = np.tile(np.float32([np.inf, 0, 1]), (16, 1))
    payload = encode(card, Golden(examples.inputs, {"scores": scores}), wire.GRAPHPIPE, batch=1)[0]
    assert check(answer(wire.GRAPHPIPE, scores[:1]), payload, wire.GRAPHPIPE) == 0
    with pytest.raises(WrongAnswer):
        check(answer(wire.GRAPHPIPE, np.float32([[9, 0, 1]])), payload, wire.GRAPHPIPE)
