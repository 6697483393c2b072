"""Models with several outputs in the default signature: each is compared, and what differs is named."""

import dataclasses
import json

import msgpack
import numpy as np
import pytest
import toy
from responder import serving

from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance
from seaway.artifacts.golden import Golden
from seaway.deploy.deploy import deploy
from seaway.errors import MetadataError, Refused, Unavailable
from seaway.load import expected, formatting, payloads, report
from seaway.load.client import Client
from seaway.load.config import LoadConfig
from seaway.load.load import load
from seaway.load.payloads import Model, Payload, WrongResponse, check, discriminative, encode, read_model
from seaway.load.served_parity import served_parity
from seaway.load.verify import problems, verify
from seaway.promote.promote import promote
from seaway.protocols import client_codecs, graphpipe, oip, tfserving
from seaway.protocols.calls import Call, ModelVersionInfo, Signature

PROTOCOLS = [client_codecs.TFS, client_codecs.GRAPHPIPE, client_codecs.OIP, client_codecs.OIP_BINARY]
EACH = pytest.mark.parametrize("protocol", PROTOCOLS, ids=[protocol.key for protocol in PROTOCOLS])
TOLERANCES = {"scores": Tolerance(1e-5, 1e-4), "margins": Tolerance(0.5, 0.0)}
CONFIG = LoadConfig(users=2, duration_s=1, warmup_s=0)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A repository whose model came as an ONNX file and has the outputs scores and margins."""
    folder = tmp_path_factory.mktemp("two")
    toy.make(folder / "made", second="margins", settings={"reference": "ONNX Runtime"}).publish(folder / "models")
    return folder / "models"


@pytest.fixture
def server(two):
    with serving(two) as started:
        started.faulty = "margins"
        yield started


def model_of(outputs, tolerances=None):
    x = np.arange(len(next(iter(outputs.values()))), dtype=np.float32)[:, np.newaxis]
    tolerances = tolerances or dict.fromkeys(outputs, Tolerance(1e-5, 1e-4))
    return Model("m", ("x",), tolerances, Golden({"x": x}, outputs))


def respond(protocol, outputs, row=True):
    """(body, headers) of a server's response with those outputs."""
    if protocol is client_codecs.TFS:
        return tfserving.write_predict(outputs, row=row), {}
    if protocol is client_codecs.GRAPHPIPE:
        return graphpipe.write_infer_response(list(outputs.values())), {}
    wanted = tuple(oip.RequestedOutput(name, protocol is client_codecs.OIP_BINARY) for name in outputs)
    tensors = tuple(Tensor(name, "float32", array.shape) for name, array in outputs.items())
    info = ModelVersionInfo("m", 1, "m/1@0", {"": Signature((), tensors)})
    reply = oip.write(Call("", {}, list(outputs), oip.ResponseFormat("", False, wanted)), outputs, info)
    return reply.body if isinstance(reply.body, bytes) else b"".join(reply.body), reply.headers


SCORES = np.random.default_rng(0).random((4, 3)).astype(np.float32)
MARGINS = np.random.default_rng(1).random((4, 2, 2)).astype(np.float32)


