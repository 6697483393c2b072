"""The graphs of abort_hunt.py: name → its inputs as a model would declare them, and the operator over them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seaway.serve.backends.savedmodel import tf

F, I32, I64, S = tf.float32, tf.int32, tf.int64, tf.string
RAW = tf.raw_ops
Spec = tuple[Any, list[int | None]]
Case = tuple[list[Spec], Callable[..., Any]]


def weights(*shape: int) -> Any:
    return tf.constant(np.random.default_rng(0).normal(size=shape), F)


def image(operator: Callable[..., Any]) -> Case:
    return [(F, [None, 8, 8, 3])], operator


def volume(operator: Callable[..., Any]) -> Case:
    return [(F, [None, 4, 8, 8, 3])], operator


def rows(operator: Callable[..., Any]) -> Case:
    return [(F, [None, 4])], operator


def table(operator: Callable[..., Any], *more: Spec) -> Case:
    """An input of rows, and integer inputs that control the operator."""
    return [(F, [None, 4]), *(more or [(I32, [None])])], operator


def text(operator: Callable[..., Any]) -> Case:
    return [(S, [])], operator


def dense(x: Any) -> Any:
    return tf.matmul(x, weights(4, 5)) + weights(5)


def layer_norm(x: Any) -> Any:
    mean = tf.reduce_mean(x, -1, keepdims=True)
    spread = tf.reduce_mean(tf.math.squared_difference(x, mean), -1, keepdims=True)
    return (x - mean) * tf.math.rsqrt(spread + 1e-5)


def loop(x: Any, n: Any) -> Any:
    return tf.while_loop(lambda i, _: i < tf.minimum(n, 9), lambda i, y: (i + 1, y @ weights(4, 4)), (0, x))[1]


def examples(s: Any) -> Any:
    return tf.io.parse_example(s, {"x": tf.io.FixedLenFeature([2], F, [0.0, 0.0])})["x"]


CASES: dict[str, Case] = {
    "Conv2D": image(lambda x: tf.nn.conv2d(x, weights(3, 3, 3, 4), 1, "SAME")),
    "Conv2D valid": image(lambda x: tf.nn.conv2d(x, weights(3, 3, 3, 4), 2, "VALID")),
    "Conv2D 1x1": image(lambda x: tf.nn.conv2d(x, weights(1, 1, 3, 4), 1, "VALID")),
    "Conv2D+BiasAdd+Relu": image(
        lambda x: tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, weights(3, 3, 3, 4), 1, "SAME"), weights(4)))
    ),
    "Conv2D explicit pads": image(lambda x: tf.nn.conv2d(x, weights(3, 3, 3, 4), 1, [[0, 0], [1, 1], [1, 1], [0, 0]])),
    "Conv2D dilated": image(lambda x: tf.nn.conv2d(x, weights(3, 3, 3, 4), 1, "SAME", dilations=2)),
    "Pad+Conv2D": image(
        lambda x: tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), weights(3, 3, 3, 4), 1, "VALID")
    ),
    "Transpose+Conv2D": image(
        lambda x: tf.nn.conv2d(
            tf.transpose(tf.transpose(x, [0, 3, 1, 2]), [0, 2, 3, 1]), weights(3, 3, 3, 4), 1, "SAME"
        )
    ),
    "DepthwiseConv2dNative": image(lambda x: tf.nn.depthwise_conv2d(x, weights(3, 3, 3, 2), [1, 1, 1, 1], "SAME")),
    "Conv2DBackpropInput": image(
        lambda x: tf.nn.conv2d_transpose(x, weights(3, 3, 4, 3), tf.stack([tf.shape(x)[0], 16, 16, 4]), 2, "SAME")
    ),
    "Conv3D": volume(lambda x: tf.nn.conv3d(x, weights(2, 2, 2, 3, 4), [1] * 5, "SAME")),
    "MaxPool": image(lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME")),
    "AvgPool": image(lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME")),
    "MaxPoolV2": image(lambda x: RAW.MaxPoolV2(input=x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")),
    "MaxPoolWithArgmax": image(lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")[0]),
    "MaxPool3D": volume(lambda x: tf.nn.max_pool3d(x, 2, 2, "SAME")),
    "AvgPool3D": volume(lambda x: tf.nn.avg_pool3d(x, 2, 2, "SAME")),
    "FractionalMaxPool": image(lambda x: RAW.FractionalMaxPool(value=x, pooling_ratio=[1.0, 1.44, 1.73, 1.0])[0]),
    "FusedBatchNormV3": image(
        lambda x: RAW.FusedBatchNormV3(
            x=x, scale=weights(3), offset=weights(3), mean=weights(3), variance=weights(3), is_training=False
        )[0]
    ),
    "FusedBatchNormV3 training": image(
        lambda x: RAW.FusedBatchNormV3(x=x, scale=weights(3), offset=weights(3), mean=[], variance=[])[0]
    ),
    "BiasAdd": image(lambda x: tf.nn.bias_add(x, weights(3))),
    "BiasAdd NCHW": image(lambda x: tf.nn.bias_add(x, weights(8), "NCHW")),
    "LRN": image(lambda x: tf.nn.lrn(x)),
    "Dilation2D": image(
        lambda x: RAW.Dilation2D(
            input=x, filter=weights(2, 2, 3), strides=[1, 1, 1, 1], rates=[1, 1, 1, 1], padding="SAME"
        )
    ),
    "SpaceToDepth": image(lambda x: tf.nn.space_to_depth(x, 2)),
    "DepthToSpace": ([(F, [None, 4, 4, 12])], lambda x: tf.nn.depth_to_space(x, 2)),
    "ExtractImagePatches": image(
        lambda x: tf.image.extract_patches(x, [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "SAME")
    ),
    "SpaceToBatchND": image(lambda x: tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]])),
    "BatchToSpaceND": image(lambda x: tf.batch_to_space(x, [2, 2], [[0, 0], [0, 0]])),
    "ResizeBilinear": image(lambda x: tf.image.resize(x, [5, 5])),
    "ResizeNearestNeighbor": image(lambda x: tf.image.resize(x, [5, 5], "nearest")),
    "ResizeBicubic": image(lambda x: tf.image.resize(x, [5, 5], "bicubic")),
    "ResizeArea": image(lambda x: tf.image.resize(x, [5, 5], "area")),
    "ScaleAndTranslate": image(lambda x: tf.image.resize(x, [5, 5], antialias=True)),
    "ResizeBilinear size": ([(F, [None, 8, 8, 3]), (I32, [2])], lambda x, n: tf.image.resize(x, n)),
    "ResizeNearestNeighbor size": ([(F, [None, 8, 8, 3]), (I32, [2])], lambda x, n: tf.image.resize(x, n, "nearest")),
    "CropAndResize": image(lambda x: tf.image.crop_and_resize(x, [[0.0, 0.0, 1.0, 1.0]], [0], [4, 4])),
    "CropAndResize boxes": (
        [(F, [None, 4]), (I32, [None])],
        lambda boxes, which: tf.image.crop_and_resize(weights(2, 8, 8, 3), boxes, which, [4, 4]),
    ),
    "NonMaxSuppressionV3": (
        [(F, [None, 4]), (F, [None])],
        lambda boxes, scores: tf.image.non_max_suppression(boxes, scores, 10),
    ),
    "CombinedNonMaxSuppression": (
        [(F, [None, None, 1, 4]), (F, [None, None, 1])],
        lambda boxes, scores: tf.image.combined_non_max_suppression(boxes, scores, 10, 10)[0],
    ),
    "ImageProjectiveTransformV3": image(
        lambda x: RAW.ImageProjectiveTransformV3(
            images=x,
            transforms=[[1.0, 0, 0, 0, 1, 0, 0, 0]],
            output_shape=[8, 8],
            fill_value=0.0,
            interpolation="BILINEAR",
        )
    ),
    "RGBToHSV": image(lambda x: tf.image.rgb_to_hsv(x)),
    "AdjustHue": image(lambda x: tf.image.adjust_hue(x, 0.1)),
    "MatMul": rows(dense),
    "MatMul+Relu": rows(lambda x: tf.nn.relu(dense(x))),
    "MatMul+Gelu": rows(lambda x: tf.nn.gelu(dense(x), approximate=True)),
    "MatMul transposed": rows(lambda x: tf.matmul(x, weights(4, 5), transpose_a=True)),
    "BatchMatMulV2": ([(F, [None, 3, 4])], lambda x: tf.matmul(x, weights(4, 5)[None])),
    "BatchMatMulV2 two": ([(F, [None, 3, 4]), (F, [None, 4, 3])], lambda x, y: tf.matmul(x, y)),
    "attention": (
        [(F, [None, 3, 4]), (F, [None, 3, 4])],
        lambda x, y: tf.nn.softmax(tf.matmul(x, y, transpose_b=True) * 0.5) @ y,
    ),
    "layer norm": rows(layer_norm),
    "Einsum": ([(F, [None, 3, 4])], lambda x: tf.einsum("bij,jk->bik", x, weights(4, 5))),
    "Add": rows(lambda x: x + weights(3, 4)[:1]),
    "AddN": rows(lambda x: tf.add_n([x, x * 2, tf.zeros([2, 4])])),
    "Mul two": ([(F, [None, 4]), (F, [None, 4])], lambda x, y: x * y),
    "SquaredDifference": rows(lambda x: tf.math.squared_difference(x, weights(4))),
    "Softmax": rows(lambda x: tf.nn.softmax(x)),
    "LogSoftmax": rows(lambda x: tf.nn.log_softmax(x)),
    "Sum": rows(lambda x: tf.reduce_sum(x, 1)),
    "Mean": image(lambda x: tf.reduce_mean(x, [1, 2])),
    "Max": rows(lambda x: tf.reduce_max(x, [0, 1])),
    "ArgMax": rows(lambda x: tf.argmax(x, 1)),
    "Cumsum": rows(lambda x: tf.cumsum(x, 1)),
    "Cumprod": rows(lambda x: tf.math.cumprod(x, 1)),
    "L2Loss": rows(lambda x: tf.nn.l2_loss(x)),
    "Transpose": image(lambda x: tf.transpose(x, [0, 3, 1, 2])),
    "Reshape": rows(lambda x: tf.reshape(x, [-1, 2, 2])),
    "Reshape shape": table(lambda x, n: tf.reshape(x, n)),
    "ExpandDims": rows(lambda x: tf.expand_dims(x, 1)),
    "Squeeze": rows(lambda x: tf.squeeze(x[:, :1], [1])),
    "Pack": rows(lambda x: tf.stack([x, x], 1)),
    "Unpack": rows(lambda x: tf.unstack(x, 4, 1)[0]),
    "ConcatV2": ([(F, [None, 4]), (F, [None, 4])], lambda x, y: tf.concat([x, y], 1)),
    "Split": rows(lambda x: tf.split(x, 2, 1)[0]),
    "SplitV": rows(lambda x: tf.split(x, [1, 3], 1)[0]),
    "Slice": rows(lambda x: tf.slice(x, [0, 1], [-1, 2])),
    "Slice where": table(lambda x, n: tf.slice(x, n, [1, 1])),
    "StridedSlice": rows(lambda x: x[:, 1:3]),
    "StridedSlice rank": image(lambda x: x[:, ::2, ::-1, tf.newaxis, 1]),
    "StridedSlice where": ([(F, [None, 4]), (I32, [])], lambda x, n: x[:, n:]),
    "Pad": image(lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])),
    "MirrorPad": image(lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")),
    "Pad by": ([(F, [None, 4]), (I32, [2, 2])], lambda x, n: tf.pad(x, n)),
    "Tile": rows(lambda x: tf.tile(x, [1, 2])),
    "Tile by": table(lambda x, n: tf.tile(x, n)),
    "BroadcastTo": rows(lambda x: tf.broadcast_to(x, [4, 4])),
    "BroadcastTo shape": table(lambda x, n: tf.broadcast_to(x, n)),
    "ReverseV2": rows(lambda x: tf.reverse(x, [1])),
    "ReverseSequence": table(lambda x, n: tf.reverse_sequence(x, n, 1)),
    "Roll": rows(lambda x: tf.roll(x, 1, 1)),
    "Roll by": ([(F, [None, 4]), (I32, [])], lambda x, n: tf.roll(x, n, 1)),
    "GatherV2 rows": rows(lambda x: tf.gather(x, [0, 1], axis=1)),
    "GatherV2 ids": ([(I32, [None])], lambda n: tf.gather(weights(5, 3), n)),
    "GatherV2 batch": ([(F, [None, 4]), (I32, [None, 2])], lambda x, n: tf.gather(x, n, batch_dims=1)),
    "GatherNd": ([(I32, [None, 2])], lambda n: tf.gather_nd(weights(5, 3), n)),
    "ScatterNd": ([(I32, [None, 1]), (F, [None])], lambda n, x: tf.scatter_nd(n, x, [8])),
    "ScatterNd shape": ([(I32, [None])], lambda n: tf.scatter_nd([[0]], [1.0], n)),
    "TensorScatterUpdate": (
        [(I32, [None, 1]), (F, [None])],
        lambda n, x: tf.tensor_scatter_nd_update(weights(8), n, x),
    ),
    "OneHot": ([(I32, [None])], lambda n: tf.one_hot(n, 5)),
    "OneHot depth": ([(I32, [])], lambda n: tf.one_hot([0, 1], n)),
    "TopKV2": rows(lambda x: tf.math.top_k(x, 2)[0]),
    "TopKV2 k": ([(F, [None, 4]), (I32, [])], lambda x, k: tf.math.top_k(x, k)[0]),
    "InTopKV2": table(lambda x, n: tf.math.in_top_k(n, x, 2)),
    "NthElement": ([(F, [None, 4]), (I32, [])], lambda x, n: RAW.NthElement(input=x, n=n)),
    "Range": ([(I32, [])], lambda n: tf.range(n)),
    "Range step": ([(I32, []), (I32, []), (I32, [])], lambda a, b, c: tf.range(a, b, c)),
    "LinSpace": ([(F, []), (I32, [])], lambda x, n: tf.linspace(x, x + 1.0, n)),
    "Fill": ([(I32, [None])], lambda n: tf.fill(n, 1.0)),
    "RandomUniform": ([(I32, [None])], lambda n: tf.random.uniform(n)),
    "RandomUniformInt": ([(I32, []), (I32, [])], lambda a, b: tf.random.uniform([2], a, b, I32)),
    "Multinomial": ([(F, [None, 4]), (I32, [])], lambda x, n: RAW.Multinomial(logits=x, num_samples=n)),
    "Where": rows(lambda x: tf.where(x > 0)),
    "SelectV2": ([(F, [None, 4]), (F, [None, 4])], lambda x, y: tf.where(x > 0, x, y)),
    "Unique": ([(F, [None])], lambda x: tf.unique(x)[0]),
    "UniqueWithCounts": ([(F, [None])], lambda x: tf.unique_with_counts(x)[0]),
    "Bincount": ([(I32, [None])], lambda n: tf.math.bincount(n)),
    "DenseBincount": ([(I32, [None, 3])], lambda n: tf.math.bincount(n, axis=-1)),
    "Bucketize": rows(lambda x: RAW.Bucketize(input=x, boundaries=[0.0, 1.0])),
    "HistogramFixedWidth": rows(lambda x: tf.histogram_fixed_width(x, [0.0, 1.0])),
    "SegmentSum": table(lambda x, n: tf.math.segment_sum(x, n)),
    "SegmentMean": table(lambda x, n: tf.math.segment_mean(x, n)),
    "UnsortedSegmentSum": table(lambda x, n: tf.math.unsorted_segment_sum(x, n, 4)),
    "UnsortedSegmentSum count": table(lambda x, n: tf.math.unsorted_segment_sum(x, [0, 1], n), (I32, [])),
    "SparseSegmentSum": table(lambda x, n: tf.sparse.segment_sum(x, n, tf.zeros_like(n))),
    "DynamicPartition": table(lambda x, n: tf.dynamic_partition(x, n, 2)[0]),
    "DynamicStitch": table(lambda x, n: tf.dynamic_stitch([n], [x])),
    "SequenceMask": ([(I32, [None])], lambda n: tf.sequence_mask(n)),
    "MatrixDiagV3": rows(lambda x: tf.linalg.diag(x)),
    "MatrixDiagPartV3": rows(lambda x: tf.linalg.diag_part(x)),
    "MatrixDiagPartV3 k": ([(F, [None, 4]), (I32, [None])], lambda x, n: tf.linalg.diag_part(x, k=n)),
    "MatrixBandPart": ([(F, [None, 4]), (I32, [])], lambda x, n: tf.linalg.band_part(x, n, 0)),
    "MatrixInverse": rows(lambda x: tf.linalg.inv(x)),
    "Cholesky": rows(lambda x: tf.linalg.cholesky(x)),
    "Qr": rows(lambda x: tf.linalg.qr(x)[0]),
    "Svd": rows(lambda x: tf.linalg.svd(x, compute_uv=False)),
    "FFT": rows(lambda x: tf.signal.fft(tf.cast(x, tf.complex64))),
    "RFFT": rows(lambda x: tf.signal.rfft(x, [8])),
    "RFFT length": ([(F, [None, 4]), (I32, [1])], lambda x, n: tf.signal.rfft(x, n)),
    "IRFFT": rows(lambda x: tf.signal.irfft(tf.cast(x, tf.complex64))),
    "AudioSpectrogram": rows(lambda x: RAW.AudioSpectrogram(input=x, window_size=2, stride=1)),
    "SparseToDense": ([(I64, [None, 2]), (F, [None])], lambda n, x: tf.sparse.to_dense(tf.SparseTensor(n, x, [4, 4]))),
    "SparseToDense shape": (
        [(I64, [None, 2]), (F, [None]), (I64, [2])],
        lambda n, x, s: tf.sparse.to_dense(tf.SparseTensor(n, x, s)),
    ),
    "SparseTensorDenseMatMul": (
        [(I64, [None, 2]), (F, [None])],
        lambda n, x: tf.sparse.sparse_dense_matmul(tf.SparseTensor(n, x, [4, 4]), weights(4, 3)),
    ),
    "SparseReorder": (
        [(I64, [None, 2]), (F, [None])],
        lambda n, x: tf.sparse.reorder(tf.SparseTensor(n, x, [4, 4])).values,
    ),
    "SparseReshape": (
        [(I64, [None, 2]), (I64, [None])],
        lambda n, s: RAW.SparseReshape(input_indices=n, input_shape=s, new_shape=[-1])[0],
    ),
    "SparseFillEmptyRows": (
        [(I64, [None, 2]), (F, [None])],
        lambda n, x: tf.sparse.fill_empty_rows(tf.SparseTensor(n, x, [4, 4]), 0.0)[0].values,
    ),
    "SparseReduceSum": (
        [(I64, [None, 2]), (F, [None])],
        lambda n, x: tf.sparse.reduce_sum(tf.SparseTensor(n, x, [4, 4]), 1),
    ),
    "SparseConcat": (
        [(I64, [None, 2]), (F, [None])],
        lambda n, x: tf.sparse.concat(0, [tf.SparseTensor(n, x, [4, 4])] * 2).values,
    ),
    "RaggedTensorToTensor": (
        [(F, [None]), (I64, [None])],
        lambda x, n: RAW.RaggedTensorToTensor(
            shape=[-1, -1], values=x, default_value=0.0, row_partition_tensors=[n], row_partition_types=["ROW_SPLITS"]
        ),
    ),
    "RaggedGather": (
        [(I64, [None]), (I32, [None])],
        lambda n, i: RAW.RaggedGather(
            params_nested_splits=[n], params_dense_values=weights(6), indices=i, OUTPUT_RAGGED_RANK=1
        )[1],
    ),
    "RaggedRange": ([(I32, [None]), (I32, [None])], lambda a, b: RAW.RaggedRange(starts=a, limits=b, deltas=1)[1]),
    "EditDistance": (
        [(I64, [None, 2]), (I64, [None])],
        lambda n, x: tf.edit_distance(tf.SparseTensor(n, x, [4, 4]), tf.SparseTensor(n, x, [4, 4])),
    ),
    "CTCGreedyDecoder": (
        [(F, [None, 2, 5]), (I32, [None])],
        lambda x, n: tf.nn.ctc_greedy_decoder(x, n)[0][0].values,
    ),
    "CTCBeamSearchDecoder": (
        [(F, [None, 2, 5]), (I32, [None])],
        lambda x, n: tf.nn.ctc_beam_search_decoder(x, n)[0][0].values,
    ),
    "BlockLSTMV2": (
        [(F, [None, 2, 3])],
        lambda x: RAW.BlockLSTMV2(
            seq_len_max=tf.cast(tf.shape(x)[0], I64),
            x=x,
            cs_prev=weights(2, 4),
            h_prev=weights(2, 4),
            w=weights(7, 16),
            wci=weights(4),
            wcf=weights(4),
            wco=weights(4),
            b=weights(16),
        )[-1],
    ),
    "while": ([(F, [None, 4]), (I32, [])], loop),
    "map_fn": rows(lambda x: tf.map_fn(lambda row: row * 2, x)),
    "TensorListStack": rows(lambda x: tf.map_fn(lambda row: tf.reshape(row, [4]), x, parallel_iterations=1)),
    "FakeQuantWithMinMaxVars": rows(lambda x: tf.quantization.fake_quant_with_min_max_vars(x, -1.0, 1.0)),
    "QuantizeAndDequantizeV3": rows(lambda x: tf.quantization.quantize_and_dequantize_v2(x, -1.0, 1.0)),
    "QuantizeV2": rows(lambda x: tf.quantization.quantize(x, -1.0, 1.0, tf.quint8)[0]),
    "Cast": rows(lambda x: tf.cast(x, I32)),
    "Bitcast": rows(lambda x: tf.bitcast(x, tf.uint8)),
    "FloorDiv": ([(I32, [None]), (I32, [None])], lambda x, y: x // y),
    "FloorMod": ([(I32, [None]), (I32, [None])], lambda x, y: x % y),
    "Pow": ([(I32, [None]), (I32, [None])], lambda x, y: x**y),
    "LeftShift": ([(I32, [None]), (I32, [None])], lambda x, y: tf.bitwise.left_shift(x, y)),
    "TruncateDiv": ([(I32, [None]), (I32, [None])], lambda x, y: tf.truncatediv(x, y)),
    "Igamma": ([(F, [None]), (F, [None])], lambda x, y: tf.math.igamma(x, y)),
    "InvertPermutation": ([(I32, [None])], lambda n: tf.math.invert_permutation(n)),
    "DecodePng": text(lambda s: tf.io.decode_png(s)),
    "DecodeJpeg": text(lambda s: tf.io.decode_jpeg(s)),
    "DecodeGif": text(lambda s: tf.io.decode_gif(s)),
    "DecodeBmp": text(lambda s: tf.io.decode_bmp(s)),
    "DecodeImage": text(lambda s: tf.io.decode_image(s)),
    "DecodeWav": text(lambda s: tf.audio.decode_wav(s)[0]),
    "DecodeAndCropJpeg": ([(S, []), (I32, [4])], lambda s, n: tf.image.decode_and_crop_jpeg(s, n)),
    "EncodePng": ([(F, [None, None, 1])], lambda x: tf.io.encode_png(tf.cast(x, tf.uint8))),
    "EncodeJpeg": ([(F, [None, None, 3])], lambda x: tf.io.encode_jpeg(tf.cast(x, tf.uint8))),
    "DecodeRaw": text(lambda s: tf.io.decode_raw(s, F)),
    "DecodePaddedRaw": ([(S, []), (I32, [])], lambda s, n: tf.io.decode_raw(s, F, fixed_length=n)),
    "DecodeBase64": text(lambda s: tf.io.decode_base64(s)),
    "DecodeCompressed": text(lambda s: tf.io.decode_compressed(s, "ZLIB")),
    "DecodeCSV": text(lambda s: tf.io.decode_csv(s, [0.0, ""])[0]),
    "ParseTensor": text(lambda s: tf.io.parse_tensor(s, F)),
    "ParseExampleV2": ([(S, [None])], examples),
    "StringToNumber": text(lambda s: tf.strings.to_number(s)),
    "StringSplitV2": ([(S, [None])], lambda s: tf.strings.split(s).values),
    "StringJoin": text(lambda s: tf.strings.join([s, "x"])),
    "Substr": ([(S, []), (I32, []), (I32, [])], lambda s, a, b: tf.strings.substr(s, a, b)),
    "UnicodeDecode": ([(S, [None])], lambda s: tf.strings.unicode_decode(s, "UTF-8").values),
    "UnicodeEncode": ([(I32, [None])], lambda n: tf.strings.unicode_encode(n, "UTF-8")),
    "StringNGrams": ([(S, [None])], lambda s: tf.strings.ngrams(s, 2)),
    "RegexReplace": ([(S, []), (S, [])], lambda s, p: tf.strings.regex_replace(s, p, "")),
    "AsString": rows(lambda x: tf.strings.as_string(x)),
    "StringToHashBucketFast": text(lambda s: tf.strings.to_hash_bucket_fast(s, 10)),
}
