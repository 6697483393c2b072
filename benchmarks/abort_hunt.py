"""Finds inputs that abort the process that runs TensorFlow: common operators with hostile shapes and values.

    python -m benchmarks.abort_hunt [OPERATOR …]

Each operator is in a small graph whose input is declared as a model would declare it, and is called as the server
calls models. Prints a line for each input that killed the process or took more than 20 seconds, and a table.
`seaway/serve/backends/operators.py` lists the operators for which a check of the declared shapes prevents this.
Takes 25 minutes on two cores. Set TF_ENABLE_ONEDNN_OPTS=0 to try TensorFlow's own kernels; the server uses oneDNN's.
"""

import itertools
import os
import resource
import select
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.abort_cases import CASES, I32, I64, F, S, Spec
from seaway.serve.backends.savedmodel import IN_CALLERS_THREAD, config_pb2, tf

TIMEOUT_S, MEMORY_BYTES = 20, 9 << 30
MAX_SHOWN = 6  # inputs printed for each graph
HUGE = np.iinfo(np.int64).max

SHAPES: list[tuple[int, ...]] = [
    *[(2,) * rank for rank in range(9)],
    *[(0,) * rank for rank in range(1, 8)],
    *[(1,) * rank for rank in range(5, 8)],
    (0, 8, 8, 3),
    (1, 0, 8, 3),
    (1, 8, 0, 3),
    (1, 8, 8, 0),
    (1, 8, 8, 5),
    (1, 1, 1, 3),
    (1, 1, 1 << 20, 3),
    (1 << 20, 1, 1, 3),
    (0, 1 << 20, 1 << 20, 3),
    (0, 4, 8, 8, 3),
    (1, 4, 0, 8, 3),
    (1, 4, 8, 8, 2),
    (0, 4),
    (4, 0),
    (3, 7),
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (0, 1 << 40),
]
NUMBERS = [0, 1, -1, 2, 3, 5, 127, 2**31 - 1, -(2**31)]
EDGES = [0, 2, -1, 2**31 - 1, -(2**31)]
STRINGS = [b"", b"x", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"\xff\xd8\xff", b"RIFF", b"\x00" * 64, b"\xff" * 64]


def inputs(specs: list[Spec]) -> Iterator[list[np.ndarray]]:
    """Arrays for each input: one hostile while the others are as declared, then all hostile."""
    ordinary = [_ordinary(spec) for spec in specs]
    yield ordinary
    for i, spec in enumerate(specs):
        for array in _hostile(spec):
            yield [*ordinary[:i], array, *ordinary[i + 1 :]]
    if len(specs) > 1:
        for shape in SHAPES:
            yield [_filled(spec, shape) for spec in specs]
    if sum(kind in (I32, I64) for kind, _ in specs) > 1:
        for numbers in itertools.product(EDGES, repeat=len(specs)):
            yield [
                np.full_like(_ordinary(spec), number) if spec[0] in (I32, I64) else _ordinary(spec)
                for spec, number in zip(specs, numbers, strict=True)
            ]


def _ordinary(spec: Spec) -> np.ndarray:
    return _filled(spec, tuple(2 if size is None else size for size in spec[1]))


def _filled(spec: Spec, shape: tuple[int, ...]) -> np.ndarray:
    kind = spec[0]
    if kind == S:
        return np.full(shape, b"x", object)
    return np.ones(shape, kind.as_numpy_dtype)


def _hostile(spec: Spec) -> Iterator[np.ndarray]:
    kind, declared = spec
    declared_shape = tuple(2 if size is None else size for size in declared)
    for shape in SHAPES:
        yield _filled(spec, shape)
    if kind == S:
        for string in STRINGS:
            yield np.full(declared_shape, string, object)
    elif kind == F:
        for number in (np.nan, np.inf, -np.inf, -1.0, 3.4e38, 1e-45):
            yield np.full(declared_shape, number, np.float32)
    else:
        for number in [*NUMBERS, *([HUGE, -HUGE - 1, 1 << 40] if kind == I64 else [])]:
            yield np.full(declared_shape, number, kind.as_numpy_dtype)
        if declared_shape and declared[0] is None:
            for count in (0, 1, 3, 5, 8, 9, 300):
                for number in (1, 2, 2**31 - 1, -1):
                    yield np.full((count, *declared_shape[1:]), number, kind.as_numpy_dtype)
            yield np.array([2**16] * 4, kind.as_numpy_dtype)


def callable_of(specs: list[Spec], operator: Callable[..., Any]) -> Callable[..., Any]:
    with tf.Graph().as_default() as graph:
        feeds = [tf.compat.v1.placeholder(kind, shape) for kind, shape in specs]
        fetch = tf.identity(operator(*feeds))
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    options = config_pb2.CallableOptions(feed=[t.name for t in feeds], fetch=[fetch.name])
    options.run_options.inter_op_thread_pool = IN_CALLERS_THREAD
    call: Callable[..., Any] = tf.compat.v1.Session(graph=graph, config=config)._make_callable_from_options(options)
    return call


def child(name: str, first: int, out: int) -> None:
    """Calls the graph with each input from `first` on, and writes the input's number before each call."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    specs, operator = CASES[name]
    call = callable_of(specs, operator)
    for number, arrays in enumerate(inputs(specs)):
        if number >= first:
            os.write(out, f"{number}\n".encode())
            try:
                call(*arrays)
            except (tf.errors.OpError, ValueError, TypeError, MemoryError):
                continue


def hunt(name: str) -> Iterator[tuple[int, str]]:
    """The number of each input that aborted or blocked the process, and how."""
    first = 0
    while True:
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(name, first, into)
            except BaseException:
                os.write(into, b"failed\n")
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
            os._exit(0)
        os.close(into)
        last, how = first, ""
        while True:
            ready, _, _ = select.select([out], [], [], TIMEOUT_S)
            if not ready:
                os.kill(pid, signal.SIGKILL)
                how = "timeout"
                break
            lines = os.read(out, 1 << 16).split()
            if not lines:
                break
            last = int(lines[-1]) if lines[-1] != b"failed" else last
        os.close(out)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            return
        yield last, how or (signal.Signals(-status).name if status < 0 else f"exit {status}")
        first = last + 1


def main() -> None:
    aborts: dict[str, Counter[str]] = {}
    for name in sys.argv[1:] or CASES:
        specs, _ = CASES[name]
        arrays = list(inputs(specs))
        aborts[name] = Counter()
        for number, how in hunt(name):
            aborts[name][how] += 1
            if sum(aborts[name].values()) <= MAX_SHOWN:
                shown = ", ".join(f"{a.dtype} {list(a.shape)} {a.reshape(-1)[:4].tolist()}" for a in arrays[number])
                print(f"{name}: {how}: {shown}", flush=True)
        if sum(aborts[name].values()) == 0:
            del aborts[name]
    print(f"{len(aborts)} of {len(sys.argv[1:] or CASES)} graphs can be aborted by an input:")
    for name, counts in aborts.items():
        print(f"  {name:32} {dict(counts)}")


if __name__ == "__main__":
    main()
