"""What is read the short way must be what would be read the long way, whatever was read before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.artifacts.card import Tensor
from seaway.errors import SeawayError
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import Asked, Call, Served, Signature
from seaway.serve.worker.readings import MOST, MOST_ALIKE, Readings

X, TEXT, Y = Tensor("x", "float32", (None, None)), Tensor("text", "str", (None,)), Tensor("y", "float32", (None, 2))
SERVED = Served("m", 1, "m/1@0", {"serving_default": Signature((X,), (Y,)), "text": Signature((TEXT,), (Y,))})
NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def asked_graphpipe(array, outputs=("y",), config=""):
    return Asked("infer", graphpipe.write_infer_request([("x", array)], outputs, config))


def asked_oip(array, id_=""):
    body, headers = oip.write_infer_request({"x": array}, ["y"], binary=True, id=id_)
    return Asked("infer", body, {oip.HEADER_LENGTH: headers["Inference-Header-Content-Length"]})


MADE = [(graphpipe, asked_graphpipe), (oip, asked_oip)]


class Counted:
    """A protocol's `read` that counts its calls."""

    def __init__(self, protocol):
        self.read, self.calls = protocol.read, 0

    def __call__(self, asked, served):
        self.calls += 1
        return self.read(asked, served)


def same(call, other):
    assert (call.signature, call.outputs, call.form) == (other.signature, other.outputs, other.form)
    assert call.inputs.keys() == other.inputs.keys()
    for name, array in call.inputs.items():
        assert (array.dtype, array.shape) == (other.inputs[name].dtype, other.inputs[name].shape)
        assert array.tobytes() == other.inputs[name].tobytes()


@pytest.mark.parametrize(("protocol", "make"), MADE)
def test_requests_of_a_kind_are_taken_apart_once(protocol, make):
    readings, read = Readings(), Counted(protocol)
    for i in range(5):
        asked = make(NUMBERS * i + 0.5)
        same(readings.read(read, asked, SERVED), protocol.read(asked, SERVED))
    assert read.calls == 2  # and the second is the proof that the first may stand for others


@pytest.mark.parametrize(("protocol", "make"), MADE)
def test_another_shape_of_the_same_length_is_another_request(protocol, make):
    readings = Readings()
    for array in (NUMBERS, NUMBERS.reshape(3, 2), NUMBERS.reshape(1, 6), NUMBERS.view(np.int32).view(np.float32)):
        asked = make(array)
        same(readings.read(protocol.read, asked, SERVED), protocol.read(asked, SERVED))


def test_a_client_with_ever_new_ids_is_not_kept_for_ever():
    readings, read = Readings(), Counted(oip)
    for i in range(10, 60):
        assert readings.read(read, asked_oip(NUMBERS, f"id{i}"), SERVED).form.id == f"id{i}"
    assert read.calls == 50 + MOST_ALIKE
    for rows in range(1, 2 * MOST):
        readings.read(read, asked_oip(np.zeros((rows, 3), np.float32)), SERVED)
    assert len(readings._kept) == MOST


def test_what_is_no_call_or_has_no_bytes_of_its_own_is_read_each_time():
    readings = Readings()
    text = Asked("infer", graphpipe.write_infer_request([("text", np.array([b"a"], object))]))
    json = Asked("predict", b'{"instances": [[1, 2, 3]]}')
    metadata = Asked("infer", graphpipe.write_metadata_request())
    for protocol, asked in ((graphpipe, text), (tfserving, json), (graphpipe, metadata)):
        for _ in range(2):
            assert readings.read(protocol.read, asked, SERVED) is not None
    with pytest.raises(SeawayError):
        readings.read(graphpipe.read, Asked("infer", b"nonsense"), SERVED)
    assert not readings._kept


def test_a_message_whose_structure_lies_in_its_numbers_is_not_kept():
    """The request's type is moved into the tensor's bytes, where another request has another number."""
    body = bytearray(asked_graphpipe(np.full((2, 3), np.float32(2.3694278e-38))).body)  # bytes 01 01 01 01
    at = bytes(body).index(b"\1\1\1\1" * 6)
    root = int.from_bytes(body[:4], "little")
    vtable = root - int.from_bytes(body[root : root + 4], "little", signed=True)
    body[vtable + 4 : vtable + 6] = (at - root).to_bytes(2, "little")
    asked = Asked("infer", bytes(body))
    readings = Readings()
    assert isinstance(readings.read(graphpipe.read, asked, SERVED), Call)
    assert not readings._kept
    body[at] = graphpipe.METADATA
    answered = readings.read(graphpipe.read, Asked("infer", bytes(body)), SERVED)
    assert answered.status == 200


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MADE), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4))
def test_changed_bodies_are_read_as_without_what_was_read_before(made, changes):
    protocol, make = made
    readings = Readings()
    whole = make(NUMBERS)
    readings.read(protocol.read, whole, SERVED)
    body = bytearray(whole.body)
    for at, value in changes:
        body[at % len(body)] = value
    asked = Asked("infer", bytes(body), whole.headers)
    try:
        expected = protocol.read(asked, SERVED)
    except SeawayError as error:
        with pytest.raises(type(error)) as raised:
            readings.read(protocol.read, asked, SERVED)
        assert str(raised.value) == str(error)
        return
    got = readings.read(protocol.read, asked, SERVED)
    if isinstance(expected, Call):
        same(got, expected)
    else:
        assert got == expected
