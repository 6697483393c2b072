"""Attention operators of com.microsoft, which ONNX Runtime's optimizers write for transformers."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.registry import MICROSOFT, op

FILTER = -10000.0  # what masked scores get by default


def _heads(x: Any, count: int) -> Any:
    """[batch, length, count * size] → [batch, count, length, size]."""
    sizes = tf.shape(x)
    return tf.transpose(tf.reshape(x, [sizes[0], sizes[1], count, x.shape[-1] // count]), [0, 2, 1, 3])


def _merged(x: Any) -> Any:
    """[batch, heads, length, size] → [batch, length, heads * size]."""
    sizes = tf.shape(x)
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [sizes[0], sizes[2], x.shape[1] * x.shape[3]])


def _attend(q: Any, k: Any, v: Any, call: Any, added: list[Any]) -> Any:
    """Softmax of the scaled products of queries and keys, plus what is `added` to them, times the values; all
    [batch, heads, length, size]."""
    scale = call.get("scale", 0.0) or 1 / np.sqrt(int(q.shape[-1]))
    products = tf.matmul(q, k, transpose_b=True) * scalar(scale, q)
    for x in added:
        products = products + x
    if call.get("unidirectional", 0):
        lengths = tf.shape(products)[2:]
        rows = tf.range(lengths[0])[:, None] + lengths[1] - lengths[0]
        products = tf.where(tf.range(lengths[1]) <= rows, products, products.dtype.min)
    return tf.matmul(tf.nn.softmax(products), v)


def _masked(mask: Any, call: Any, length: Any, dtype: Any) -> Any:
    """What to add to the scores, broadcastable to [batch, heads, queries, keys]; `mask` has 0 where a key is masked, or
    the lengths of the sequences."""
    mask = tf.cast(tensor(mask), tf.int32)
    if mask.shape.rank == 1:
        mask = tf.cast(tf.range(length) < mask[:, None], tf.int32)
    if mask.shape.rank not in (2, 3):
        raise ValueError(f"a mask of {mask.shape.rank} axes")
    keep = mask[:, None, None] if mask.shape.rank == 2 else mask[:, None]
    return tf.where(keep > 0, tf.zeros([], dtype), tf.constant(call.get("mask_filter_value", FILTER), dtype))


def _lengths_only(mask: Any, batch: Any) -> None:
    if mask is not None and len(mask.shape) == 1 and None not in (mask.shape[0], batch) and mask.shape[0] != batch:
        raise ValueError("a mask of start and end positions")


@op("Attention", domain=MICROSOFT)
def attention(
    call: Any, x: Any, weight: Any, bias: Any = None, mask: Any = None, past: Any = None, added: Any = None,
    past_length: Any = None,
) -> Any:  # fmt: skip
    x, weight = tensor(x), tensor(weight)
    sizes = tf.shape(x)
    flat = tf.matmul(tf.reshape(x, [-1, weight.shape[0]]), weight)
    flat = flat if bias is None else flat + tensor(bias)
    projected = tf.reshape(flat, [sizes[0], sizes[1], weight.shape[1]])
    return self_attention(call, projected, mask, past, added)


def self_attention(call: Any, projected: Any, mask: Any, past: Any, added: Any) -> Any:
    """The attention of [batch, length, queries, keys and values side by side]."""
    if call.get("do_rotary", 0) or call.get("past_present_share_buffer", 0):
        raise ValueError("rotary positions or a shared buffer of past keys")
    count, width = call.get("num_heads"), int(projected.shape[-1])
    _lengths_only(mask, projected.shape[0])
    q, k, v = (
        _heads(part, count) for part in tf.split(projected, call.get("qkv_hidden_sizes") or [width // 3] * 3, -1)
    )
    if past is not None:
        past = tensor(past)
        k, v = tf.concat([past[0], k], 2), tf.concat([past[1], v], 2)
    parts = [] if mask is None else [_masked(mask, call, tf.shape(k)[2], q.dtype)]
    parts += [] if added is None else [tensor(added)]
    result = _merged(_attend(q, k, v, call, parts))
    return [result, tf.stack([k, v])] if call.wants(1) else [result]


@op("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(
    call: Any, query: Any, key: Any = None, value: Any = None, bias: Any = None, mask: Any = None, added: Any = None,
    past_key: Any = None, past_value: Any = None, *rest: Any,
) -> Any:  # fmt: skip
    """Keys and values may come with their heads apart, [batch, heads, length, size]: then they are complete."""
    if any(x is not None for x in rest) or call.wants(3):
        raise ValueError("a shared buffer of past keys, or scores as an output")
    count, query = call.get("num_heads"), tensor(query)
    if query.shape.rank == 5:  # [batch, length, heads, 3, size]
        query, key, value = (_flat(query[:, :, :, i]) for i in range(3))
    elif key is not None and len(key.shape) == 5:
        key, value = (_flat(tensor(key)[:, :, :, i]) for i in range(2))
    if key is None or value is None:
        raise ValueError("no keys or no values")
    key, value = tensor(key), tensor(value)
    _lengths_only(mask, query.shape[0])
    if bias is not None:
        widths = [int(query.shape[-1])] * 2
        bias = tensor(bias)
        query = query + bias[: widths[0]]
        if key.shape.rank == 3:
            key, value = key + bias[widths[0] : 2 * widths[0]], value + bias[2 * widths[0] :]
    q = _heads(query, count)
    k, v = (x if x.shape.rank == 4 else _heads(x, count) for x in (key, value))
    if past_key is not None:
        k, v = tf.concat([tensor(past_key), k], 2), tf.concat([tensor(past_value), v], 2)
    parts = [] if mask is None else [_masked(mask, call, tf.shape(k)[2], q.dtype)]
    parts += [] if added is None else [tensor(added)]
    return [_merged(_attend(q, k, v, call, parts)), k, v][: max(1, call.outputs)]


def _flat(x: Any) -> Any:
    sizes = tf.shape(x)
    return tf.reshape(x, [sizes[0], sizes[1], x.shape[2] * x.shape[3]])


@op("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(call: Any, x: Any, positions: Any, cosines: Any, sines: Any) -> Any:
    """Rotates pairs of each head's elements by angles that depend on the position: pairs of the halves, or of
    neighbours (interleaved)."""
    if call.get("is_packed_batching", 0):
        raise ValueError("packed batches")
    x, cosines, sines = tensor(x), tensor(cosines), tensor(sines)
    apart = x.shape.rank == 4  # [batch, heads, length, size]
    rotated_size = call.get("rotary_embedding_dim", 0) or 2 * int(cosines.shape[-1])
    if apart:
        heads = x
    else:
        count = call.get("num_heads", 0) or int(x.shape[-1]) // rotated_size
        heads = _heads(x, count)
    positions = tf.cast(tensor(positions), tf.int32)
    if positions.shape.rank == 1:  # the position of the first
        positions = (positions + tf.range(tf.shape(heads)[2]))[None]
    result = _rotated(heads, positions, cosines, sines, rotated_size, bool(call.get("interleaved", 0)))
    return tf.ensure_shape(result if apart else _merged(result), x.shape)


def _rotated(heads: Any, positions: Any, cosines: Any, sines: Any, size: int, interleaved: bool) -> Any:
    """[batch, heads, length, size] with the first `size` elements rotated; `positions`: [batch or 1, length]."""
    cos, sin = (tf.gather(cache, positions)[:, None] for cache in (cosines, sines))
    part, rest = heads[..., :size], heads[..., size:]
    if interleaved:
        a, b = part[..., ::2], part[..., 1::2]
        rotated = tf.stack([a * cos - b * sin, b * cos + a * sin], -1)
        rotated = tf.reshape(rotated, tf.concat([tf.shape(a)[:-1], [size]], 0))
    else:
        a, b = tf.split(part, 2, -1)
        rotated = tf.concat([a * cos - b * sin, b * cos + a * sin], -1)
    return tf.concat([rotated, rest], -1)


@op("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(
    call: Any, query: Any, key: Any, value: Any, past_key: Any, past_value: Any, last: Any, total: Any,
    cosines: Any = None, sines: Any = None, positions: Any = None, added: Any = None, *rest: Any,
) -> Any:  # fmt: skip
    """Causal attention in which several heads share keys and values. `last`: the index of each example's last key;
    `total`: the length of the longest with its past, which the new keys and values are written behind."""
    if any(x is not None for x in rest) or call.get("smooth_softmax", 0) or call.wants(3):
        raise ValueError("head sinks, smooth softmax, quantized or normalised keys, or scores as an output")
    count, shared, query = call.get("num_heads"), call.get("kv_num_heads"), tensor(query)
    if key is None:
        size = int(query.shape[-1]) // (count + 2 * shared)
        query, key, value = tf.split(query, [count * size, shared * size, shared * size], -1)
    q, k, v = _heads(query, count), _heads(tensor(key), shared), _heads(tensor(value), shared)
    length = tf.shape(q)[2]
    before = tf.cast(tf.reshape(last, [-1]), tf.int32) + 1 - length if past_key is not None else None
    # Without a past, shorter examples are padded at the end.
    first = tf.zeros(tf.shape(q)[:1], tf.int32) if before is None else tf.maximum(before, 0)
    place = first[:, None] + tf.range(length)
    if call.get("do_rotary", 0):
        turned = place if positions is None else tf.cast(positions, tf.int32)
        cosines, sines = tensor(cosines), tensor(sines)
        rotated_size, interleaved = 2 * int(cosines.shape[-1]), bool(call.get("rotary_interleaved", 0))
        q, k = (_rotated(x, turned, cosines, sines, rotated_size, interleaved) for x in (q, k))
    if past_key is not None:
        k, v = _behind(tensor(past_key), k, place, total), _behind(tensor(past_value), v, place, total)
    products = tf.matmul(q, tf.repeat(k, count // shared, 1), transpose_b=True)
    products = products * scalar(call.get("scale", 0.0) or 1 / np.sqrt(int(q.shape[-1])), q)
    cap, window = call.get("softcap", 0.0), call.get("local_window_size", -1)
    products = scalar(cap, q) * tf.tanh(products / scalar(cap, q)) if cap else products
    products = products if added is None else products + tensor(added)
    keys = tf.range(tf.shape(k)[2])
    visible = keys <= place[..., None] if call.get("causal", 1) else keys < first[:, None, None] + length
    if window > 0:
        visible = tf.logical_and(visible, keys > place[..., None] - window)
    scores = tf.nn.softmax(tf.where(visible[:, None], products, products.dtype.min))
    return [_merged(tf.matmul(scores, tf.repeat(v, count // shared, 1))), k, v][: max(1, call.outputs)]


def _behind(past: Any, new: Any, place: Any, total: Any) -> Any:
    """The past, made as long as `total`, with what is new written at its places; [batch, heads, length, size]."""
    missing = tf.maximum(tf.cast(tf.reshape(total, []), tf.int32) - tf.shape(past)[2], 0)
    longer = tf.transpose(tf.pad(past, [[0, 0], [0, 0], [0, missing], [0, 0]]), [0, 2, 1, 3])
    row = tf.broadcast_to(tf.range(tf.shape(place)[0])[:, None], tf.shape(place))
    written = tf.tensor_scatter_nd_update(longer, tf.stack([row, place], -1), tf.transpose(new, [0, 2, 1, 3]))
    return tf.ensure_shape(tf.transpose(written, [0, 2, 1, 3]), [*past.shape[:2], None, past.shape[3]])


@op("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(
    call: Any, ids: Any, segments: Any, words: Any, places: Any, kinds: Any, gamma: Any, beta: Any, mask: Any = None,
    positions: Any = None,
) -> Any:  # fmt: skip
    """The sum of embeddings of words, positions and segments, normalised; and how many tokens the mask keeps."""
    ids = tensor(ids)
    length = tf.shape(ids)[1]
    by_place = tensor(places)[:length][None] if positions is None else tf.gather(tensor(places), positions)
    total = tf.gather(tensor(words), ids) + by_place
    if segments is not None and kinds is not None:
        total = total + tf.gather(tensor(kinds), segments)
    mean = tf.reduce_mean(total, -1, True)
    centred = total - mean
    inverse = tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, True) + scalar(call.get("epsilon", 1e-12), total))
    result = centred * inverse * tensor(gamma) + tensor(beta)
    kept = (
        tf.zeros_like(ids[:, 0], tf.int32) if mask is None else tf.reduce_sum(tf.cast(tensor(mask) == 1, tf.int32), 1)
    )
    return [result, kept, total][: max(1, call.outputs)]
