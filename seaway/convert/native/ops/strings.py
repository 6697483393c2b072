"""String operators and TfIdfVectorizer."""

import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import tensor
from seaway.convert.native.registry import ELEMENTWISE, op


@op("StringConcat", kind=ELEMENTWISE)
def string_concat(call: Any, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    sizes = tf.broadcast_dynamic_shape(tf.shape(a), tf.shape(b))
    result = tf.strings.join([tf.broadcast_to(a, sizes), tf.broadcast_to(b, sizes)])
    return tf.ensure_shape(result, tf.broadcast_static_shape(a.shape, b.shape))


@op("StringSplit")
def string_split(call: Any, x: Any) -> Any:
    """The parts, padded with empty strings to [..., maximum number of parts], and the number of parts."""
    x = tensor(x)
    delimiter, max_splits = call.get("delimiter") or None, call.get("maxsplit")
    flat = tf.reshape(x, [-1])
    if delimiter is None and max_splits is not None:
        # TensorFlow keeps leading whitespace, and adds an empty part if splits remain.
        parts = tf.strings.split(tf.strings.regex_replace(flat, r"^\s+", ""), None, max_splits)
        parts = tf.ragged.boolean_mask(parts, tf.not_equal(parts, ""))
    else:
        parts = tf.strings.split(flat, delimiter, -1 if max_splits is None else max_splits)
    counts = parts.row_lengths()
    rows = parts.to_tensor(default_value="")
    width = tf.shape(rows, tf.int64)[1]
    sizes = tf.shape(x, tf.int64)
    result = tf.reshape(rows, tf.concat([sizes, [width]], 0))
    return [tf.ensure_shape(result, [*x.shape, None]), tf.reshape(tf.cast(counts, tf.int64), sizes)]


@op("RegexFullMatch", kind=ELEMENTWISE)
def regex(call: Any, x: Any) -> Any:
    return tf.strings.regex_full_match(tensor(x), call.get("pattern"))


@op("StringNormalizer")
def string_normalizer(call: Any, x: Any) -> Any:
    """Removes stop words, then changes the case; returns one empty string if nothing remains."""
    x, change = tensor(x), call.get("case_change_action", "NONE")
    cases: dict[str, Any] = {"NONE": lambda s: s, "LOWER": _lower, "UPPER": lambda s: tf.strings.upper(s, "utf-8")}
    words, exact = call.get("stopwords") or [], bool(call.get("is_case_sensitive", 0))
    flat = tf.reshape(x, [-1])
    if words:
        keys = flat if exact else _lower(flat)
        stopwords = tf.constant([word.encode("utf-8", "surrogateescape") for word in words])
        stopwords = stopwords if exact else _lower(stopwords)
        stopped = tf.reduce_any(keys[:, None] == stopwords, 1)
        flat = tf.boolean_mask(flat, tf.logical_not(stopped))
        flat = tf.cond(tf.size(flat) > 0, lambda: flat, lambda: tf.constant([""]))
    result = cases[change](flat)
    return result[None] if x.shape.rank == 2 else result


def _lower(x: Any) -> Any:
    return tf.strings.lower(x, "utf-8")


@op("TfIdfVectorizer")
def tf_idf(call: Any, x: Any) -> Any:
    """Counts a pool's n-grams, matched word by word: an n-gram is the id of its prefix and one more word."""
    x = tensor(x)
    rows = x if x.shape.rank == 2 else x[None]
    pool = call.get("pool_strings")
    pool = np.array(call.get("pool_int64s"), np.int64) if pool is None else np.array([w.encode() for w in pool], object)
    columns, starts = np.array(call.get("ngram_indexes"), np.int64), [*call.get("ngram_counts"), len(pool)]
    vocabulary = sorted(set(pool.tolist()))
    tokens, pool_ids = _words(rows, vocabulary), np.array([vocabulary.index(w) for w in pool.tolist()], np.int64)
    first, last, skips = call.get("min_gram_length"), call.get("max_gram_length"), call.get("max_skip_count", 0)
    width, offset = int(columns.max()) + 1, 0
    weights, total = np.ones(width, np.float32), tf.zeros([tf.shape(rows)[0], width])
    for n, (begin, end) in enumerate(itertools.pairwise(starts), start=1):
        grams = pool_ids[begin:end].reshape(-1, n)
        gram_columns = columns[offset : offset + len(grams)]
        if call.get("weights"):
            weights[gram_columns] = call.get("weights")[offset : offset + len(grams)]
        offset += len(grams)
        if not first <= n <= last or not len(grams):
            continue
        for distance in range(1, 2 if n == 1 else skips + 2):
            total += _counted(tokens, grams, gram_columns, width, distance, len(vocabulary))
    mode = call.get("mode")
    if mode == "IDF":
        total = tf.cast(total > 0, tf.float32)
    result = total if mode == "TF" else total * weights
    return tf.ensure_shape(result, [x.shape[0], width]) if x.shape.rank == 2 else result[0]


def _words(x: Any, vocabulary: list[Any]) -> Any:
    """Each word's index in the vocabulary; -1 if it is not there."""
    if x.dtype != tf.string:
        return _lookup(tf.cast(x, tf.int64), np.array(vocabulary, np.int64))
    indices = tf.argmax(tf.cast(x[..., None] == tf.constant(vocabulary), tf.int8), -1)
    return tf.where(tf.gather(tf.constant(vocabulary), indices) == x, indices, np.int64(-1))


def _lookup(x: Any, known: np.ndarray) -> Any:
    """The index of each element in the sorted `known`; -1 if it is not there."""
    flat = tf.reshape(x, [-1])
    indices = tf.minimum(tf.searchsorted(tf.constant(known), flat, out_type=tf.int64), len(known) - 1)
    indices = tf.where(tf.gather(tf.constant(known), indices) == flat, indices, np.int64(-1))
    return tf.reshape(indices, tf.shape(x))


def _counted(tokens: Any, grams: np.ndarray, columns: np.ndarray, width: int, distance: int, base: int) -> Any:
    """[rows, width]: how often each n-gram occurs with its words `distance` apart."""
    n = grams.shape[1]
    count = tf.maximum(tf.shape(tokens)[1] - distance * (n - 1), 0)
    prefix_ids, matched = grams[:, 0], tokens[:, :count]
    for i in range(1, n):
        keys = prefix_ids * base + grams[:, i]
        unique, prefix_ids = np.unique(keys, return_inverse=True)
        following = tokens[:, distance * i : distance * i + count]
        key = tf.where(tf.logical_or(matched < 0, following < 0), np.int64(-1), matched * base + following)
        matched = _lookup(key, unique)
    targets = np.full(max(int(prefix_ids.max()), base if n == 1 else 0) + 1, -1, np.int64)
    targets[prefix_ids] = columns
    column = tf.where(matched < 0, np.int64(-1), tf.gather(tf.constant(targets), tf.maximum(matched, 0)))
    return tf.reduce_sum(tf.one_hot(column, width), 1)
