"""ONNX Runtime without its reports: one place that loads it, for every stage that holds it."""

import os
from typing import Any


def import_onnxruntime() -> Any:
    """Loads ONNX Runtime, which from 1.29 on would report its use over the network, from a thread of its own."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
