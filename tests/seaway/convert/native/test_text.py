"""Nets over text from PyTorch's tracing exporter, with a dynamic batch and length."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seaway.convert.convert import convert

PROGRAM = Path(__file__).with_name("text_nets.py")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    subprocess.run([sys.executable, PROGRAM, folder, "script"], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("net", ["encoder", "decoder", "lstm", "gru", "mean", "bag"])
def test_text(tf: Any, tmp_path: Path, exported: Path, net: str) -> None:
    check(tf, exported / f"script-{net}.onnx", tmp_path / "saved_model")


def check(tf: Any, path: Path, saved: Path) -> None:
    import onnxruntime

    convert(path, saved, "seaway")
    call = tf.saved_model.load(str(saved)).signatures["serving_default"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # The tracing exporter writes the length of its example into nn.MultiheadAttention.
    for batch, length in ((1, 7), (3, 7)) if path.stem == "script-encoder" else ((1, 1), (1, 9), (3, 5)):
        tokens = np.random.default_rng(length).integers(1, 20, (batch, length))
        tokens[0, 1:2] = 0  # padding
        wanted = session.run(["scores"], {"tokens": tokens})[0]
        got = call(tokens=tf.constant(tokens))["scores"].numpy()
        assert got.shape == wanted.shape
        assert np.allclose(got, wanted, rtol=1e-4, atol=1e-5), np.abs(got - wanted).max()
