import contextlib
import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, NotFound, SeawayError, Unsupported
from seaway.protocols import graphpipe
from seaway.protocols.calls import BINARY, Call, ModelVersionInfo, RawRequest, Signature
from seaway.protocols.flatbuffer import Writer
from seaway.protocols.graphpipe import InferRequest, Metadata, MetadataRequest
from seaway.protocols.tensors import strings

NUMBERS = [name for name in graphpipe.CODE_BY_NAME if name != "str"]
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
    """float32 [[1, 2]], no names, no config, in the layout of graphpipe-py on flatbuffers 25, with zeros as padding."""
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


def test_requests_from_graphpipe_py():
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
    [output] = graphpipe.read_infer_response(graphpipe.write_infer_response([array]))
    assert same(output, array)


def test_strings_both_ways():
    request = graphpipe.read_request(graphpipe.write_infer_request([("", WORDS)]))
    assert same(request.inputs[0][1], WORDS)
    text = np.array(["ü€", "a"])
    [output] = graphpipe.read_infer_response(graphpipe.write_infer_response([text]))
    assert output.tolist() == ["ü€".encode(), b"a"]


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
    [output] = graphpipe.read_infer_response(graphpipe.write_infer_response([array]))
    assert output.tolist() == array.tolist()


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


def test_errors_in_a_response_are_raised():
    with pytest.raises(InvalidInput, match="no such output"):
        graphpipe.read_infer_response(graphpipe.write_errors("no such output", 4))


def test_types_that_graphpipe_lacks():
    with pytest.raises(Unsupported, match="bool"):
        graphpipe.write_infer_request({"x": np.array([True])})


def changed(body: bytes, old: bytes, new: bytes) -> bytes:
    assert body.count(old) == 1
    return body.replace(old, new)


BODY = graphpipe.write_infer_request({"x": np.full((3, 5), 7, np.int16)}, ["y"])
SHAPE = struct.pack("<qq", 3, 5)


@pytest.mark.parametrize(
    "sizes, message", [((3, 6), "got 30"), ((-3, -5), "negative"), ((2**62, 4), "got 30"), ((0, 2**62), "got 30")]
)
def test_a_shape_that_does_not_match_the_data(sizes, message):
    with pytest.raises(InvalidInput, match=f"input 0.*{message}"):
        graphpipe.read_request(changed(BODY, SHAPE, struct.pack("<qq", *sizes)))


def test_an_empty_tensor_of_impossible_shape():
    body = graphpipe.write_infer_request({"x": np.zeros((0, 5), np.int16)})
    with pytest.raises(InvalidInput):
        graphpipe.read_request(changed(body, struct.pack("<qq", 0, 5), struct.pack("<qq", 0, 2**62)))


def test_a_shape_of_too_many_dimensions():
    body = graphpipe.write_infer_request({"x": np.zeros((1,) * 33, np.int8)})
    with pytest.raises(InvalidInput, match="33 dimensions"):
        graphpipe.read_request(body)


# ---- server side

X, Y = Tensor("x", "float32", (None,)), Tensor("y", "float32", (None,))
A, B = Tensor("a", "float32", (None, 2)), Tensor("b", "str", (None,))
MODEL = ModelVersionInfo(
    "half",
    2,
    "half/2@abc",
    {
        "another": Signature((X,), (Tensor("double", "float32", (None,)), Y)),
        "serving_default": Signature((X,), (Y,)),
        "pair": Signature((A, B), (Tensor("sum", "float32", (None,)), Tensor("label", "str", (None,)))),
    },
)
ROWS, WORD = np.float32([[1, 2]]), strings([b"w"], (1,))


def read(inputs, outputs=(), config=""):
    return graphpipe.read(RawRequest("infer", graphpipe.write_infer_request(inputs, outputs, config)), MODEL)


@pytest.mark.parametrize(
    "inputs, outputs, config, signature, names",
    [
        ({"": np.float32([1])}, (), "", "serving_default", ["x"]),
        ({"x": np.float32([1])}, ["y"], " ", "serving_default", ["x"]),
        ({"x": np.float32([1])}, ["double"], "{}", "another", ["x"]),
        ({"x": np.float32([1])}, (), '{"signature_name": "another"}', "another", ["x"]),
        ([("", ROWS), ("", WORD)], (), "", "pair", ["a", "b"]),
        ([("b", WORD), ("a", ROWS)], ["label"], "", "pair", ["b", "a"]),
        ([("a", ROWS), ("", WORD)], (), "", "pair", ["a", "b"]),
    ],
)
def test_the_signature_that_a_request_calls(inputs, outputs, config, signature, names):
    call = read(inputs, outputs, config)
    assert isinstance(call, Call)
    assert (call.signature, list(call.inputs)) == (signature, names)
    assert call.outputs == (list(outputs) or None)


