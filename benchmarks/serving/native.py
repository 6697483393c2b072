"""The benchmark's network as a TensorFlow user would write it: channels last throughout, with the same weights.

    python -m benchmarks.serving.native MODEL.onnx SAVED_MODEL

The SavedModel that `convert` makes of the same ONNX file has its own row in the speed table; onnx-tf's keeps PyTorch's
layout, with transpositions around each convolution.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.serving.cases import INPUT, OUTPUT
from seaway.tensorflow_import import import_tensorflow


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.serving.native")
    parser.add_argument("onnx", type=Path)
    parser.add_argument("saved_model", type=Path)
    arguments = parser.parse_args()
    tf = import_tensorflow()
    weights = {i.name: numpy_helper.to_array(i) for i in onnx.load(arguments.onnx).graph.initializer}
    kernels = [weights[f"{layer}.weight"].transpose(2, 3, 1, 0) for layer in (1, 4)]
    channels = len(weights["4.weight"])
    side = math.isqrt(weights["8.weight"].shape[1] // channels)
    dense = weights["8.weight"].reshape(-1, channels, side, side).transpose(2, 3, 1, 0)
    matrices = [dense.reshape(-1, dense.shape[-1]), weights["10.weight"].T]
    biases = [weights[f"{layer}.bias"] for layer in (1, 4, 8, 10)]

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32, name=INPUT)])
    def predict(image: object) -> dict[str, object]:
        x = image
        for kernel, bias in zip(kernels, biases[:2], strict=True):
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, np.ascontiguousarray(kernel), 1, "VALID"), bias))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.reshape(x, [-1, len(matrices[0])])
        x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, np.ascontiguousarray(matrices[0])), biases[2]))
        x = tf.nn.bias_add(tf.matmul(x, np.ascontiguousarray(matrices[1])), biases[3])
        return {OUTPUT: tf.nn.softmax(x)}

    module = tf.Module()
    module.predict = predict
    tf.saved_model.save(module, str(arguments.saved_model), signatures={"serving_default": predict})


if __name__ == "__main__":
    main()
