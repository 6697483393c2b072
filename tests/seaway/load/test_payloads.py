import base64
import dataclasses
import json

import numpy as np
import pytest
import toy
from PIL import Image
from responder import FAULTS

from seaway.artifacts.golden import Golden
from seaway.errors import CardError, DataError, InvalidInput
from seaway.load import payloads
from seaway.load.payloads import WrongAnswer, check, distinct, encode, read_model
from seaway.protocols import graphpipe, oip, tfserving, wire
from seaway.protocols.calls import Call, Served


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("toy") / "made")


@pytest.fixture(scope="module")
def model(made):
    return read_model(made.onnx)


def known(model, scores):
    """The same model with other answers of PyTorch."""
    return dataclasses.replace(model, examples=Golden(model.examples.inputs, {"scores": scores}))


SERVED = Served("toy", 1, "toy/1@0", {})
SPOKEN = [wire.TFS, wire.GRAPHPIPE, wire.OIP, wire.OIP_BINARY]


def answer(protocol, scores):
    """(body, headers) as a server answers."""
    if protocol is wire.TFS:
        return tfserving.write_predict({"scores": scores}, row=True), {}
    if protocol is wire.GRAPHPIPE:
        return graphpipe.write_infer_response([scores.astype(np.float32)]), {}
    form = oip.Form("", False, (oip.Wanted("scores", protocol is wire.OIP_BINARY),))
    reply = oip.write(Call("", {}, ["scores"], form), {"scores": scores.astype(np.float32)}, SERVED)
    return reply.body if isinstance(reply.body, bytes) else b"".join(reply.body), reply.headers


@pytest.mark.parametrize("protocol", SPOKEN, ids=[protocol.key for protocol in SPOKEN])
class TestCheck:
    def test_a_right_answer_gives_its_distance(self, model, protocol):
        payload = encode(model, protocol, batch=4)[3]
        assert check(*answer(protocol, payload.expected), payload, protocol) < 1e-7
        assert check(*answer(protocol, payload.expected + 5e-6), payload, protocol) == pytest.approx(5e-6, rel=0.05)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_each_fault_is_a_wrong_answer(self, model, protocol, fault):
        payload = encode(model, protocol, batch=4)[0]
        scores = FAULTS[fault](payload.expected.astype(np.float32))
        with pytest.raises(WrongAnswer):
            check(*answer(protocol, scores), payload, protocol)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"\x00" * 64, b'{"predictions": ["a"]}'])
    def test_what_is_no_answer_is_a_wrong_answer(self, model, protocol, body):
        payload = encode(model, protocol, batch=1)[0]
        with pytest.raises(WrongAnswer):
            check(body, {}, payload, protocol)

    def test_every_request_gets_the_other_s_answer_refused(self, model, protocol):
        made = encode(model, protocol, batch=4)
        for payload, other in zip(made, made[1:] + made[:1], strict=True):
            with pytest.raises(WrongAnswer, match="tolerance"):
                check(*answer(protocol, other.expected), payload, protocol)

    def test_nan_is_right_where_pytorch_gave_it(self, model, protocol):
        scores = model.examples.outputs["scores"].copy()
        scores[0, 0] = np.nan
        payload = encode(known(model, scores), protocol, batch=1)[0]
        assert check(*answer(protocol, scores[:1]), payload, protocol) < 1e-7
        with pytest.raises(WrongAnswer):
            check(*answer(protocol, np.nan_to_num(scores[:1])), payload, protocol)


def test_batches_rotate_and_repeat_where_there_are_fewer_examples(model):
    made = encode(model, wire.TFS, batch=20)
    assert len(made) == 16
    sent = np.array(json.loads(made[3].body)["instances"], np.float32)
    image = model.examples.inputs["image"]
    np.testing.assert_array_equal(sent, np.roll(image, -3, axis=0)[[*range(16), *range(4)]])


def test_big_batches_do_not_fill_the_memory(model, monkeypatch):
    monkeypatch.setattr(payloads, "MOST_BYTES", 10_000)
    assert 1 <= len(encode(model, wire.TFS, batch=16)) < 16


