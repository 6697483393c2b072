"""Silence for the two places where PyTorch prints whole graphs beside the error that it raises; no option stops it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def stderr() -> Iterator[None]:
    """Nothing written to the process's standard error shows, from C++ either; errors are raised as ever."""
    torch._C._jit_set_onnx_log_output_stream("stderr")  # from stdout, whose buffer would show up later
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        torch._C._jit_set_onnx_log_output_stream("stdout")
