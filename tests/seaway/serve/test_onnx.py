"""The ONNX backend on real models, against the SavedModel of the same version."""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.json_format import MessageToDict
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError
from seaway.protocols import tensors
from seaway.serve.backends import onnx as backend
from seaway.serve.backends import png_decoder

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "seaway" / "example" / "characters" / "1"
SHAPES = ((28, 28, 1), (14, 40, 1), (32, 20, 3))

# Asks TensorFlow, in a process of its own: what the graph reads from each image, and what the example answers.
ASK_TENSORFLOW = """
import sys
from pathlib import Path
import numpy as np
from seaway.tensorflow_import import import_tensorflow
tf = import_tensorflow()
from seaway.convert import png_decoder
example, folder, shapes = Path(sys.argv[1]), Path(sys.argv[2]), eval(sys.argv[3])
files = sorted(folder.glob("*.png"), key=lambda file: file.stem)
spec = [tf.TensorSpec([], tf.string)]
found = {}
for shape in shapes:
    read = tf.function(lambda png, shape=shape: png_decoder.read(png, *shape), input_signature=spec)
    found |= {f"{file.stem} {shape}": read(file.read_bytes()).numpy() for file in files}
answers = tf.saved_model.load(str(example)).signatures["from_png"](png=tf.constant([f.read_bytes() for f in files]))
np.savez(folder / "found.npz", **found, **{f"answer:{k}": v.numpy().astype("S") if v.dtype == tf.string else v.numpy()
                                           for k, v in answers.items()})
"""


@pytest.fixture(scope="module")
def example() -> backend.OnnxModel:
    return backend.load(
        EXAMPLE, artifact_metadata.check(EXAMPLE, "version", at=model_repository.METADATA_FILE), 1, frozenset()
    )


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., backend.OnnxModel]:
    """Writes and loads a model of a few nodes, by default without metadata."""

    def build(
        nodes: list[Any],
        inputs: list[Any],
        outputs: list[Any],
        weights: Any = (),
        metadata: ArtifactMetadata | None = None,
    ) -> backend.OnnxModel:
        graph = helper.make_graph(nodes, "tiny", inputs, outputs, list(weights))
        domains = {node.domain for node in nodes} - {""}
        opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return backend.load(tmp_path, metadata, 1, frozenset())

    return build


