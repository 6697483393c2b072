"""Writes an ONNX model, and opens it in ONNX Runtime."""

import math
from pathlib import Path
from typing import Any

import onnx

from seaway.onnxruntime_import import import_onnxruntime

MODEL, DATA = "model.onnx", "model.onnx.data"
MAX_BYTES = 2**31 - 2**20  # a protobuf message is limited to 2 GiB: larger weights are in a file of their own


def write(model: Any, folder: Path) -> Path:
    """Writes model.onnx to `folder`, over an earlier one; weights over 2 GiB go into model.onnx.data beside it, and out
    of `model`."""
    path = folder / MODEL
    for name in (MODEL, DATA):
        (folder / name).unlink(missing_ok=True)
    large = sum(_bytes(tensor) for tensor in model.graph.initializer) > MAX_BYTES
    onnx.save(model, str(path), save_as_external_data=large, location=DATA if large else None)
    return path


def session(path: Path) -> Any:
    """The file in ONNX Runtime, which says nothing on stderr: its errors are raised. They share no base class."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


def _bytes(tensor: Any) -> int:
    return int(math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
