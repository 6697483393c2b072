import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.card import Tensor
from seaway.errors import InvalidInput, SeawayError, Unsupported
from seaway.protocols import graphpipe
from seaway.protocols.graphpipe import InferRequest, Metadata, MetadataRequest
from seaway.protocols.tensors import strings

NUMBERS = [name for name in graphpipe.TYPES if name != "str"]
WORDS = strings([b"", b"a\0b", b"\xff\xfe", "ü€".encode()], (2, 2))
METADATA = Metadata(
    "characters",
    "3",
    "seaway",
    "what it does",
    (Tensor("image", "float32", (None, 28, 28, 1)),),
    (Tensor("label", "str", (None,)),),
)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()


def infer_request_of_graphpipe_py() -> bytes:
    """float32 [[1, 2]], no names, no config, laid out as graphpipe-py on flatbuffers 25 does it, padding as zeros."""
    body = bytearray(144)
    struct.pack_into("<I", body, 0x00, 0x10)
    struct.pack_into("<4H", body, 0x08, 8, 12, 11, 4)
    struct.pack_into("<iI", body, 0x10, 8, 0x14)
    body[0x10 + 11] = 1
    struct.pack_into("<6H", body, 0x1C, 12, 20, 16, 8, 12, 4)
    struct.pack_into("<i4I", body, 0x28, 0x0C, 0x3C - 0x2C, 0x40 - 0x30, 0x44 - 0x34, 0x88 - 0x38)
    struct.pack_into("<II", body, 0x44, 1, 0x58 - 0x48)
    struct.pack_into("<5H", body, 0x4E, 10, 16, 11, 12, 4)
    struct.pack_into("<iI", body, 0x58, 0x0A, 0x68 - 0x5C)
    body[0x58 + 11] = 0x0A
    struct.pack_into("<I", body, 0x64, 0x74 - 0x64)
    struct.pack_into("<I2f", body, 0x68, 8, 1, 2)
    struct.pack_into("<Iqq", body, 0x74, 2, 1, 2)
    return bytes(body)


METADATA_REQUEST_OF_GRAPHPIPE_PY = bytes.fromhex("0c00000008000c000b000400080000000c000000000000020400040004000000")