def value(name: str, shape: list[Any] | None, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def strings(*values: bytes) -> np.ndarray:
    return tensors.strings(values, [len(values)])


# ---- the example: the same version as ONNX and as a SavedModel


def test_golden_examples_are_predicted_right_at_every_batch_size(example: backend.OnnxModel) -> None:
    metadata, golden = (
        artifact_metadata.read(EXAMPLE, model_repository.METADATA_FILE),
        goldens.read(EXAMPLE / model_repository.EXTRA / goldens.GOLDEN),
    )
    for rows in (1, 2, 64):
        inputs = {name: array[:rows] for name, array in golden.inputs.items()}
        for signature, output in (("serving_default", "scores"), ("logits", "logits")):
            answers = example.predict(signature, inputs, None)
            assert list(answers) == [output]
            assert (
                goldens.compare(answers[output], golden.outputs[output][:rows], metadata.tolerances[output]).wrong == 0
            )


def test_a_batch_of_no_rows(example: backend.OnnxModel) -> None:
    assert example.predict("serving_default", {"image": np.empty((0, 28, 28, 1), np.float32)})["scores"].shape == (
        0,
        62,
    )
    assert example.predict("from_png", {"png": strings()})["top_labels"].shape == (0, 3)


def test_signatures_and_metadata_equal_the_saved_model_s(example: backend.OnnxModel) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    saved.ParseFromString((EXAMPLE / "saved_model.pb").read_bytes())
    saved_signatures = {k: v for k, v in saved.meta_graphs[0].signature_def.items() if not k.startswith("__")}
    assert example.signatures.keys() == saved_signatures.keys()
    for name, signature in saved_signatures.items():
        expected = MessageToDict(signature, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)
        got = json.loads(json.dumps(example.definitions[name]))
        for side in (*expected["inputs"].values(), *expected["outputs"].values()):
            side.pop("name")  # a node of the graph
        for side in (*got["inputs"].values(), *got["outputs"].values()):
            side.pop("name")
        assert got == expected
        assert example.signatures[name].method == signature.method_name


# ---- images


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, bits: int, colour: int, channels: int, seed: int, *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG of noise in any pixel format."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, (width * bits * channels + 7) // 8), np.uint8)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in noise))
    parts = [(b"IHDR", header), *extra, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def encoded(image: Image.Image) -> bytes:
    written = BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def drawn(size: tuple[int, int], paper: int, ink: int) -> Image.Image:
    image = Image.new("L", size, paper)
    line = [(size[0] * x, size[1] * y) for x, y in ((0.15, 0.1), (0.2, 0.6), (0.5, 0.8))]
    ImageDraw.Draw(image).line(line, fill=ink, width=max(1, min(size) // 12))
    return image


def kinds() -> dict[str, bytes]:
    made = {}
    for width, height in ((28, 28), (37, 19)):
        for bits in (1, 2, 4, 8, 16):
            transparent = (b"tRNS", struct.pack(">H", min(1, 2**bits - 1)))
            made[f"grey {bits} {width}"] = png(width, height, bits, 0, 1, bits)
            made[f"grey {bits} {width} transparent"] = png(width, height, bits, 0, 1, bits, transparent)
            if bits <= 8:
                levels = [255 * level // (2**bits - 1) for level in range(2**bits)]
                palette = (b"PLTE", bytes(level for level in levels for _ in range(3)))
                made[f"palette {bits} {width}"] = png(width, height, bits, 3, 1, bits, palette)
                some = (b"tRNS", bytes([0, 128]))
                made[f"palette {bits} {width} transparent"] = png(width, height, bits, 3, 1, bits, palette, some)
            else:
                made[f"rgb {bits} {width}"] = png(width, height, bits, 2, 3, bits)
            if bits >= 8:
                made[f"grey and alpha {bits} {width}"] = png(width, height, bits, 4, 2, bits)
                made[f"rgba {bits} {width}"] = png(width, height, bits, 6, 4, bits)
    for size in ((300, 200), (29, 28), (1, 1), (2048, 3), (64, 500)):
        for paper, ink in ((255, 0), (0, 255), (210, 40)):
            made[f"line {size} {paper}"] = encoded(drawn(size, paper, ink))
    light, dark = drawn((90, 80), 0, 255), drawn((90, 80), 255, 0)
    made["light ink, transparent"] = encoded(Image.merge("LA", (Image.new("L", (90, 80), 255), light)))
    made["dark ink, transparent"] = encoded(Image.merge("LA", (dark, light)))
    return made


@pytest.fixture(scope="module")
def tensorflow_found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("images")
    for name, image in kinds().items():
        (folder / f"{name}.png").write_bytes(image)
    command = [sys.executable, "-c", ASK_TENSORFLOW, str(EXAMPLE), str(folder), str(SHAPES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz"))


@pytest.mark.slow
def test_images_are_decoded_as_in_the_graph(tensorflow_found: dict[str, np.ndarray]) -> None:
    for name, image in kinds().items():
        for shape in SHAPES:
            expected, got = tensorflow_found[f"{name} {shape}"], png_decoder.decode(image, *shape)
            assert got.dtype == np.float32
            assert got.shape == shape
            np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_from_png_predicts_what_the_saved_model_does(
    example: backend.OnnxModel, tensorflow_found: dict[str, np.ndarray]
) -> None:
    made = kinds()
    answers = example.predict("from_png", {"png": strings(*(made[name] for name in sorted(made)))})
    expected = {k.removeprefix("answer:"): v for k, v in tensorflow_found.items() if k.startswith("answer:")}
    assert answers.keys() == expected.keys()
    for name in ("scores", "score", "top_scores"):
        assert answers[name].dtype == np.float32
        np.testing.assert_allclose(answers[name], expected[name], rtol=0, atol=2e-4)
    clear = expected["top_scores"][:, 0] - expected["top_scores"][:, 1] > 1e-3
    assert clear.sum() > 20
    assert answers["label"][clear].tolist() == expected["label"][clear].tolist()
    assert answers["top_labels"][clear, 0].tolist() == answers["label"][clear].tolist()


def test_from_png_returns_the_requested_outputs_in_order(example: backend.OnnxModel) -> None:
    answers = example.predict("from_png", {"png": strings(encoded(drawn((90, 80), 255, 0)))}, ["score", "label"])
    assert list(answers) == ["score", "label"]
    assert isinstance(answers["label"][0], bytes)


def test_invalid_images_are_rejected_before_decompression(example: backend.OnnxModel) -> None:
    whole = encoded(drawn((90, 80), 255, 0))
    for image, why in (
        (b"", "not a PNG image, or a truncated one"),
        (b"GIF89a" + bytes(60), "not a PNG image; its length: 66"),
        (png(1, 1, 8, 0, 1, 0)[:16] + struct.pack(">II", 2049, 9) + whole[24:], r"2,048 px, .* are: \[2049, 9\]"),
        (whole[:16] + struct.pack(">II", 60000, 60000) + whole[24:], "between 1 and 2,048 px"),
        (whole[:16] + struct.pack(">II", 0, 9) + whole[24:], "between 1 and"),
        (whole[: len(whole) // 2], "cannot be decoded"),
        (whole[:60] + b"\xff\xff" + whole[62:], "cannot be decoded"),
    ):
        with pytest.raises(InvalidInput, match=why):
            example.predict("from_png", {"png": strings(whole, image)})


def test_from_png_requires_strings_of_one_dimension(example: backend.OnnxModel) -> None:
    for inputs in (
        {"png": np.zeros((1, 28, 28, 1), np.float32)},
        {"png": tensors.strings([b"x"], [1, 1])},
        {"image": strings(b"x")},
        {"png": strings(b"x"), "image": strings(b"x")},
    ):
        with pytest.raises(InvalidInput, match="takes"):
            example.predict("from_png", inputs)


# ---- calls that do not fit


def test_invalid_calls_say_why(example: backend.OnnxModel) -> None:
    image = np.zeros((1, 28, 28, 1), np.float32)
    with pytest.raises(NotFound, match=r"'other'; choose from .*serving_default"):
        example.predict("other", {"image": image})
    for inputs, outputs, why in (
        ({"photo": image}, None, r"takes \['image'\], but got \['photo'\]"),
        ({"image": image, "more": image}, None, "more"),
        ({"image": image}, ["logits"], r"no output \['logits'\]; it has \['scores'\]"),
        ({"image": image.astype(np.float64)}, None, "'image' is float64, but the model takes float32"),
        ({"image": strings(b"x")}, None, "'image' is str"),
        ({"image": image[0]}, None, r'input "image": expected \[-1, 28, 28, 1\], got \[28, 28, 1\]'),
        (
            {"image": np.zeros((1, 28, 27, 1), np.float32)},
            None,
            r'"image": expected \[-1, 28, 28, 1\], got \[1, 28, 27, 1\]',
        ),
    ):
        with pytest.raises(InvalidInput, match=why):
            example.predict("serving_default", inputs, outputs)
    assert example.predict("serving_default", {"image": image})["scores"].shape == (1, 62)


def test_shapes_that_an_operator_rejects_are_the_caller_s_fault(make: Callable[..., backend.OnnxModel]) -> None:
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    model = make(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", "M"])], [value("y", ["N", 4])], [weight]
    )
    assert model.predict("serving_default", {"x": np.ones((2, 3), np.float32)})["y"].tolist() == [[3.0] * 4] * 2
    with pytest.raises(InvalidInput, match="MatMul dimension mismatch"):
        model.predict("serving_default", {"x": np.ones((2, 5), np.float32)})


def test_an_input_that_needs_too_much_memory_is_rejected(make: Callable[..., backend.OnnxModel]) -> None:
    node = helper.make_node("ConstantOfShape", ["n"], ["y"])
    model = make([node], [value("n", ["N"], TensorProto.INT64)], [value("y", None)])
    with pytest.raises(SeawayError, match="more memory than is available") as caught:
        model.predict("serving_default", {"n": np.array([1 << 45], np.int64)})
    assert caught.value.status == 429


def test_read_only_strided_and_empty_arrays_are_accepted(make: Callable[..., backend.OnnxModel]) -> None:
    model = make([helper.make_node("Neg", ["x"], ["y"])], [value("x", ["N", "M"])], [value("y", ["N", "M"])])
    for x in (
        np.frombuffer(np.float32([[1, 2, 3]]).tobytes(), "<f4").reshape(1, 3),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.frombuffer(memoryview(bytes(9))[1:], "<f4").reshape(1, 2),  # unaligned
        np.empty((0, 3), np.float32),
    ):
        assert np.array_equal(model.predict("serving_default", {"x": x})["y"], -x)


def test_strings_are_bytes(make: Callable[..., backend.OnnxModel]) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model = make([node], [value("x", [None, 2], TensorProto.STRING)], [value("y", [None, 2], TensorProto.STRING)])
    x = tensors.strings([b"a", "é\0z".encode()], [1, 2])
    answer = model.predict("serving_default", {"x": x})["y"]
    assert answer.tolist() == x.tolist()
    assert answer.shape == (1, 2)
    assert model.signatures["serving_default"].inputs == (Tensor("x", "str", (None, 2)),)
    with pytest.raises(InvalidInput, match="'x' has a string that is not UTF-8"):
        model.predict("serving_default", {"x": tensors.strings([b"a", b"\xff"], [1, 2])})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32",
                                   "uint32", "int64", "uint64"])  # fmt: skip
def test_every_numeric_type(make: Callable[..., backend.OnnxModel], dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = make([helper.make_node("Identity", ["x"], ["y"])], [value("x", [None], kind)], [value("y", [None], kind)])
    assert model.signatures["serving_default"].outputs == (Tensor("y", dtype, (None,)),)
    x = np.array([0, 1, 1], dtype)
    answer = model.predict("serving_default", {"x": x})["y"]
    assert answer.dtype == x.dtype
    assert answer.tolist() == x.tolist()


# ---- loading


def test_without_metadata_serving_default_returns_all_outputs(make: Callable[..., backend.OnnxModel]) -> None:
    nodes = [helper.make_node("Add", ["b", "a"], ["sum"]), helper.make_node("Neg", ["a"], ["neg"])]
    model = make(nodes, [value("b", ["N", 2]), value("a", None)], [value("sum", ["N", 2]), value("neg", None)])
    (signature,) = model.signatures.values()
    assert signature.inputs == (Tensor("b", "float32", (None, 2)), Tensor("a", "float32", ()))
    assert signature.unranked == {"a", "neg"}
    assert model.definitions["serving_default"]["inputs"]["a"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
    one = np.ones((1, 2), np.float32)
    answers = model.predict("serving_default", {"a": one, "b": one})
    assert {name: array.tolist() for name, array in answers.items()} == {"sum": [[2, 2]], "neg": [[-1, -1]]}
    assert list(model.predict("serving_default", {"a": one, "b": one}, ["neg"])) == ["neg"]


def test_the_metadata_s_order_and_shapes_win_and_foreign_metadata_is_refused(make: Callable[..., Any]) -> None:
    nodes = [helper.make_node("Add", ["b", "a"], ["sum"])]
    parts = nodes, [value("b", ["N", 2]), value("a", ["N", 2])], [value("sum", ["N", 2])]
    a, b, total = (Tensor(name, "float32", (None, 2)) for name in ("a", "b", "sum"))
    model = make(*parts, metadata=ArtifactMetadata("version", "adds", inputs=(a, b), outputs=(total,)))
    assert model.signatures["serving_default"].inputs == (a, b)
    with pytest.raises(ModelError, match=r"'sum': 'float32'.* but its metadata says .*'total'"):
        make(
            *parts,
            metadata=ArtifactMetadata(
                "version", "adds", inputs=(a, b), outputs=(Tensor("total", "float32", (None, 2)),)
            ),
        )


def test_load_errors_say_why(make: Callable[..., backend.OnnxModel], tmp_path: Path) -> None:
    floats = [value("x", ["N"])], [value("y", ["N"])]
    with pytest.raises(ModelError, match=r"my.ops:Evil.* is not a registered"):
        make([helper.make_node("Evil", ["x"], ["y"], domain="my.ops")], *floats)
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    with pytest.raises(ModelError, match=r"'y' is seq\(tensor\(float\)\)"):
        make([helper.make_node("SequenceConstruct", ["x"], ["y"])], [value("x", ["N"])], [sequence])
    whole = (EXAMPLE / model_repository.EXTRA / "model.onnx").read_bytes()
    for content in (b"", b"\0garbage", whole[:5000], whole[: len(whole) // 2]):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=r"model.onnx: ONNX Runtime cannot load the model"):
            backend.load(tmp_path, None, 1, frozenset())
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"no assets.extra/model.onnx or model.onnx found"):
        backend.load(tmp_path, None, 1, frozenset())


@pytest.mark.parametrize("location", ["../outside.bin", "{outside}", "link.bin", "inside/weights.bin"])
def test_external_weights_must_be_inside_the_folder(tmp_path: Path, location: str) -> None:
    folder, outside = tmp_path / "1", tmp_path / "outside.bin"
    (folder / "inside").mkdir(parents=True)
    for file in (outside, folder / "inside" / "weights.bin"):
        file.write_bytes(np.ones(12, np.float32).tobytes())
    (folder / "link.bin").symlink_to(outside)
    weight = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location.format(outside=outside))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "tiny", [value("x", ["N", 3])], [value("y", ["N", 4])], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if location.startswith("inside"):
        loaded = backend.load(folder, None, 1, frozenset())
        assert loaded.predict("serving_default", {"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[3.0] * 4]
    else:
        with pytest.raises(ModelError, match="External data path"):
            backend.load(folder, None, 1, frozenset())


# ---- the process


def in_a_process(program: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(EXAMPLE)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_starts_no_thread_and_no_other_framework() -> None:
    program = (
        "import os, sys, seaway.serve.backends.onnx\n"
        "print(len(os.listdir('/proc/self/task')), {'tensorflow', 'torch', 'onnx', 'kfp'} & sys.modules.keys())"
    )
    assert in_a_process(program).split() == ["1", "set()"]


def test_a_forked_child_loads_and_predicts_with_its_threads() -> None:
    program = """
import os, sys
from pathlib import Path
import numpy as np
from seaway.serve.backends import onnx
for threads in (1, 2):
    pid = os.fork()
    if not pid:
        model = onnx.load(Path(sys.argv[1]), None, threads, frozenset())
        model.predict("serving_default", {"image": np.zeros((64, 28, 28, 1), np.float32)})
        os._exit(len(os.listdir("/proc/self/task")))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert in_a_process(program).split() == ["1", "2"]


def test_the_memory_of_a_large_batch_is_released() -> None:
    program = """
import sys
from pathlib import Path
import numpy as np
from seaway.serve.backends import onnx
model = onnx.load(Path(sys.argv[1]), None, 1, frozenset())
def ask(rows):
    model.predict("serving_default", {"image": np.zeros((rows, 28, 28, 1), np.float32)})
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
    return int(line.split()[1]) >> 10
before = ask(1)
ask(8000)  # 400 MB and more while it runs
print(ask(1) - before)
"""
    assert int(in_a_process(program)) < 100
