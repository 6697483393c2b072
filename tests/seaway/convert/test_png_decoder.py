"""`from_png` inside the SavedModel: which images are used unchanged, which are prepared, which are refused."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from seaway.artifacts import artifact_metadata


def png(image: Image.Image) -> bytes:
    written = BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def grey(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def header(width: int, height: int) -> bytes:
    """A PNG header of any size; the pixels are missing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0" * 64


@pytest.fixture(scope="module")
def read(tf: Any) -> Any:
    """PNG bytes → the input of a 28x28x1 model."""
    from seaway.convert import png_decoder

    traced = tf.function(
        lambda encoded: png_decoder.read(encoded, 28, 28, 1), input_signature=[tf.TensorSpec([], tf.string)]
    )
    return lambda image: traced(image if isinstance(image, bytes) else png(image)).numpy()


@pytest.fixture(scope="module")
def digit() -> np.ndarray:
    """A 28x28 image as in the dataset: white ink, dark border, all grey levels."""
    y, x = np.mgrid[:28, :28]
    ring = 255 * np.exp(-(((np.hypot(x - 14, (y - 14) * 0.8) - 7) / 1.6) ** 2))
    return ring.round().astype(np.uint8)


@pytest.fixture(scope="module")
def stroke() -> Image.Image:
    """Black ink on white paper, 300x200: an L in the upper left."""
    image = Image.new("L", (300, 200), 255)
    ImageDraw.Draw(image).line([(40, 20), (40, 120), (90, 120)], fill=0, width=12)
    return image


