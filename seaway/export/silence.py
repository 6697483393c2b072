"""Silences standard error where PyTorch prints whole graphs in addition to raising an error; no option stops that."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def discard_stderr() -> Iterator[None]:
    """Discards the process's standard error, including C++'s; exceptions pass through."""
    torch._C._jit_set_onnx_log_output_stream("stderr")  # not stdout, whose buffer would appear later
    saved = os.dup(2)
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)
        torch._C._jit_set_onnx_log_output_stream("stdout")