@EACH
class TestCheck:
    @pytest.fixture
    def payload(self, protocol):
        return encode(model_of({"scores": SCORES, "margins": MARGINS}, TOLERANCES), protocol, batch=4)[0]

    def test_each_output_has_its_own_tolerance(self, protocol, payload):
        near = {"scores": SCORES, "margins": MARGINS + np.float32(0.25)}
        assert check(*respond(protocol, near), payload, protocol) == pytest.approx(0.25, rel=1e-3)
        far = {"scores": SCORES + np.float32(0.25), "margins": MARGINS}
        with pytest.raises(WrongResponse, match=r"^output 'scores' differs from PyTorch's by more than the tolerance$"):
            check(*respond(protocol, far), payload, protocol)

    def test_outputs_that_differ_are_named(self, protocol, payload):
        with pytest.raises(WrongResponse, match=r"^output 'margins' differs from PyTorch's by more") as raised:
            check(*respond(protocol, {"scores": SCORES, "margins": MARGINS + np.float32(2)}), payload, protocol)
        assert raised.value.max_abs == pytest.approx(2, rel=1e-3)
        with pytest.raises(WrongResponse, match=r"^output 'margins' has another shape than PyTorch's$"):
            check(*respond(protocol, {"scores": SCORES, "margins": MARGINS[:, :1]}), payload, protocol)
        with pytest.raises(WrongResponse, match=r"^outputs 'scores', 'margins' differ from PyTorch's by more"):
            check(*respond(protocol, {"scores": SCORES + 2, "margins": MARGINS + 2}), payload, protocol)

    def test_a_response_without_one_of_them(self, protocol, payload):
        one = {"scores": SCORES, "other": MARGINS} if protocol is not client_codecs.GRAPHPIPE else {"scores": SCORES}
        with pytest.raises(WrongResponse, match=r"output.* missing"):
            check(*respond(protocol, one), payload, protocol)

    def test_outputs_that_hold_nothing_are_right_in_any_protocol(self, protocol):
        """JSON's lists do not tell the sizes after a 0."""
        outputs = {"scores": SCORES[:2], "found": np.zeros((2, 0, 4), np.float32)}
        payload = encode(model_of(outputs), protocol, batch=2)[0]
        assert check(*respond(protocol, outputs), payload, protocol) < 1e-7
        found = {"scores": SCORES[:2], "found": np.zeros((2, 1, 4), np.float32)}
        with pytest.raises(WrongResponse, match=r"^output 'found' has another shape than"):
            check(*respond(protocol, found), payload, protocol)

    def test_large_integers_are_compared_exactly(self, protocol):
        ids = np.array([2**60 + 1, 5])
        payload = encode(model_of({"ids": ids}, {"ids": Tolerance(0, 0)}), protocol, batch=2)[0]
        assert check(*respond(protocol, {"ids": ids}), payload, protocol) == 0
        with pytest.raises(WrongResponse, match="'ids'"):
            check(*respond(protocol, {"ids": ids - 1}), payload, protocol)

    def test_text(self, protocol):
        labels = np.array(["one", "zwölf"])
        payload = encode(model_of({"labels": labels}), protocol, batch=2)[0]
        encoded = np.array([label.encode() for label in labels], object)
        assert check(*respond(protocol, {"labels": encoded}), payload, protocol) == 0
        with pytest.raises(WrongResponse, match="'labels' differs"):
            check(*respond(protocol, {"labels": encoded[::-1]}), payload, protocol)
        with pytest.raises(WrongResponse, match="'labels' is not text"):
            check(*respond(protocol, {"labels": np.zeros(2, np.float32)}), payload, protocol)

    def test_calls_of_any_rank(self, protocol):
        """A scalar and a vector, whose length is not the input's; REST has them in columns."""
        call = Golden({"x": np.zeros((3, 1), np.float32)}, {"loss": np.float32(2), "found": np.float32([1, 2])})
        model = Model("m", ("x",), dict.fromkeys(call.outputs, Tolerance(1e-5, 0)), Golden({}, {}, (call,)))
        (payload,) = encode(model, protocol, batch=1)
        assert protocol is not client_codecs.TFS or "inputs" in json.loads(payload.body)
        assert check(*respond(protocol, call.outputs, row=False), payload, protocol) == 0
        with pytest.raises(WrongResponse, match=r"^output 'loss' differs"):
            check(*respond(protocol, call.outputs | {"loss": np.float32(3)}, row=False), payload, protocol)

    def test_the_first_response_is_the_reference_for_all_of_its_outputs(self, protocol):
        payload = encode(Model("m", ("x",), {}, Golden({"x": SCORES}, {}), reference="first"), protocol, batch=4)[0]
        outputs = {"a": SCORES, "loss": MARGINS[0]}
        assert check(*respond(protocol, outputs, row=False), payload, protocol) == 0
        near, far = outputs | {"a": SCORES + np.float32(1e-5)}, outputs | {"loss": MARGINS[0] + 1}
        assert check(*respond(protocol, near, row=False), payload, protocol) > 0
        with pytest.raises(WrongResponse, match=r"^output '(loss|1)' differs from the first response's"):
            check(*respond(protocol, far, row=False), payload, protocol)

    def test_a_request_as_a_message_and_back(self, protocol):
        outputs = {"scores": SCORES, "ids": np.array([2**60 + 1, 2, 3, 4]), "labels": np.array(["a", "b", "ü", ""])}
        payload = encode(model_of(outputs), protocol, batch=4)[0]
        again = Payload.from_message(msgpack.unpackb(msgpack.packb(payload.to_message()), strict_map_key=False))
        assert (again.outputs, len(again.expected)) == (("scores", "ids", "labels"), 3)
        for one, other in zip(again.expected, payload.expected, strict=True):
            assert (one.name, one.tolerance, one.kinds) == (other.name, other.tolerance, other.kinds)
            assert one.values.dtype == other.values.dtype
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.allowed, other.allowed)


def test_protocols_are_asked_for_what_they_can_carry():
    """GraphPipe has no booleans, and from_png returns the first output."""
    pixels = np.zeros((2, 4, 4, 1), np.float32)
    model = model_of({"found": np.array([True, False]), "scores": SCORES[:2]})
    images = dataclasses.replace(model, inputs=("x",), examples=Golden({"x": pixels}, model.examples.outputs))
    names = {p: [one.name for one in encode(images, p, 1)[0].expected] for p in (*PROTOCOLS, client_codecs.PNG)}
    assert names[client_codecs.GRAPHPIPE] == ["scores"]
    assert names[client_codecs.PNG] == ["found"]
    assert names[client_codecs.TFS] == names[client_codecs.OIP] == ["found", "scores"]
    body = encode(images, client_codecs.GRAPHPIPE, 1)[0].body
    assert graphpipe.read_request(body).outputs == ["scores"]
    assert client_codecs.GRAPHPIPE.carried({"a": "bool", "b": "bool"}) == ["a"], "the server says what is wrong"
    assert client_codecs.GRAPHPIPE.carried({}) == []


