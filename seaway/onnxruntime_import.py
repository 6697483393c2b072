"""Imports ONNX Runtime without its telemetry; every stage that uses it imports it here."""

import os
from typing import Any


def import_onnxruntime() -> Any:
    """Loads ONNX Runtime with telemetry disabled: since 1.29 a thread of its own reports its use over the network."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