def test_answers_that_cannot_be_told_apart_are_known(model):
    assert distinct(encode(model, wire.TFS, batch=2))
    alike = known(model, np.full((16, 3), 1 / 3, np.float32))
    assert not distinct(encode(alike, wire.TFS, batch=2))
    assert not distinct(encode(model, wire.TFS, batch=2)[:1])


def test_a_folder_without_examples_or_of_another_output_is_refused(made, tmp_path):
    with pytest.raises(CardError, match="no card"):
        read_model(tmp_path)
    with pytest.raises(CardError, match="golden"):
        read_model(made.parity)


def test_the_model_s_inputs_are_sent_in_the_card_s_order(model):
    inputs = {"a": np.ones((16, 1), np.float32), "b": np.zeros((16, 1), np.float32)}
    other = dataclasses.replace(model, inputs=("b", "a"), examples=Golden(inputs, model.examples.outputs))
    body = encode(other, wire.GRAPHPIPE, batch=1)[0].body
    assert [name for name, _ in graphpipe.read_request(body).inputs] == ["b", "a"]


def test_infinity_is_not_met_by_any_number(model):
    scores = np.tile(np.float32([np.inf, 0, 1]), (16, 1))
    payload = encode(known(model, scores), wire.GRAPHPIPE, batch=1)[0]
    assert check(*answer(wire.GRAPHPIPE, scores[:1]), payload, wire.GRAPHPIPE) == 0
    with pytest.raises(WrongAnswer):
        check(*answer(wire.GRAPHPIPE, np.float32([[9, 0, 1]])), payload, wire.GRAPHPIPE)


def test_a_file_of_examples_whose_answers_are_not_known_is_held_to_its_first_answer(tmp_path):
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(tmp_path / "x.npz", x=x)
    model = read_model(tmp_path / "x.npz")
    assert (model.inputs, model.output, model.name, model.digest) == (("x",), "", "", "")
    payload = encode(model, wire.TFS, batch=2)[0]
    first = tfserving.write_predict({"y": x[:2]}, row=True)
    assert check(first, {}, payload, wire.TFS) == 0
    assert check(tfserving.write_predict({"y": x[:2] + 1e-5}, row=True), {}, payload, wire.TFS) > 0
    with pytest.raises(WrongAnswer, match="tolerance"):
        check(tfserving.write_predict({"y": x[:2] + 1}, row=True), {}, payload, wire.TFS)
    with pytest.raises(WrongAnswer, match="rows"):
        check(tfserving.write_predict({"y": x}, row=True), {}, encode(model, wire.TFS, batch=2)[0], wire.TFS)


def test_files_that_hold_no_examples_are_told(tmp_path):
    (tmp_path / "no.npz").write_bytes(b"nonsense")
    np.savez(tmp_path / "uneven.npz", a=np.zeros((2, 1)), b=np.zeros((3, 1)))
    np.savez(tmp_path / "empty.npz")
    for name, said in (("no", "no .npz file"), ("uneven", "same N"), ("empty", "same N")):
        with pytest.raises(DataError, match=said):
            read_model(tmp_path / f"{name}.npz")


def test_png_carries_the_pictures_that_it_can_hold_exactly(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 1))
    pixels[0, 0] = pixels[0, -1] = 255  # a light border
    pixels[0, :, 0] = pixels[0, :, -1] = 255
    pixels[1:, [0, -1]] = pixels[1:, :, [0, -1]] = 0
    image = pixels.astype(np.float32) / np.float32(255)
    image[5, 2, 2] = 0.5001
    examples = Golden({"image": image}, {"scores": np.eye(6, dtype=np.float32)})
    pictures = dataclasses.replace(model, inputs=("image",), examples=examples)
    made = encode(pictures, wire.PNG, batch=1)
    assert [int(payload.expected.argmax()) for payload in made] == [1, 2, 3, 4]
    document = json.loads(made[0].body)
    assert document["signature_name"] == "from_png"
    file = tmp_path / "1.png"
    file.write_bytes(base64.b64decode(document["instances"][0]["b64"]))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), pixels[1, ..., 0])
    with pytest.raises(InvalidInput, match="no example is a picture"):
        encode(model, wire.PNG, batch=1)  # the toy's are of any number