def test_large_expected_outputs_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(payloads, "MAX_BYTES", 100_000)
    masks = np.zeros((16, 1000), np.float32)
    assert 1 <= len(encode(model_of({"masks": masks}), client_codecs.TFS, batch=1)) < 16


def test_any_output_makes_requests_discriminative():
    alike = np.ones((4, 2), np.float32)
    assert not discriminative(encode(model_of({"a": alike, "b": alike}), client_codecs.TFS, batch=1))
    assert discriminative(encode(model_of({"a": alike, "b": SCORES}), client_codecs.TFS, batch=1))


def test_a_version_lacks_the_tolerance_or_examples_of_an_output(tmp_path):
    outputs = tuple(Tensor(name, "float32", (None, 3)) for name in ("boxes", "scores"))
    metadata = ArtifactMetadata("onnx", "m", outputs=outputs, tolerances={"boxes": Tolerance(0, 0)})
    golden.write(tmp_path / golden.GOLDEN, Golden({"x": SCORES}, {"boxes": SCORES, "scores": SCORES}))
    artifact_metadata.write(tmp_path, metadata)
    with pytest.raises(MetadataError, match="no tolerance for scores"):
        read_model(tmp_path)
    golden.write(tmp_path / golden.GOLDEN, Golden({"x": SCORES}, {"boxes": SCORES}))
    with pytest.raises(MetadataError, match="no golden examples of the model's outputs"):
        read_model(tmp_path)


def test_a_classifier_s_default_signature_has_the_scores_alone(repository):
    assert list(read_model(model_repository.path(repository, "toy", 1)).outputs) == ["scores"]


def test_verify_names_the_output_and_the_reference(server, two):
    source = model_repository.path(two, "toy", 1)
    assert problems(verify(server.url, source, CONFIG)) == []
    server.fault = "off"
    server.every = 2
    results = verify(server.url, source, CONFIG, ["tfs", "graphpipe", "oip-binary"])
    found = problems(results)
    for title in ("REST", "GraphPipe", "OIP v2 binary"):
        sentence = f"{title}: wrong response: output 'margins' differs from ONNX Runtime's by more than the tolerance"
        assert any(line.startswith(sentence) for line in found), found
    assert not any("scores" in line for line in found)
    assert formatting.describe_references(results) == [
        "Every response was compared with ONNX Runtime's recorded outputs for the same input."
    ]
    assert "PyTorch" not in report.load_page("two", results, [])


def test_the_load_stage_compares_and_reports_each_output(server, two, tmp_path, capsys):
    server.fault = "off"
    config = {"duration_s": 1, "users": 2, "protocols": ["tfs"]}
    next(server.counter)  # the first inference is always correct
    load(server.url, two, "toy", 1, tmp_path / "evidence", **config)
    assert "wrong: 16 of 'margins', max |Δ| 0.001" in capsys.readouterr().out
    (served,) = json.loads((tmp_path / "evidence" / "load.json").read_text())["served"]
    assert [(row["name"], row["wrong"]) for row in served["outputs"]] == [("scores", 0), ("margins", 16)]
    assert (served["wrong"], served["max_abs"]) == (16, pytest.approx(0.001, rel=0.05))
    page = (tmp_path / "evidence" / "report.html").read_text()
    assert "Served parity with ONNX Runtime" in page
    assert "PyTorch" not in page
    with pytest.raises(Refused, match="responses differed from ONNX Runtime's by more"):
        promote(two, "toy", 1, tmp_path / "evidence")


def test_served_parity_counts_the_labels_of_the_first_output(server, two):
    examples = read_model(model_repository.path(two, "toy", 1)).examples
    classes = examples.outputs["scores"].argmax(axis=1)
    tolerances = model_repository.read_metadata(two, "toy", 1).tolerances
    row = served_parity(server.url, "toy", 1, examples.inputs, examples.outputs, classes, tolerances, "oip", batch=5)
    assert (row.accuracy, row.wrong, [one.name for one in row.outputs]) == (1, 0, ["scores", "margins"])


def test_deploy_compares_each_output(server, two):
    assert len(deploy(server.url, two, "toy", 1)) == 4
    server.fault = "off"
    with pytest.raises(Refused, match=r"over REST whose output 'margins' differs from ONNX Runtime's \(max"):
        deploy(server.url, two, "toy", 1)


def test_a_response_without_an_output_is_an_error_that_names_it(server, two):
    examples = read_model(model_repository.path(two, "toy", 1)).examples
    with Client(server.url) as client:
        outputs, _ = client.predict_outputs(client_codecs.TFS, "toy", examples.inputs, ["scores", "margins"])
        np.testing.assert_allclose(outputs["margins"], examples.outputs["margins"], rtol=1e-6)
        with pytest.raises(Unavailable, match="the REST response has no output boxes"):
            client.predict_outputs(client_codecs.TFS, "toy", examples.inputs, ["scores", "boxes"])


def test_no_warning_of_infinities_reaches_the_user():
    scores = np.float32([[np.inf, 1]])
    one = expected.expect("scores", scores, Tolerance(0, 0))
    assert not expected.differs(one, one)
