"""Preparation of features in ai.onnx.ml: scaling, filling in, encoding."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.ops import scores
from seaway.convert.native.registry import ML, op


@op("Scaler", domain=ML)
def scaler(call: Any, x: Any) -> Any:
    """(x - offset) · scale as float32."""
    x = tensor(x)
    if x.shape.rank > 2:
        raise ValueError(f"an input of {x.shape.rank} axes")
    x = x if x.dtype == tf.float64 else tf.cast(x, tf.float32)
    offset, scale = (tf.cast(scores.floats(call, name), x.dtype) for name in ("offset", "scale"))
    return tf.cast((x - offset) * scale, tf.float32)


@op("Normalizer", domain=ML)
def normalizer(call: Any, x: Any) -> Any:
    """Rows divided by their maximum, sum of absolute values, or length; rows where that is 0 stay."""
    given = tensor(x)
    x = tf.cast(scores.as_rows(given), tf.float32)
    norm = call.get("norm", "MAX")
    if norm == "MAX":
        size = tf.reduce_max(tf.where(tf.math.is_nan(x), x.dtype.min, x), 1, True)  # ONNX Runtime skips NaN here
    elif norm == "L1":
        size = tf.reduce_sum(tf.abs(x), 1, True)
    elif norm == "L2":
        size = tf.sqrt(tf.reduce_sum(x * x, 1, True))
    else:
        raise ValueError(f"the norm {norm}")
    return tf.reshape(x / tf.where(tf.equal(size, 0), tf.ones_like(size), size), tf.shape(given))


@op("Binarizer", domain=ML)
def binarizer(call: Any, x: Any) -> Any:
    x = tensor(x)
    return tf.cast(x > scalar(call.get("threshold", 0.0), x), x.dtype)


@op("Imputer", domain=ML)
def imputer(call: Any, x: Any) -> Any:
    """Other values in place of one that stands for a missing one, per column or the same for all."""
    x = tensor(x)
    floating = x.dtype.is_floating
    filling = call.get("imputed_value_floats" if floating else "imputed_value_int64s")
    if not filling:
        raise ValueError(f"no imputed values for an input of type {x.dtype.name}")
    replaced = np.asarray(
        call.get("replaced_value_float", 0.0) if floating else call.get("replaced_value_int64", 0),
        x.dtype.as_numpy_dtype,
    )
    values = np.asarray(np.float32(filling) if floating else filling, x.dtype.as_numpy_dtype)
    width = x.shape[1] if x.shape.rank > 1 else x.shape[0]
    if width is None and len(values) > 1:
        width = len(values)
    values = values if len(values) == width and x.shape.rank <= 2 else values[0]
    missing = tf.math.is_nan(x) if floating and np.isnan(replaced) else tf.equal(x, replaced)
    return tf.where(missing, values, x)


@op("FeatureVectorizer", domain=ML)
def feature_vectorizer(call: Any, *inputs: Any) -> Any:
    """Columns side by side as float32, each input cut or padded with 0 to its given number of columns."""
    columns = []
    for x, width in zip(inputs, call.get("inputdimensions"), strict=True):
        rows = tf.cast(tensor(x), tf.float32)
        rows = rows[None] if rows.shape.rank == 1 else rows
        if rows.shape.rank > 2:
            rows = tf.reshape(rows, [-1, int(np.prod(rows.shape[1:]))])
        rows = rows[:, :width]
        columns.append(tf.ensure_shape(tf.pad(rows, [[0, 0], [0, width - tf.shape(rows)[1]]]), [None, width]))
    return tf.concat(columns, 1)


@op("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(call: Any, x: Any, indices: Any) -> Any:
    """Elements along the last axis; of a vector, as one row."""
    x, flat = tensor(x), tf.reshape(indices, [-1])
    return tf.gather(x[None] if x.shape.rank == 1 else x, flat, axis=-1)


# Encoders


def position(x: Any, keys: np.ndarray, nan_equals_nan: bool = True) -> Any:
    """int64: which key each element equals, the first of equal ones; -1 if none. `keys`: numbers in the type of `x`, or
    an object array of bytes."""
    x = tensor(x)
    if not len(keys):
        return tf.fill(tf.shape(x), np.int64(-1))
    if x.dtype == tf.string:
        return _position_of_strings(x, keys)
    if x.dtype not in (tf.float32, tf.float64, tf.int32, tf.int64):
        wide = tf.int64 if x.dtype.is_integer or x.dtype == tf.bool else tf.float32
        return position(tf.cast(x, wide), keys.astype(wide.as_numpy_dtype), nan_equals_nan)
    sorted_keys, first = np.unique(keys, return_index=True)  # NaN last
    nan = first[np.isnan(sorted_keys)] if keys.dtype.kind == "f" else first[:0]
    found = _found(x, sorted_keys[: len(first) - len(nan)], first)
    return tf.where(tf.math.is_nan(x), np.int64(nan[0]), found) if len(nan) and nan_equals_nan else found


def _found(x: Any, sorted_keys: np.ndarray, numbers: np.ndarray) -> Any:
    if not len(sorted_keys):
        return tf.fill(tf.shape(x), np.int64(-1))
    at = tf.searchsorted(tf.constant(sorted_keys), tf.reshape(x, [-1]))
    at = tf.reshape(tf.minimum(at, len(sorted_keys) - 1), tf.shape(x))
    same = tf.equal(tf.gather(tf.constant(sorted_keys), at), x)
    return tf.where(same, tf.gather(tf.constant(numbers.astype(np.int64)), at), np.int64(-1))


def _position_of_strings(x: Any, keys: np.ndarray) -> Any:
    """By fingerprints, which can be sorted; the strings themselves are compared afterwards."""
    first: dict[bytes, int] = {}
    for number, key in enumerate(keys.tolist()):
        first.setdefault(key, number)
    known, numbers = tf.constant(list(first), tf.string), np.array(list(first.values()), np.int64)
    with tf.init_scope():
        prints = _fingerprints(tf.constant(list(first), tf.string)).numpy()
    if len(np.unique(prints)) < len(prints):
        raise ValueError("two categories have the same fingerprint")
    order = np.argsort(prints)
    at = _found(_fingerprints(x), prints[order], order)
    same = tf.logical_and(at >= 0, tf.equal(tf.gather(known, tf.maximum(at, 0)), x))
    return tf.where(same, tf.gather(tf.constant(numbers), tf.maximum(at, 0)), np.int64(-1))


def _fingerprints(x: Any) -> Any:
    return tf.strings.to_hash_bucket_fast(x, 2**63 - 1)


def words(listed: Any) -> np.ndarray:
    """Strings of an attribute, a list or a tensor, as an object array of bytes."""
    flat = np.asarray(listed, object).reshape(-1)
    return np.array([w if isinstance(w, bytes) else w.encode("utf-8", "surrogateescape") for w in flat], object)


def _constant(array: np.ndarray) -> Any:
    return tf.constant(array.tolist(), tf.string) if array.dtype == object else tf.constant(array)


def mapped(x: Any, keys: np.ndarray, values: np.ndarray, default: Any, nan_equals_nan: bool = True) -> Any:
    """The value of each element's key, or the default."""
    at = position(x, keys, nan_equals_nan)
    with_default = np.append(values, np.array([default], values.dtype))
    return tf.gather(_constant(with_default), tf.where(at < 0, np.int64(len(values)), at))


