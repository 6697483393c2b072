import base64
import dataclasses
import json

import numpy as np
import pytest
import toy
from PIL import Image
from responder import FAULTS

from seaway.artifacts.golden import Golden
from seaway.errors import DataError, InvalidInput, MetadataError
from seaway.load import payloads
from seaway.load.payloads import WrongResponse, check, discriminative, encode, read_model
from seaway.protocols import client_codecs, graphpipe, oip, tfserving
from seaway.protocols.calls import Call, ModelVersionInfo


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("toy") / "made")


@pytest.fixture(scope="module")
def model(made):
    return read_model(made.onnx)


def with_scores(model, scores):
    """The same model with other expected outputs."""
    return dataclasses.replace(model, examples=Golden(model.examples.inputs, {"scores": scores}))


def scores_of(payload):
    (one,) = payload.expected
    return one.values


VERSION_INFO = ModelVersionInfo("toy", 1, "toy/1@0", {})
PROTOCOLS = [client_codecs.TFS, client_codecs.GRAPHPIPE, client_codecs.OIP, client_codecs.OIP_BINARY]


def respond(protocol, scores):
    """(body, headers) of a server's response."""
    if protocol is client_codecs.TFS:
        return tfserving.write_predict({"scores": scores}, row=True), {}
    if protocol is client_codecs.GRAPHPIPE:
        return graphpipe.write_infer_response([scores.astype(np.float32)]), {}
    response_format = oip.ResponseFormat(
        "", False, (oip.RequestedOutput("scores", protocol is client_codecs.OIP_BINARY),)
    )
    reply = oip.write(Call("", {}, ["scores"], response_format), {"scores": scores.astype(np.float32)}, VERSION_INFO)
    return reply.body if isinstance(reply.body, bytes) else b"".join(reply.body), reply.headers


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=[protocol.key for protocol in PROTOCOLS])
class TestCheck:
    def test_check_returns_the_distance_of_a_correct_response(self, model, protocol):
        payload = encode(model, protocol, batch=4)[3]
        assert check(*respond(protocol, scores_of(payload)), payload, protocol) < 1e-7
        assert check(*respond(protocol, scores_of(payload) + 5e-6), payload, protocol) == pytest.approx(5e-6, rel=0.05)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_each_fault_is_a_wrong_response(self, model, protocol, fault):
        payload = encode(model, protocol, batch=4)[0]
        scores = FAULTS[fault](scores_of(payload).astype(np.float32))
        with pytest.raises(WrongResponse):
            check(*respond(protocol, scores), payload, protocol)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"\x00" * 64, b'{"predictions": ["a"]}'])
    def test_an_invalid_response_is_a_wrong_response(self, model, protocol, body):
        payload = encode(model, protocol, batch=1)[0]
        with pytest.raises(WrongResponse):
            check(body, {}, payload, protocol)

    def test_the_response_to_another_request_is_wrong(self, model, protocol):
        requests = encode(model, protocol, batch=4)
        for payload, other in zip(requests, requests[1:] + requests[:1], strict=True):
            with pytest.raises(WrongResponse, match="tolerance"):
                check(*respond(protocol, scores_of(other)), payload, protocol)

    def test_nan_is_correct_where_pytorch_gave_it(self, model, protocol):
        scores = model.examples.outputs["scores"].copy()
        scores[0, 0] = np.nan
        payload = encode(with_scores(model, scores), protocol, batch=1)[0]
        assert check(*respond(protocol, scores[:1]), payload, protocol) < 1e-7
        with pytest.raises(WrongResponse):
            check(*respond(protocol, np.nan_to_num(scores[:1])), payload, protocol)


def test_batches_rotate_and_repeat_if_there_are_fewer_examples(model):
    requests = encode(model, client_codecs.TFS, batch=20)
    assert len(requests) == 16
    sent = np.array(json.loads(requests[3].body)["instances"], np.float32)
    image = model.examples.inputs["image"]
    np.testing.assert_array_equal(sent, np.roll(image, -3, axis=0)[[*range(16), *range(4)]])