def test_what_graphpipe_py_sends():
    request = graphpipe.read_request(infer_request_of_graphpipe_py())
    assert isinstance(request, InferRequest)
    [(name, array)] = request.inputs
    assert (name, request.outputs, request.config) == ("", [], "")
    assert same(array, np.array([[1, 2]], np.float32))
    assert graphpipe.read_request(METADATA_REQUEST_OF_GRAPHPIPE_PY) == MetadataRequest()


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 2, 1, 2)])
def test_numbers_both_ways(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    request = graphpipe.read_request(graphpipe.write_infer_request({"x": array}))
    assert same(request.inputs[0][1], array)
    [answer] = graphpipe.read_infer_response(graphpipe.write_infer_response([array]))
    assert same(answer, array)


def test_strings_both_ways():
    request = graphpipe.read_request(graphpipe.write_infer_request([("", WORDS)]))
    assert same(request.inputs[0][1], WORDS)
    text = np.array(["ü€", "a"])
    [answer] = graphpipe.read_infer_response(graphpipe.write_infer_response([text]))
    assert answer.tolist() == ["ü€".encode(), b"a"]


def test_names_outputs_and_config_travel():
    arrays = {"a": np.float32([1]), "b": np.int64([[2]])}
    request = graphpipe.read_request(graphpipe.write_infer_request(arrays, ["y", "z"], '{"signature_name": "s"}'))
    assert [name for name, _ in request.inputs] == ["a", "b"]
    assert request.outputs == ["y", "z"]
    assert json.loads(request.config) == {"signature_name": "s"}


def test_missing_trailing_names_are_empty():
    pairs = [("a", np.float32([1])), ("", np.float32([2]))]
    assert [name for name, _ in graphpipe.read_request(graphpipe.write_infer_request(pairs)).inputs] == ["a", ""]


def test_big_endian_and_strided_arrays_travel_by_value():
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    [answer] = graphpipe.read_infer_response(graphpipe.write_infer_response([array]))
    assert answer.tolist() == array.tolist()


def test_data_is_aligned_for_vector_units():
    body = graphpipe.write_infer_request({"x": np.full(8, 7.0, np.float64)})
    assert body.index(np.float64(7).tobytes() * 8) % 16 == 0


def test_metadata_both_ways():
    assert graphpipe.read_request(graphpipe.write_metadata_request()) == MetadataRequest()
    assert graphpipe.read_metadata_response(graphpipe.write_metadata_response(METADATA)) == METADATA


def test_metadata_as_json_has_the_go_servers_names():
    document = json.loads(graphpipe.metadata_json(METADATA))
    assert list(document) == ["Name", "Version", "Server", "Description", "Inputs", "Outputs"]
    assert document["Inputs"] == [{"Name": "image", "Description": "", "Shape": [-1, 28, 28, 1], "Type": 10}]


def test_errors_in_an_answer_are_raised():
    with pytest.raises(InvalidInput, match="no such output"):
        graphpipe.read_infer_response(graphpipe.write_errors("no such output", 4))


def test_types_that_graphpipe_has_not():
    with pytest.raises(Unsupported, match="bool"):
        graphpipe.write_infer_request({"x": np.array([True])})


def changed(body: bytes, old: bytes, new: bytes) -> bytes:
    assert body.count(old) == 1
    return body.replace(old, new)


BODY = graphpipe.write_infer_request({"x": np.full((3, 5), 7, np.int16)}, ["y"])
SHAPE = struct.pack("<qq", 3, 5)


@pytest.mark.parametrize(
    "sizes, said", [((3, 6), "30 came"), ((-3, -5), "negative"), ((2**62, 4), "30 came"), ((0, 2**62), "30 came")]
)
def test_a_shape_that_is_not_the_datas(sizes, said):
    with pytest.raises(InvalidInput, match=f"input 0.*{said}"):
        graphpipe.read_request(changed(BODY, SHAPE, struct.pack("<qq", *sizes)))


def test_an_empty_tensor_of_impossible_shape():
    body = graphpipe.write_infer_request({"x": np.zeros((0, 5), np.int16)})
    with pytest.raises(InvalidInput):
        graphpipe.read_request(changed(body, struct.pack("<qq", 0, 5), struct.pack("<qq", 0, 2**62)))


def test_a_shape_of_too_many_dimensions():
    body = graphpipe.write_infer_request({"x": np.zeros((1,) * 33, np.int8)})
    with pytest.raises(InvalidInput, match="33 dimensions"):
        graphpipe.read_request(body)


READERS = [graphpipe.read_request, graphpipe.read_infer_response, graphpipe.read_metadata_response]
MESSAGES = [
    graphpipe.write_infer_request({"x": np.arange(6, dtype=np.float32), "s": WORDS}, ["y"], "{}"),
    graphpipe.write_infer_response([np.arange(6), WORDS]),
    graphpipe.write_metadata_response(METADATA),
    graphpipe.write_metadata_request(),
    graphpipe.write_errors("wrong"),
    infer_request_of_graphpipe_py(),
]


@pytest.mark.parametrize("body", MESSAGES)
@pytest.mark.parametrize("read", READERS)
def test_every_truncation_is_refused_or_read(read, body):
    for end in range(len(body)):
        try:
            read(body[:end])
        except SeawayError:
            continue


@settings(deadline=None)
@given(
    st.sampled_from(MESSAGES), st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_changed_bytes_never_break_a_reader(body, changes):
    broken = bytearray(body)
    for at, value in changes:
        broken[at % len(broken)] = value
    for read in READERS:
        try:
            read(bytes(broken))
        except SeawayError:
            continue


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_never_breaks_a_reader(body):
    for read in READERS:
        try:
            read(body)
        except SeawayError:
            continue