@pytest.mark.parametrize(
    "inputs, outputs, config, message",
    [
        (
            {"z": np.float32([1])},
            (),
            "",
            r"no signature of half/2 takes 1 inputs \['z'\].*serving_default\(x\) -> \(y\)",
        ),
        ({"x": np.float32([1])}, ["z"], "", r"returns \['z'\]"),
        ({"x": np.float32([1])}, (), '{"signature_name": "nope"}', "called 'nope'"),
        ({"x": np.float32([1])}, (), '{"signature_name": 1}', "not a string"),
        (
            {"x": np.float32([1])},
            (),
            '{"fast": 1, "signature_name": "another"}',
            r"\['fast'\]; known options: \['signature_name",
        ),
        ({"x": np.float32([1])}, (), "fast", "not a JSON object"),
        ({"x": np.float32([1])}, (), "[" * 100_000, "not a JSON object"),
        ([("x", np.float32([1])), ("x", np.float32([2]))], (), "", "takes 2 inputs"),
        ([("a", ROWS), ("a", ROWS)], (), "", "sent twice"),
        ([("b", WORDS), ("", ROWS)], (), "", "sent twice"),
        ({"x": np.float64([1])}, (), "", "'x' is float64, but serving_default of half/2 takes float32"),
        ({"x": WORDS}, (), "", "'x' is str"),
        ([], (), "", "takes 0 inputs"),
        ({"x": np.float32([[1]])}, (), "", r'input "x": expected \[-1\], got \[1, 1\]'),
        ([("a", np.zeros((1, 0), np.float32)), ("", WORD)], (), "", r'input "a": expected \[-1, 2\], got \[1, 0\]'),
    ],
)
def test_requests_that_match_no_signature(inputs, outputs, config, message):
    with pytest.raises(InvalidInput, match=message):
        read(inputs, outputs, config)


def test_outputs_come_in_the_requested_order():
    values = {"y": np.float32([1]), "double": np.float32([2])}
    for requested, expected in (((), [2, 1]), (["y", "double"], [1, 2]), (["y", "y"], [1, 1])):
        call = read({"x": np.float32([1])}, requested, '{"signature_name": "another"}')
        assert call.outputs == (list(dict.fromkeys(requested)) or None)
        reply = graphpipe.write(call, values, MODEL)
        assert (reply.status, reply.type) == (200, BINARY)
        assert [float(a[0]) for a in graphpipe.read_infer_response(b"".join(reply.body))] == expected


def test_large_tensors_are_not_copied():
    array = np.zeros(100_000, np.float32)
    reply = graphpipe.write(read({"": np.float32([1])}), {"y": array}, MODEL)
    assert any(np.shares_memory(np.frombuffer(piece, np.uint8), array) for piece in reply.body)


def test_a_metadata_request_needs_no_call():
    reply = graphpipe.read(RawRequest("infer", graphpipe.write_metadata_request()), MODEL)
    metadata = graphpipe.read_metadata_response(reply.body)
    assert metadata == graphpipe.metadata(MODEL)
    assert (metadata.name, metadata.version, metadata.inputs, metadata.outputs) == ("half", "2", (X,), (Y,))
    assert metadata.description == "half/2@abc, signature serving_default"


def test_an_error_is_plain_text():
    reply = graphpipe.error(NotFound("no model \udcff"))
    assert (reply.status, reply.body, reply.type) == (404, b"no model ?\n", "text/plain; charset=utf-8")
    assert reply.headers == {"X-Content-Type-Options": "nosniff"}


# ---- PyPI's graphpipe 1.0.4, in its own environment, because of its pins


@pytest.fixture(scope="module")
def graphpipe_py(tmp_path_factory) -> Path:
    """Python of an environment with it."""
    folder = tmp_path_factory.mktemp("graphpipe_py")
    uv, interpreter = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True, timeout=60)
    packages = ["graphpipe==1.0.4", "flatbuffers==25.12.19", "numpy==2.4.6"]
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", interpreter, *packages]
    done = subprocess.run(install, capture_output=True, text=True, timeout=240)
    if done.returncode:
        pytest.skip(f"PyPI's graphpipe cannot be installed here: {done.stderr[-300:]}")
    return interpreter


PROGRAM = r"""
import pathlib, sys
import numpy as np
from graphpipe import convert

out = pathlib.Path(sys.argv[1])
for path in out.glob("*.npy"):
    request = convert.InferReq("{}", [np.load(path)], ["x"], ["y"])
    path.with_suffix(".request").write_bytes(convert.serialize_infer_request(request))
    [ours], errors = convert.deserialize_infer_response(path.with_suffix(".response").read_bytes())
    assert not errors
    assert ours.dtype == np.load(path).dtype and ours.shape == np.load(path).shape, path
    assert ours.tobytes() == np.load(path).tobytes(), path
    again = convert.deserialize_request(path.with_suffix(".ours").read_bytes())
    assert (again.config, again.input_names, again.output_names) == (b"{}", [b"x"], [b"y"]), again
    assert again.input_tensors[0].tobytes() == np.load(path).tobytes(), path
[words], errors = convert.deserialize_infer_response((out / "words.response").read_bytes())
assert words.tolist() == [[b"a", b"\xff"]], words
(out / "words.request").write_bytes(convert.serialize_infer_request(convert.InferReq(None, [words])))
(out / "metadata.request").write_bytes(convert.serialize_metadata_request())
metadata = convert.deserialize_metadata_response((out / "metadata.response").read_bytes())
image = metadata.Inputs(0)
print(metadata.Name(), image.Name(), image.ShapeAsNumpy().tolist(), image.Type(), metadata.Outputs(0).Type())
"""


