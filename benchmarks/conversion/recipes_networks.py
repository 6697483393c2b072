"""Files of Keras (exported by tf2onnx), PyTorch (dynamo), and ONNX Runtime's optimizer and quantizer."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conversion.recipes import ROWS, Inputs, recipe

# Keras, exported by tf2onnx


def keras_file(path: Path, model: Any, x: np.ndarray, opset: int) -> Inputs:
    import tensorflow as tf
    import tf2onnx

    spec = [tf.TensorSpec([None, *x.shape[1:]], tf.as_dtype(x.dtype), name="x")]
    function = tf.function(lambda x: model(x, training=False), input_signature=spec)
    tf2onnx.convert.from_function(function, spec, opset=opset, output_path=str(path))
    return {"x": x}


def images(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random((ROWS, *shape)).astype(np.float32)


@recipe("keras CNN")
def keras_cnn(path: Path) -> Inputs:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)), layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(), layers.MaxPooling2D(), layers.SeparableConv2D(16, 3, strides=2),
            layers.ReLU(6.0), layers.GlobalAveragePooling2D(), layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )  # fmt: skip
    return keras_file(path, model, images(1, 28, 28, 1), 17)


@recipe("keras LSTM")
def keras_lstm(path: Path) -> Inputs:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((12, 6)), layers.LSTM(16, return_sequences=True), layers.Bidirectional(layers.LSTM(8)),
         layers.Dense(3, activation="softmax")]
    )  # fmt: skip
    return keras_file(path, model, np.random.default_rng(1).normal(size=(ROWS, 12, 6)).astype(np.float32), 15)


@recipe("keras transformer")
def keras_transformer(path: Path) -> Inputs:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    tokens = layers.Input((16,), dtype="int32")
    x = layers.Embedding(50, 32)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="relu")(x)))
    model = keras.Model(tokens, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))
    return keras_file(path, model, np.random.default_rng(1).integers(0, 50, (ROWS, 16)).astype(np.int32), 18)


@recipe("keras upsampling network")
def keras_upsampling(path: Path) -> Inputs:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((16, 16, 3)), layers.Conv2D(8, 3, strides=2, padding="same", activation="swish"),
            layers.UpSampling2D(2, interpolation="bilinear"), layers.Conv2DTranspose(4, 3, padding="same"),
            layers.LeakyReLU(), layers.Conv2D(2, 1, activation="sigmoid"),
        ]
    )  # fmt: skip
    return keras_file(path, model, images(1, 16, 16, 3), 16)


# PyTorch, exported by torch.export (dynamo)


def torch_file(path: Path, module: Any, x: np.ndarray, opset: int, dynamo: bool = True) -> Inputs:
    """Exports with a dynamic batch; BatchNorm's statistics get a spread first."""
    import torch

    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
    example = torch.from_numpy(x[:2])
    dynamic: dict[str, Any] = (
        {"dynamic_shapes": ({0: torch.export.Dim("n")},)}
        if dynamo
        else {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    )
    torch.onnx.export(
        module.eval(), (example,), str(path), opset_version=opset, dynamo=dynamo, input_names=["x"],
        output_names=["y"], external_data=False, **dynamic,
    )  # fmt: skip
    return {"x": x}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(ROWS, *shape)).astype(np.float32)


def torch_cnn() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 32, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def torch_transformer() -> Any:
    import torch
    from torch import nn

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(50, 32)
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True) for _ in range(2)
            )
            self.head = nn.Linear(32, 5)

        def forward(self, x: Any) -> Any:
            x = self.embedding(x)
            for layer in self.layers:
                x = layer(x)
            return self.head(x.mean(1))

    torch.manual_seed(0)
    return Transformer()


def torch_lstm() -> Any:
    import torch
    from torch import nn

    class Lstm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 16, batch_first=True)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    torch.manual_seed(0)
    return Lstm()


def tokens() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 50, (ROWS, 16))


