"""TensorFlow Serving's warm-up requests, replayed from a file that its own API and TensorFlow's writer made."""

import random
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, ModelError
from seaway.protocols.calls import ModelVersionInfo, Signature
from seaway.serve.worker import warmup

# Written with tensorflow-serving-api 2.21 and tf.io.TFRecordWriter: predict with an output filter; predict with a log
# of the response; classify; regress with a context; multi-inference with the log's metadata
RECORDED = (Path(__file__).parents[2] / "fixtures" / "tf_serving_warmup_requests").read_bytes()


FLOATS, EXAMPLES = Tensor("x", "float32", (None,)), Tensor("inputs", "str", (None,))
HALF = ModelVersionInfo(
    *("half", 1, "half/1@0"),
    {
        "serving_default": Signature((FLOATS,), (Tensor("y", "float32", (None,)),)),
        "twice": Signature((FLOATS,), (Tensor("double", "float32", (None,)),)),
        "regress_x_to_y": Signature((EXAMPLES,), (Tensor("outputs", "float32", (None, 1)),)),
        "classify_x_to_y": Signature((EXAMPLES,), (Tensor("scores", "float32", (None, 1)),)),
        "broken": Signature((), ()),
    },
)


class Recording:
    """A backend that keeps its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, list], list[str] | None]] = []

    def predict(self, signature: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None) -> dict:
        if signature == "broken":
            raise InvalidInput("it does not run")
        self.calls.append((signature, {name: array.reshape(-1).tolist() for name, array in inputs.items()}, outputs))
        return {}


def replay(tmp_path, content: bytes, iterations: int = 1) -> tuple[int, Recording]:
    extra = tmp_path / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / warmup.FILE).write_bytes(content)
    backend = Recording()
    return warmup.replay(tmp_path, backend, HALF, iterations), backend


def records(*contents: bytes) -> bytes:
    """A TFRecord file whose data has no valid checksum, which is not read."""
    heads = [len(content).to_bytes(8, "little") for content in contents]
    checked = [head + warmup._masked_crc32c(head).to_bytes(4, "little") for head in heads]
    return b"".join(head + content + b"\0\0\0\0" for head, content in zip(checked, contents, strict=True))


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def test_each_kind_of_request_is_replayed(tmp_path):
    count, backend = replay(tmp_path, RECORDED)
    assert count == 5
    assert [(signature, sorted(inputs), outputs) for signature, inputs, outputs in backend.calls] == [
        ("twice", ["x"], ["double"]),
        ("serving_default", ["x"], None),
        ("classify_x_to_y", ["inputs"], ["scores"]),
        ("regress_x_to_y", ["inputs"], ["outputs"]),
        ("regress_x_to_y", ["inputs"], ["outputs"]),
        ("classify_x_to_y", ["inputs"], ["scores"]),
    ]
    with_context = backend.calls[3][1]["inputs"]
    assert [len(example) for example in with_context] == [34, 17]  # the context, then the example's own features


def test_requests_are_replayed_several_times_or_not_at_all(tmp_path):
    assert len(replay(tmp_path, RECORDED, iterations=3)[1].calls) == 3 * 6
    assert replay(tmp_path, RECORDED, iterations=0)[1].calls == []
    assert warmup.replay(tmp_path / "other", Recording(), HALF) == 0  # there is no file


def test_an_empty_file_and_a_log_without_a_request(tmp_path):
    assert replay(tmp_path, b"")[0] == 0
    count, backend = replay(tmp_path, records(field(6, b""), b""))
    assert (count, backend.calls) == (2, [])


@pytest.mark.parametrize(
    "content, said",
    [
        (b"not a TFRecord file", "warm-up request 1: not a TFRecord file"),
        (RECORDED[:5], "not a TFRecord file, or a damaged one"),
        (RECORDED[:-3], "warm-up request 5: the file is truncated"),
        (records(b"\xff\xff\xff"), "warm-up request 1: the message is cut off inside a number"),
        (records(field(6, b"\x0a\x7f")), "the message is cut off: field 1 needs 127 bytes"),  # longer than its message
        (records(b"\x33"), "field 6 has wire type 3"),  # a group, which proto3 does not have
        (records(b"\x08" + b"\xff" * 20), "more than 10 bytes"),  # an endless number
        (records(field(5, b"")), "session_run_log"),
        (records(field(7, b"")), "predict_streamed_log"),
        (records(field(6, field(1, field(1, field(3, b"\xff"))))), "the signature's name is not UTF-8"),
        (
            records(field(6, b""), field(6, field(1, field(1, field(3, b"missing"))))),
            "request 2: Serving signature key",
        ),
        (records(field(6, field(1, field(1, field(3, b"broken"))))), "request 1: it does not run"),
        (records(*[b""] * 1001), "warm-up request 1001: more than 1000 requests"),
    ],
)
def test_a_damaged_file_or_a_request_that_fails_is_named(tmp_path, content, said):
    with pytest.raises(ModelError, match=said) as error:
        replay(tmp_path, content)
    assert str(error.value).startswith(str(tmp_path / "assets.extra" / warmup.FILE))


def test_as_many_records_as_tensorflow_serving_takes(tmp_path):
    assert replay(tmp_path, records(*[b""] * 1000))[0] == 1000


def test_damaged_records_are_replayed_or_refused(tmp_path):
    random.seed(23)
    replayed = 0
    for _ in range(2000):
        damaged = bytearray(RECORDED)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        try:
            replay(tmp_path, bytes(damaged))
            replayed += 1
        except ModelError as error:
            assert "warm-up request" in str(error)
    assert 0 < replayed < 2000