@pytest.mark.slow
def test_graphpipe_py_both_ways(graphpipe_py, tmp_path):
    shapes = [(), (0, 3), (2, 3)]
    arrays = {
        f"{name}-{i}": np.arange(np.prod(shape, dtype=int)).astype(name).reshape(shape)
        for name in NUMBERS
        for i, shape in enumerate(shapes)
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        (tmp_path / f"{name}.response").write_bytes(graphpipe.write_infer_response([array]))
        (tmp_path / f"{name}.ours").write_bytes(graphpipe.write_infer_request({"x": array}, ["y"], "{}"))
    words = strings([b"a", b"\xff"], (1, 2))
    (tmp_path / "words.response").write_bytes(graphpipe.write_infer_response([words]))
    (tmp_path / "metadata.response").write_bytes(graphpipe.write_metadata_response(METADATA))
    program = [graphpipe_py, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, tmp_path]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b'characters' b'image' [-1, 28, 28, 1] 10 12\n"
    for name, array in arrays.items():
        request = graphpipe.read_request((tmp_path / f"{name}.request").read_bytes())
        assert (request.inputs[0][0], request.outputs, request.config) == ("x", ["y"], "{}")
        assert same(request.inputs[0][1], array)
    assert same(graphpipe.read_request((tmp_path / "words.request").read_bytes()).inputs[0][1], words)
    assert graphpipe.read_request((tmp_path / "metadata.request").read_bytes()) == MetadataRequest()


# ---- malformed bodies

READERS = [
    graphpipe.read_request,
    graphpipe.read_infer_response,
    graphpipe.read_metadata_response,
    lambda body: graphpipe.read(RawRequest("infer", body), MODEL),
]
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
def test_truncated_bodies_are_refused_or_read(read, body):
    for end in range(len(body)):
        try:
            read(body[:end])
        except SeawayError:
            continue


CHANGES = st.lists(
    st.tuples(st.integers(0, 2**31), st.sampled_from(["byte", "word", "cut", "repeat"]), st.integers(0, 2**32 - 1)),
    min_size=1,
    max_size=8,
)


def mutate(body: bytes, changes) -> bytes:
    """The body with bytes and offsets overwritten, parts cut out or doubled."""
    mutated = bytearray(body)
    for where, how, value in changes:
        at = where % (len(mutated) + 1)
        if how == "byte":
            mutated[at : at + 1] = [value % 256]
        elif how == "word":  # mostly small offsets, which lead somewhere
            mutated[at - at % 4 : at - at % 4 + 4] = struct.pack("<I", value if value % 8 == 0 else value % 256)
        elif how == "cut":
            del mutated[at : at + value % 16]
        else:
            mutated[at:at] = mutated[at : at + value % 64]
    return bytes(mutated)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(MESSAGES), CHANGES)
def test_mutated_bodies_never_crash_a_reader(body, changes):
    for read in READERS:
        try:
            read(mutate(body, changes))
        except SeawayError:
            continue


def test_no_body_expands_to_much_more_than_its_size():
    """4,000 tensors that point at one vector of 100,000 strings need no more memory than a few bodies."""
    plain = graphpipe.write_infer_request([("", strings([b""] * 100_000, (100_000,)))])
    writer = Writer()
    root, kind, infer = writer.table(1, 4)
    writer.head[kind] = 1
    at, _, _, tensors_at = writer.table(0, 0, 4)
    writer.link(infer, at)
    listed, entries = writer.references(4_000)
    writer.link(tensors_at, listed)
    tensor, kind, shape, _, values = writer.table(1, 4, 0, 4)
    writer.head[kind] = 12
    for entry in entries:
        writer.link(entry, tensor)
    writer.link(shape, writer.longs([100_000]))
    vector, slots = writer.references(100_000)
    writer.link(values, vector)
    empty = writer.string(b"")
    for slot in slots:
        writer.link(slot, empty)
    folded = b"".join(writer.finish(root))
    for body in (plain, folded):
        tracemalloc.start()
        try:
            with pytest.raises(InvalidInput) if body is folded else contextlib.nullcontext():
                graphpipe.read_request(body)
            assert tracemalloc.get_traced_memory()[1] < 40 * len(body)
        finally:
            tracemalloc.stop()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_crash_a_reader(body):
    for read in READERS:
        try:
            read(body)
        except SeawayError:
            continue


def test_an_empty_string_tensor_of_impossible_shape():
    body = graphpipe.write_infer_request([("text", np.empty((0, 3, 5), object))])
    sizes = struct.pack("<3q", 0, 3, 5)
    huge = body.replace(sizes, struct.pack("<3q", 0, 1 << 40, 1 << 40))
    assert huge != body
    with pytest.raises(InvalidInput, match="cannot be used"):
        graphpipe.read_request(huge)