@recipe("torch tabular network, opset 18")
def torch_tabular(path: Path) -> Inputs:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(12, 32), nn.BatchNorm1d(32), nn.SiLU(), nn.Dropout(0.1), nn.Linear(32, 32), nn.LeakyReLU(),
        nn.Linear(32, 3), nn.Softmax(1),
    )  # fmt: skip
    return torch_file(path, module, normal(12), 18)


@recipe("torch CNN, opset 20")
def torch_cnn_20(path: Path) -> Inputs:
    return torch_file(path, torch_cnn(), normal(3, 16, 16), 20)


@recipe("torch transformer, opset 21")
def torch_transformer_21(path: Path) -> Inputs:
    return torch_file(path, torch_transformer(), tokens(), 21)


@recipe("torch causal attention with RMSNorm, opset 23")
def torch_causal(path: Path) -> Inputs:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.qkv, self.out = nn.RMSNorm(32), nn.Linear(32, 96, bias=False), nn.Linear(32, 32)

        def forward(self, x: Any) -> Any:
            n, length, _ = x.shape
            parts = self.qkv(self.norm(x)).reshape(n, length, 3, 4, 8).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
            return x + self.out(y.transpose(1, 2).reshape(n, length, 32))

    torch.manual_seed(0)
    return torch_file(path, Block(), normal(10, 32), 23)


@recipe("torch LSTM, opset 25")
def torch_lstm_25(path: Path) -> Inputs:
    return torch_file(path, torch_lstm(), normal(9, 8), 25)


# ONNX Runtime: optimised and quantized files, of networks from PyTorch's tracing exporter


def float_file(path: Path, module: Any, x: np.ndarray) -> tuple[Path, Inputs]:
    source = path.with_name("float.onnx")
    return source, torch_file(source, module, x, 17, dynamo=False)


def optimized(source: Path, path: Path, level: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(str(source), options, ["CPUExecutionProvider"])


def quantized(source: Path, path: Path, inputs: Inputs, form: str) -> None:
    """Static quantization, calibrated on the first half of the inputs, 32 rows at a time."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{k: v[i : i + 32] for k, v in inputs.items()} for i in range(0, ROWS // 2, 32)])

        def get_next(self) -> Any:
            return next(self.batches, None)

    quantization.quantize_static(
        str(source), str(path), Reader(), quant_format=getattr(quantization.QuantFormat, form), per_channel=True
    )


@recipe("onnxruntime basic CNN")
def basic_cnn(path: Path) -> Inputs:
    source, inputs = float_file(path, torch_cnn(), normal(3, 16, 16))
    optimized(source, path, "BASIC")
    return inputs


@recipe("onnxruntime extended CNN")
def extended_cnn(path: Path) -> Inputs:
    source, inputs = float_file(path, torch_cnn(), normal(3, 16, 16))
    optimized(source, path, "EXTENDED")
    return inputs


@recipe("onnxruntime extended transformer")
def extended_transformer(path: Path) -> Inputs:
    source, inputs = float_file(path, torch_transformer(), tokens())
    optimized(source, path, "EXTENDED")
    return inputs


@recipe("onnxruntime static QDQ CNN")
def qdq_cnn(path: Path) -> Inputs:
    source, inputs = float_file(path, torch_cnn(), normal(3, 16, 16))
    quantized(source, path, inputs, "QDQ")
    return inputs


@recipe("onnxruntime static QOperator CNN")
def qoperator_cnn(path: Path) -> Inputs:
    source, inputs = float_file(path, torch_cnn(), normal(3, 16, 16))
    quantized(source, path, inputs, "QOperator")
    return inputs


@recipe("onnxruntime dynamic transformer, extended")
def dynamic_transformer(path: Path) -> Inputs:
    from onnxruntime import quantization

    source, inputs = float_file(path, torch_transformer(), tokens())
    middle = path.with_name("dynamic.onnx")
    quantization.quantize_dynamic(str(source), str(middle))
    optimized(middle, path, "EXTENDED")
    return inputs


@recipe("onnxruntime dynamic LSTM")
def dynamic_lstm(path: Path) -> Inputs:
    from onnxruntime import quantization

    source, inputs = float_file(path, torch_lstm(), normal(9, 8))
    quantization.quantize_dynamic(str(source), str(path))
    return inputs
