"""Strings, and counts of what follows what."""

import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import tensor
from seaway.convert.native.table import ELEMENTWISE, op


@op("StringConcat", kind=ELEMENTWISE)
def string_concat(call: Any, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    sizes = tf.broadcast_dynamic_shape(tf.shape(a), tf.shape(b))
    got = tf.strings.join([tf.broadcast_to(a, sizes), tf.broadcast_to(b, sizes)])
    return tf.ensure_shape(got, tf.broadcast_static_shape(a.shape, b.shape))


@op("StringSplit")
def string_split(call: Any, x: Any) -> Any:
    """[..., most parts], filled up with empty strings, and how many parts there are."""
    x = tensor(x)
    delimiter, most = call.get("delimiter") or None, call.get("maxsplit")
    flat = tf.reshape(x, [-1])
    if delimiter is None and most is not None:
        # TensorFlow leaves the space before a string, and adds an empty part where splits remain.
        parts = tf.strings.split(tf.strings.regex_replace(flat, r"^\s+", ""), None, most)
        parts = tf.ragged.boolean_mask(parts, tf.not_equal(parts, ""))
    else:
        parts = tf.strings.split(flat, delimiter, -1 if most is None else most)
    counts = parts.row_lengths()
    rows = parts.to_tensor(default_value="")
    width = tf.shape(rows, tf.int64)[1]
    sizes = tf.shape(x, tf.int64)
    got = tf.reshape(rows, tf.concat([sizes, [width]], 0))
    return [tf.ensure_shape(got, [*x.shape, None]), tf.reshape(tf.cast(counts, tf.int64), sizes)]


@op("RegexFullMatch", kind=ELEMENTWISE)
def regex(call: Any, x: Any) -> Any:
    return tf.strings.regex_full_match(tensor(x), call.get("pattern"))


@op("StringNormalizer")
def string_normalizer(call: Any, x: Any) -> Any:
    """Stop words are left out, then the case is changed; where nothing is left, one empty string is."""
    x, change = tensor(x), call.get("case_change_action", "NONE")
    cases: dict[str, Any] = {"NONE": lambda s: s, "LOWER": _lower, "UPPER": lambda s: tf.strings.upper(s, "utf-8")}
    words, exact = call.get("stopwords") or [], bool(call.get("is_case_sensitive", 0))
    flat = tf.reshape(x, [-1])
    if words:
        own = flat if exact else _lower(flat)
        listed = tf.constant([word.encode("utf-8", "surrogateescape") for word in words])
        listed = listed if exact else _lower(listed)
        stopped = tf.reduce_any(own[:, None] == listed, 1)
        flat = tf.boolean_mask(flat, tf.logical_not(stopped))
        flat = tf.cond(tf.size(flat) > 0, lambda: flat, lambda: tf.constant([""]))
    got = cases[change](flat)
    return got[None] if x.shape.rank == 2 else got


def _lower(x: Any) -> Any:
    return tf.strings.lower(x, "utf-8")


@op("TfIdfVectorizer")
def tf_idf(call: Any, x: Any) -> Any:
    """Counts of a pool's n-grams, found word by word: an n-gram is what it begins with, by its number, and a word."""
    x = tensor(x)
    rows = x if x.shape.rank == 2 else x[None]
    pool = call.get("pool_strings")
    pool = np.array(call.get("pool_int64s"), np.int64) if pool is None else np.array([w.encode() for w in pool], object)
    columns, starts = np.array(call.get("ngram_indexes"), np.int64), [*call.get("ngram_counts"), len(pool)]
    vocabulary = sorted(set(pool.tolist()))
    words, numbered = _words(rows, vocabulary), np.array([vocabulary.index(w) for w in pool.tolist()], np.int64)
    first, last, skips = call.get("min_gram_length"), call.get("max_gram_length"), call.get("max_skip_count", 0)
    width, before = int(columns.max()) + 1, 0
    weights, total = np.ones(width, np.float32), tf.zeros([tf.shape(rows)[0], width])
    for n, (begin, end) in enumerate(itertools.pairwise(starts), start=1):
        grams = numbered[begin:end].reshape(-1, n)
        own = columns[before : before + len(grams)]
        if call.get("weights"):
            weights[own] = call.get("weights")[before : before + len(grams)]
        before += len(grams)
        if not first <= n <= last or not len(grams):
            continue
        for distance in range(1, 2 if n == 1 else skips + 2):
            total += _counted(words, grams, own, width, distance, len(vocabulary))
    mode = call.get("mode")
    if mode == "IDF":
        total = tf.cast(total > 0, tf.float32)
    got = total if mode == "TF" else total * weights
    return tf.ensure_shape(got, [x.shape[0], width]) if x.shape.rank == 2 else got[0]


def _words(x: Any, vocabulary: list[Any]) -> Any:
    """Each word's place in the vocabulary, -1 for one that is not there."""
    if x.dtype != tf.string:
        return _found(tf.cast(x, tf.int64), np.array(vocabulary, np.int64))
    places = tf.argmax(tf.cast(x[..., None] == tf.constant(vocabulary), tf.int8), -1)
    return tf.where(tf.gather(tf.constant(vocabulary), places) == x, places, np.int64(-1))


def _found(x: Any, known: np.ndarray) -> Any:
    """The place of each among `known`, which are sorted, -1 for one that is not there."""
    flat = tf.reshape(x, [-1])
    places = tf.minimum(tf.searchsorted(tf.constant(known), flat, out_type=tf.int64), len(known) - 1)
    places = tf.where(tf.gather(tf.constant(known), places) == flat, places, np.int64(-1))
    return tf.reshape(places, tf.shape(x))


def _counted(words: Any, grams: np.ndarray, columns: np.ndarray, width: int, distance: int, base: int) -> Any:
    """[rows, width]: how often each n-gram is among the words that stand `distance` apart."""
    n = grams.shape[1]
    count = tf.maximum(tf.shape(words)[1] - distance * (n - 1), 0)
    known, held = grams[:, 0], words[:, :count]
    for i in range(1, n):
        keys = known * base + grams[:, i]
        unique, known = np.unique(keys, return_inverse=True)
        following = words[:, distance * i : distance * i + count]
        key = tf.where(tf.logical_or(held < 0, following < 0), np.int64(-1), held * base + following)
        held = _found(key, unique)
    targets = np.full(max(int(known.max()), base if n == 1 else 0) + 1, -1, np.int64)
    targets[known] = columns
    column = tf.where(held < 0, np.int64(-1), tf.gather(tf.constant(targets), tf.maximum(held, 0)))
    return tf.reduce_sum(tf.one_hot(column, width), 1)