def test_an_image_of_the_models_size_is_used_unchanged(read: Any, digit: np.ndarray) -> None:
    assert np.allclose(read(grey(digit))[..., 0], digit / 255, rtol=0, atol=5e-7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16"])
def test_all_png_modes_give_the_same_input(read: Any, digit: np.ndarray, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(digit.astype(np.uint16) * 257)
    elif mode == "P":
        image = grey(digit).convert("P")
    else:
        image = grey(digit).convert(mode)
    assert np.allclose(read(image)[..., 0], digit / 255, rtol=0, atol=5e-7)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_per_pixel_give_the_same_input(read: Any, stroke: Image.Image, bits: int) -> None:
    hard = stroke.point(lambda level: 255 * (level > 127))
    palette = hard.point(lambda level: level and 2**bits - 1)  # the last of 2, 4 or 16 colours is white
    palette.putpalette([level for colour in range(2**bits) for level in [255 * (colour + 1 == 2**bits)] * 3])
    written = BytesIO()
    palette.save(written, "PNG", bits=bits)
    assert written.getvalue()[24] == bits
    assert np.array_equal(read(written.getvalue()), read(hard))
    assert np.array_equal(read(hard.convert("1")), read(hard))


@pytest.mark.parametrize("ink", [0, 255])
def test_dark_and_light_ink_on_a_transparent_background(read: Any, digit: np.ndarray, ink: int) -> None:
    levels = np.full((28, 28), ink, np.uint8)
    transparent = Image.merge("LA", (grey(levels), grey(digit)))
    opaque = grey(digit if ink else 255 - digit)
    assert np.allclose(read(transparent), read(opaque), rtol=0, atol=0.01)


def test_ink_is_cropped_and_centered_and_keeps_its_aspect_ratio(read: Any, stroke: Image.Image) -> None:
    decoded = read(stroke)[..., 0]
    rows, columns = np.nonzero(decoded > 0.3)
    assert (rows.min(), rows.max()) == (2, 25)  # 24 px high with EMNIST's margin of 2
    assert 12 <= columns.max() - columns.min() + 1 <= 14  # 56 of 112 px wide
    assert abs((columns.min() + columns.max()) / 2 - 13.5) <= 1
    assert decoded.max() == pytest.approx(1, abs=1e-6)
    assert decoded[:, :4].max() < 0.05


def test_light_on_dark_and_dark_on_light_give_the_same_input(read: Any, stroke: Image.Image) -> None:
    inverted = Image.eval(stroke, lambda level: 255 - level)
    assert np.allclose(read(stroke), read(inverted), rtol=0, atol=1e-6)


def test_grey_paper_gives_the_same_input_as_white_paper(read: Any, stroke: Image.Image) -> None:
    pale = Image.eval(stroke, lambda level: 40 + level * 170 // 255)
    assert np.allclose(read(stroke), read(pale), rtol=0, atol=0.02)


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (3, 200), (2048, 1)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_image_is_black(read: Any, size: tuple[int, int], level: int) -> None:
    if size == (28, 28) and level == 0:
        level = 1
    decoded = read(Image.new("L", size, level))
    assert decoded.shape == (28, 28, 1)
    assert decoded.max() <= 1 / 255 + 1e-6


def test_the_largest_image_is_read(read: Any) -> None:
    largest = Image.new("L", (2048, 2048), 255)
    ImageDraw.Draw(largest).ellipse([900, 100, 1100, 2000], fill=0)
    assert read(largest).max() == pytest.approx(1, abs=1e-6)


def test_photographs_are_center_cropped_and_resized(tf: Any) -> None:
    from seaway.convert import png_decoder

    image = np.zeros((40, 120, 3), np.uint8)
    image[:, 40:80] = [200, 100, 50]
    decoded = png_decoder.read(tf.constant(png(Image.fromarray(image))), 20, 20, 3).numpy()
    assert np.allclose(decoded, np.float32([200, 100, 50]) / 255, rtol=0, atol=1e-6)
    exact = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    same = png_decoder.read(tf.constant(png(Image.fromarray(exact))), 20, 20, 3).numpy()
    assert np.allclose(same, exact / 255, rtol=0, atol=5e-7)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "not a PNG image"),
        (b"\x89PNG\r\n\x1a\n", "not a PNG image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "not a PNG image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rJUNK" + b"\0" * 100, "not a PNG image"),
        (header(50_000, 50_000), "between 1 and 2,048 px"),
        (header(2049, 1), "between 1 and 2,048 px"),
        (header(1, 2049), "between 1 and 2,048 px"),
        (header(0, 10), "between 1 and 2,048 px"),
        (header(2**32 - 1, 10), "between 1 and 2,048 px"),
    ],
)
def test_a_file_that_is_not_an_allowed_png_is_refused(tf: Any, saved_images: Path, bad: bytes, message: str) -> None:
    from_png = tf.saved_model.load(str(saved_images)).signatures["from_png"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        from_png(png=tf.constant([bad]))


def test_a_truncated_png_is_refused(tf: Any, saved_images: Path) -> None:
    from_png = tf.saved_model.load(str(saved_images)).signatures["from_png"]
    whole = png(Image.effect_noise((100, 100), 50))
    with pytest.raises(tf.errors.InvalidArgumentError):
        from_png(png=tf.constant([whole[: len(whole) // 2]]))


def test_a_decompression_bomb_is_never_decoded(tf: Any, saved_images: Path) -> None:
    bomb = png(Image.new("1", (30_000, 30_000)))  # 110 kB that would be 3.6 GB as RGBA
    assert len(bomb) < 200_000
    from_png = tf.saved_model.load(str(saved_images)).signatures["from_png"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"2,048 px, but width and height are.*30000 30000"):
        from_png(png=tf.constant([bomb]))


def test_the_outputs_are_label_score_and_scores(tf: Any, saved_images: Path) -> None:
    labels = artifact_metadata.read(saved_images).labels
    rng = np.random.default_rng(3)
    images = rng.integers(0, 120, (20, 12, 10), dtype=np.uint8)
    signatures = tf.saved_model.load(str(saved_images)).signatures
    expected = signatures["serving_default"](image=tf.constant(images[..., None] / np.float32(255)))["scores"].numpy()
    outputs = {k: v.numpy() for k, v in signatures["from_png"](png=tf.constant([png(grey(i)) for i in images])).items()}
    assert np.allclose(outputs["scores"], expected, rtol=0, atol=1e-5)
    assert [label.decode() for label in outputs["label"]] == [labels[i] for i in expected.argmax(1)]
    assert np.array_equal(outputs["score"], outputs["scores"].max(1))
