"""The parse cache must return what parsing returns, whatever it has parsed before."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import SeawayError
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import Call, ModelVersionInfo, RawRequest, Signature
from seaway.serve.worker.parse_cache import MAX_BODY_SIZES, MAX_ENTRIES_PER_SIZE, ParseCache

X, TEXT, Y = Tensor("x", "float32", (None, None)), Tensor("text", "str", (None,)), Tensor("y", "float32", (None, 2))
MODEL = ModelVersionInfo("m", 1, "m/1@0", {"serving_default": Signature((X,), (Y,)), "text": Signature((TEXT,), (Y,))})
NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def graphpipe_request(array, outputs=("y",), config=""):
    return RawRequest("infer", graphpipe.write_infer_request([("x", array)], outputs, config))


def oip_request(array, id_=""):
    body, headers = oip.write_infer_request({"x": array}, ["y"], binary=True, id=id_)
    return RawRequest("infer", body, {oip.HEADER_LENGTH: headers["Inference-Header-Content-Length"]})


PROTOCOLS = [(graphpipe, graphpipe_request), (oip, oip_request)]


class CountingParser:
    """A protocol's `read`, counting its calls."""

    def __init__(self, protocol):
        self.read, self.calls = protocol.read, 0

    def __call__(self, request, model):
        self.calls += 1
        return self.read(request, model)


def assert_same(call, other):
    assert (call.signature, call.outputs, call.response_format) == (
        other.signature,
        other.outputs,
        other.response_format,
    )
    assert call.inputs.keys() == other.inputs.keys()
    for name, array in call.inputs.items():
        assert (array.dtype, array.shape) == (other.inputs[name].dtype, other.inputs[name].shape)
        assert array.tobytes() == other.inputs[name].tobytes()


@pytest.mark.parametrize(("protocol", "make"), PROTOCOLS)
def test_similar_requests_are_parsed_once(protocol, make):
    cache, read = ParseCache(), CountingParser(protocol)
    for i in range(5):
        request = make(NUMBERS * i + 0.5)
        assert_same(cache.parse(read, request, MODEL), protocol.read(request, MODEL))
    assert read.calls == 2  # the second proves that the first one can be cached


@pytest.mark.parametrize(("protocol", "make"), PROTOCOLS)
def test_another_shape_of_the_same_length_is_another_request(protocol, make):
    cache = ParseCache()
    for array in (NUMBERS, NUMBERS.reshape(3, 2), NUMBERS.reshape(1, 6), NUMBERS.view(np.int32).view(np.float32)):
        request = make(array)
        assert_same(cache.parse(protocol.read, request, MODEL), protocol.read(request, MODEL))


def test_the_cache_is_bounded_for_clients_with_a_new_id_in_each_request():
    cache, read = ParseCache(), CountingParser(oip)
    for i in range(10, 60):
        assert cache.parse(read, oip_request(NUMBERS, f"id{i}"), MODEL).response_format.id == f"id{i}"
    assert read.calls == 50 + MAX_ENTRIES_PER_SIZE
    for rows in range(1, 2 * MAX_BODY_SIZES):
        cache.parse(read, oip_request(np.zeros((rows, 3), np.float32)), MODEL)
    assert len(cache._entries) == MAX_BODY_SIZES


def test_requests_without_a_binary_tensor_are_not_cached():
    cache = ParseCache()
    text = RawRequest("infer", graphpipe.write_infer_request([("text", np.array([b"a"], object))]))
    json = RawRequest("predict", b'{"instances": [[1, 2, 3]]}')
    metadata = RawRequest("infer", graphpipe.write_metadata_request())
    for protocol, request in ((graphpipe, text), (tfserving, json), (graphpipe, metadata)):
        for _ in range(2):
            assert cache.parse(protocol.read, request, MODEL) is not None
    with pytest.raises(SeawayError):
        cache.parse(graphpipe.read, RawRequest("infer", b"nonsense"), MODEL)
    assert not cache._entries


def test_a_message_whose_structure_overlaps_its_numbers_is_not_cached():
    """The request's type is moved into the tensor's bytes, where another request has another number."""
    body = bytearray(graphpipe_request(np.full((2, 3), np.float32(2.3694278e-38))).body)  # bytes 01 01 01 01
    offset = bytes(body).index(b"\1\1\1\1" * 6)
    root = int.from_bytes(body[:4], "little")
    vtable = root - int.from_bytes(body[root : root + 4], "little", signed=True)
    body[vtable + 4 : vtable + 6] = (offset - root).to_bytes(2, "little")
    request = RawRequest("infer", bytes(body))
    cache = ParseCache()
    assert isinstance(cache.parse(graphpipe.read, request, MODEL), Call)
    assert not cache._entries
    body[offset] = graphpipe.METADATA
    reply = cache.parse(graphpipe.read, RawRequest("infer", bytes(body)), MODEL)
    assert reply.status == 200


def test_a_large_body_is_cached_quickly():
    cache, request = ParseCache(), graphpipe_request(np.zeros((4 << 20, 2), np.float32))
    began = time.process_time()
    cache.parse(graphpipe.read, request, MODEL)
    assert time.process_time() - began < 0.5  # one step of Python per byte takes twice that
    assert cache._entries


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PROTOCOLS), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4))
def test_changed_bodies_are_parsed_as_without_the_cache(case, changes):
    protocol, make = case
    cache = ParseCache()
    whole = make(NUMBERS)
    cache.parse(protocol.read, whole, MODEL)
    body = bytearray(whole.body)
    for offset, value in changes:
        body[offset % len(body)] = value
    request = RawRequest("infer", bytes(body), whole.headers)
    try:
        expected = protocol.read(request, MODEL)
    except SeawayError as error:
        with pytest.raises(type(error)) as raised:
            cache.parse(protocol.read, request, MODEL)
        assert str(raised.value) == str(error)
        return
    actual = cache.parse(protocol.read, request, MODEL)
    if isinstance(expected, Call):
        assert_same(actual, expected)
    else:
        assert actual == expected
