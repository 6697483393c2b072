"""ImageDecoder for the formats that TensorFlow does not decode, against Pillow."""

import io
import struct
from typing import Any

import numpy as np
import PIL.Image
import pytest
from onnx import TensorProto, helper

RGB = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[:, :, 0]


@pytest.fixture(scope="module")
def decode(tf: Any) -> Any:
    """A function from a file's bytes to an image."""
    from seaway.convert.native import net

    graph = helper.make_graph(
        [helper.make_node("ImageDecoder", ["file"], ["image"])],
        "g",
        [helper.make_tensor_value_info("file", TensorProto.UINT8, ["n"])],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", "c"])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    converted = tf.function(net.convert(proto), autograph=False)
    function = converted.get_concrete_function({"file": tf.TensorSpec([None], tf.uint8)})
    return lambda file: function({"file": tf.constant(np.frombuffer(file, np.uint8))})["image"].numpy()


def saved(image: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, **options)
    return file.getvalue()


def tiff(order: str, image: np.ndarray, tags: dict[int, int]) -> bytes:
    """A grey TIFF in one strip, each tag a LONG; `order`: "<" or ">"."""
    data = 8
    tags = {256: image.shape[1], 257: image.shape[0], 258: 8, 262: 1, 273: data, 279: image.size} | tags
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, data + image.size)
    return magic + image.tobytes() + directory


FILES = {
    "rgb pnm": saved(RGB, format="PPM"),
    "grey pnm": saved(GREY, format="PPM"),
    "comments": b"P6 # one \n# two\n7\t5\n# three\n255\n" + RGB.tobytes(),
    "largest value": b"P6 7 5 200\n" + np.minimum(RGB, 200).tobytes(),
    "two bytes": b"P6 7 5 4095\n" + (RGB.astype(">u2") * 16).tobytes(),
    "rgb tiff": saved(RGB, format="TIFF"),
    "grey tiff": saved(GREY, format="TIFF"),
    "rgba tiff": saved(np.concatenate([RGB, GREY[..., None]], -1), format="TIFF"),
    "strips": saved(RGB, format="TIFF", strip_size=42),
    "little endian": tiff("<", GREY, {}),
    "big endian": tiff(">", GREY, {}),
    "png": saved(RGB, format="PNG"),
}


@pytest.mark.parametrize("name", list(FILES))
def test_as_pillow_decodes_it(decode: Any, name: str) -> None:
    expected = np.asarray(PIL.Image.open(io.BytesIO(FILES[name])).convert("RGB"))
    np.testing.assert_array_equal(decode(FILES[name]), expected)


STORED_OTHERWISE = "a TIFF image that is not"
REFUSED = {
    "compressed": (saved(RGB, format="TIFF", compression="tiff_lzw"), STORED_OTHERWISE),
    "16 bits": (saved(GREY.astype(np.uint16), format="TIFF"), STORED_OTHERWISE),
    "white is 0": (tiff("<", GREY, {262: 0}), STORED_OTHERWISE),
    "no tags": (b"II*\0\x08\0\0\0\0\0", STORED_OTHERWISE),
    "longer than the file": (tiff("<", GREY, {279: 1 << 30}), "strips longer than the file"),
    "truncated tiff": (b"II*\0", "multiple of 12"),
    "truncated pnm": (b"P6 7 5 255\n12", "tensor with 2 values, but the requested shape has 105"),
    "text pnm": (b"P3 1 1 255\n1 2 3\n", "Unknown image file format"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_other_files_raise_an_error(tf: Any, decode: Any, name: str) -> None:
    file, why = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=why):
        decode(file)