def test_big_batches_do_not_fill_the_memory(model, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_BYTES", 10_000)
    assert 1 <= len(encode(model, client_codecs.TFS, batch=16)) < 16


def test_equal_expected_outputs_are_not_discriminative(model):
    assert discriminative(encode(model, client_codecs.TFS, batch=2))
    alike = with_scores(model, np.full((16, 3), 1 / 3, np.float32))
    assert not discriminative(encode(alike, client_codecs.TFS, batch=2))
    assert not discriminative(encode(model, client_codecs.TFS, batch=2)[:1])


def test_a_folder_without_examples_or_of_another_output_is_refused(made, tmp_path):
    with pytest.raises(MetadataError, match="not an artifact of Seaway"):
        read_model(tmp_path)
    with pytest.raises(MetadataError, match="golden"):
        read_model(made.parity)


def test_the_inputs_are_sent_in_the_model_s_order(model):
    inputs = {"a": np.ones((16, 1), np.float32), "b": np.zeros((16, 1), np.float32)}
    other = dataclasses.replace(model, inputs=("b", "a"), examples=Golden(inputs, model.examples.outputs))
    body = encode(other, client_codecs.GRAPHPIPE, batch=1)[0].body
    assert [name for name, _ in graphpipe.read_request(body).inputs] == ["b", "a"]


def test_no_finite_number_matches_infinity(model):
    scores = np.tile(np.float32([np.inf, 0, 1]), (16, 1))
    payload = encode(with_scores(model, scores), client_codecs.GRAPHPIPE, batch=1)[0]
    assert check(*respond(client_codecs.GRAPHPIPE, scores[:1]), payload, client_codecs.GRAPHPIPE) == 0
    with pytest.raises(WrongResponse):
        check(*respond(client_codecs.GRAPHPIPE, np.float32([[9, 0, 1]])), payload, client_codecs.GRAPHPIPE)


def test_responses_to_examples_without_outputs_are_compared_with_the_first(tmp_path):
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(tmp_path / "x.npz", x=x)
    model = read_model(tmp_path / "x.npz")
    assert (model.inputs, model.outputs, model.name, model.digest) == (("x",), {}, "", "")
    payload = encode(model, client_codecs.TFS, batch=2)[0]
    first = tfserving.write_predict({"y": x[:2]}, row=True)
    assert check(first, {}, payload, client_codecs.TFS) == 0
    assert check(tfserving.write_predict({"y": x[:2] + 1e-5}, row=True), {}, payload, client_codecs.TFS) > 0
    with pytest.raises(WrongResponse, match="tolerance"):
        check(tfserving.write_predict({"y": x[:2] + 1}, row=True), {}, payload, client_codecs.TFS)
    with pytest.raises(WrongResponse, match="rows"):
        check(
            tfserving.write_predict({"y": x}, row=True),
            {},
            encode(model, client_codecs.TFS, batch=2)[0],
            client_codecs.TFS,
        )


def test_files_without_examples_are_errors(tmp_path):
    (tmp_path / "no.npz").write_bytes(b"nonsense")
    np.savez(tmp_path / "uneven.npz", a=np.zeros((2, 1)), b=np.zeros((3, 1)))
    np.savez(tmp_path / "empty.npz")
    for name, error in (("no", "not an .npz file"), ("uneven", "same N"), ("empty", "same N")):
        with pytest.raises(DataError, match=error):
            read_model(tmp_path / f"{name}.npz")


def test_png_sends_the_images_that_it_can_represent_exactly(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 1))
    pixels[0, 0] = pixels[0, -1] = 255  # a light border
    pixels[0, :, 0] = pixels[0, :, -1] = 255
    pixels[1:, [0, -1]] = pixels[1:, :, [0, -1]] = 0
    image = pixels.astype(np.float32) / np.float32(255)
    image[5, 2, 2] = 0.5001
    examples = Golden({"image": image}, {"scores": np.eye(6, dtype=np.float32)})
    images = dataclasses.replace(model, inputs=("image",), examples=examples)
    requests = encode(images, client_codecs.PNG, batch=1)
    assert [int(payload.expected[0].values.argmax()) for payload in requests] == [1, 2, 3, 4]
    document = json.loads(requests[0].body)
    assert document["signature_name"] == "from_png"
    file = tmp_path / "1.png"
    file.write_bytes(base64.b64decode(document["instances"][0]["b64"]))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), pixels[1, ..., 0])
    with pytest.raises(InvalidInput, match="no example is an 8-bit image"):
        encode(model, client_codecs.PNG, batch=1)  # the toy's pixels are arbitrary numbers