KINDS: tuple[tuple[str, Any, Any], ...] = (
    ("string", words, b"_Unused"), ("int64", lambda n: np.array(n, np.int64), -1),
    ("float", lambda n: np.array(n, np.float32), -0.0),
)  # fmt: skip


@op("LabelEncoder", since=2, domain=ML)
def label_encoder(call: Any, x: Any) -> Any:
    keys, _ = _listed(call, "keys")
    values, default = _listed(call, "values")
    if len(keys) != len(values):
        raise ValueError(f"{len(keys)} keys, but {len(values)} values")
    if call.get("default_tensor") is not None:
        default = call.get("default_tensor").reshape(-1)[0]
        default = words([default])[0] if values.dtype == object else default
    x = tensor(x)
    if x.dtype != tf.string:
        keys = keys.astype(x.dtype.as_numpy_dtype)
    return mapped(x, keys, values, default, nan_equals_nan=call.since >= 4)


def _listed(call: Any, side: str) -> tuple[np.ndarray, Any]:
    """The keys or values, and the default for their type."""
    given = call.get(f"{side}_tensor")
    if given is not None:
        if given.dtype.kind in "OSU":
            return words(given), call.get("default_string", "_Unused").encode()
        default = call.get("default_int64", -1) if given.dtype.kind in "iu" else call.get("default_float", -0.0)
        return given.reshape(-1), default
    for kind, read, default in KINDS:
        listed = call.get(f"{side}_{kind}s")
        if listed is not None:
            own = call.get(f"default_{kind}")
            return read(listed), default if own is None else (own.encode() if kind == "string" else own)
    raise ValueError(f"it has no {side}")


@op("LabelEncoder", since=1, domain=ML)
def label_encoder_old(call: Any, x: Any) -> Any:
    """Strings to their numbers, or back."""
    classes = words(call.get("classes_strings"))
    return _either_way(call, x, classes, np.arange(len(classes)))


@op("CategoryMapper", domain=ML)
def category_mapper(call: Any, x: Any) -> Any:
    return _either_way(call, x, words(call.get("cats_strings")), np.array(call.get("cats_int64s"), np.int64))


def _either_way(call: Any, x: Any, texts: np.ndarray, numbers: np.ndarray) -> Any:
    """Of equal keys the last counts."""
    texts, numbers, x = texts[::-1], numbers[::-1], tensor(x)
    if x.dtype == tf.string:
        return mapped(x, texts, numbers, call.get("default_int64", -1))
    return mapped(x, numbers, texts, call.get("default_string", "_Unused").encode("utf-8", "surrogateescape"))


@op("OneHotEncoder", domain=ML)
def one_hot_encoder(call: Any, x: Any) -> Any:
    """[..., categories] float32; an unknown category is all 0, or with zeros=0 an error."""
    x = tensor(x)
    if x.dtype == tf.string:
        keys = words(call.get("cats_strings") or [])
    else:
        x, keys = tf.cast(x, tf.int64), np.array(call.get("cats_int64s") or [], np.int64)
    if not len(keys):
        raise ValueError(f"it has no categories of type {x.dtype.name}")
    at = len(keys) - 1 - position(x, keys[::-1])  # of equal categories the last counts
    if not call.get("zeros", 1):
        known = tf.reduce_all(at < len(keys))
        with tf.control_dependencies([tf.debugging.Assert(known, ["OneHotEncoder: unknown category"])]):
            at = tf.identity(at)
    return tf.one_hot(at, len(keys))
