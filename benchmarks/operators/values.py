"""The inputs of the operators: one generator per parameter name, and values of every kind.

An operator's function names its parameters after what it takes:

x, y, z   numbers [N, 7]; y and z have the same values as x, shuffled
d         as y, but integers are never 0, nor -1 among extremes: the type's minimum / -1 aborts PyTorch's
          process with rounding_mode="trunc"
e         exponents [N, 7]: integers 0 to 3, or floats
shift     integers [N, 7], 0 to 5
i         indices [N, 7], 0 to 6, repeated; `j`: -7 to 6
unique    indices [N, 7], a permutation of 0 to 6 in each row
mask      bools [N, 7]
long      numbers [N, 33]
img       numbers [N, 2, 7, 5]; `even`: [N, 4, 8, 6]; `cube`: [N, 2, 5, 4, 3]
seq       numbers [N, 5, 4]; `seq2` also; `pad`: bools [N, 5] of which the first is False; `sig`: numbers [N, 2, 11]
mat       numbers [N, 4, 4]; `mat2` also; `vec3`, `vec3b`: [N, 3]
"""

from collections.abc import Callable, Iterator

import numpy as np

BATCHES = (1, 2, 5, 40)
ORDINARY = "ordinary"  # the golden examples' kind: Seaway sees a difference there by itself
DENORMALS = "denormals"  # TensorFlow takes them for 0
FLOAT_KINDS = (ORDINARY, "ties", "zeros", "halves", DENORMALS, "large", "infinities", "NaN")
INTEGER_KINDS = (ORDINARY, "ties", "large", "extremes")
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("x", "y", "z", "d", "e"), (7,)),
    **dict.fromkeys(("img",), (2, 7, 5)),
    **dict.fromkeys(("seq", "seq2"), (5, 4)),
    **dict.fromkeys(("mat", "mat2"), (4, 4)),
    **dict.fromkeys(("vec3", "vec3b"), (3,)),
    "long": (33,),
    "even": (4, 8, 6),
    "cube": (2, 5, 4, 3),
    "sig": (2, 11),
}


def kinds(dtype: str) -> tuple[str, ...]:
    if dtype == "bool":
        return (ORDINARY,)
    return FLOAT_KINDS if dtype.startswith("float") else INTEGER_KINDS


def inputs(names: tuple[str, ...], dtype: str, kind: str, batch: int) -> dict[str, np.ndarray]:
    """One array per parameter, the same at every call."""
    rng = np.random.default_rng([batch, *kind.encode(), *dtype.encode()])
    return {name: _array(rng, name, dtype, kind, batch) for name in names}


def all_inputs(names: tuple[str, ...], dtype: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for kind in kinds(dtype):
        for batch in BATCHES:
            yield kind, inputs(names, dtype, kind, batch)


def _array(rng: np.random.Generator, name: str, dtype: str, kind: str, batch: int) -> np.ndarray:
    if name in _FIXED:
        return _FIXED[name](rng, batch)
    shape = (batch, *SHAPES[name])
    if name == "e":
        small = np.array([-2, -1, -0.5, 0, 0.5, 2, 3]) if dtype.startswith("float") else np.arange(4)
        return rng.choice(small, shape).astype(dtype)
    values = _numbers(rng, dtype, kind, shape)
    if kind == "infinities":
        values[:1] = np.where(np.arange(batch)[:1].reshape(-1, *[1] * (len(shape) - 1)) % 2 == 0, -np.inf, values[:1])
    if kind == "NaN" and batch > 2:
        values[:1] = np.nan
    if name == "d" and not dtype.startswith("float"):
        values = np.where((values == 0) | ((kind == "extremes") & (values == -1)), 3, values).astype(dtype)
    return values


def _numbers(rng: np.random.Generator, dtype: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if not dtype.startswith("float"):
        return _integers(rng, dtype, kind, shape)
    if kind == ORDINARY:
        return rng.normal(0, 2, shape).astype(dtype)
    big = [1e4, -6e4, 2049.0] if dtype == "float16" else [1e10, -3e9, 16777217.0, -1e15, 2.0**31, 300.0, -300.0, 1.5]
    tiny = np.finfo(dtype).smallest_subnormal
    choices = {
        "ties": [-2, -1, 1, 2],
        "zeros": [0.0, -0.0, 1, -1],
        "halves": [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.25, 0.15, -0.35],
        "denormals": [tiny, -tiny, 1000 * tiny, -1000 * tiny, 0.0],
        "large": big,
        "infinities": [np.inf, -np.inf, 0.0, 1, -1, 2.5],
        "NaN": [np.nan, -1, 0.0, 1, 2.5],
    }
    return rng.choice(np.array(choices[kind]), shape).astype(dtype)


def _integers(rng: np.random.Generator, dtype: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    limits = np.iinfo(dtype)
    signed = limits.min < 0
    if kind == ORDINARY:
        return rng.integers(-9 if signed else 0, 10, shape).astype(dtype)
    if kind == "ties":
        return rng.integers(-1 if signed else 0, 2, shape).astype(dtype)
    big = {"int64": [2**53 + 1, -(2**53) - 1, 2**31, 2**24 + 1, -300], "int32": [2**24 + 1, -(2**24) - 1, 46341, -300]}
    extremes = [limits.max, limits.max - 1, limits.min + 1, 0, 1, 2, *([-1, -2] if signed else [128, 127])]
    values = big.get(dtype, [200, 128, 127, 255, 16]) if kind == "large" else [limits.min, *extremes]
    return rng.choice(np.array(values, dtype=dtype), shape)


def _permutations(rng: np.random.Generator, batch: int) -> np.ndarray:
    return rng.permuted(np.tile(np.arange(7), (batch, 1)), axis=1)


def _pad(rng: np.random.Generator, batch: int) -> np.ndarray:
    mask = rng.integers(0, 2, (batch, 5)).astype(bool)
    mask[:, 0] = False
    return mask


_FIXED: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "shift": lambda rng, batch: rng.integers(0, 6, (batch, 7)),
    "i": lambda rng, batch: rng.integers(0, 7, (batch, 7)),
    "j": lambda rng, batch: rng.integers(-7, 7, (batch, 7)),
    "unique": _permutations,
    "mask": lambda rng, batch: rng.integers(0, 2, (batch, 7)).astype(bool),
    "mask2": lambda rng, batch: rng.integers(0, 2, (batch, 7)).astype(bool),
    "pad": _pad,
}
