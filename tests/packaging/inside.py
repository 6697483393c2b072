"""Checks that installs.py runs in an environment with the installed package: `python inside.py CHECK …`.

A failed check raises AssertionError.
"""

import importlib.metadata
import sys
from importlib.util import find_spec
from pathlib import Path

SEED = 5


def only_seaway() -> None:
    """The package installs only seaway in site-packages, and its commands next to the interpreter."""
    files = importlib.metadata.files("seaway") or []
    names = {file.parts[0] for file in files if file.parts[0] != ".."}
    assert {name for name in names if not name.endswith(".dist-info")} == {"seaway"}, names
    assert {file.name for file in files if file.parts[0] == ".."} == {"seaway", "tensorflow_model_server"}
    assert any(str(file) == "seaway/py.typed" for file in files)


def without(*modules: str) -> None:
    assert [module for module in modules if find_spec(module)] == []


def example() -> None:
    import seaway

    print(Path(str(seaway.__file__)).parent / "example")


def responses(url: str, repository: str) -> None:
    """Every protocol returns the recorded outputs for the golden examples of the repository's only model."""
    from seaway.artifacts import golden
    from seaway.load import payloads
    from seaway.load.client import Client
    from seaway.protocols import client_codecs

    (folder,) = Path(repository).glob("*/1")
    model = payloads.read_model(folder)
    digest = payloads.identity(folder)
    inputs = {name: array[:16] for name, array in model.examples.inputs.items()}
    with Client(url) as client:
        for key in ("tfs", "oip", "oip-binary", "graphpipe"):
            protocol, names = client_codecs.named(key), list(model.outputs)
            outputs, served_by = client.predict_outputs(protocol, folder.parent.name, inputs, names)
            assert served_by == digest, (key, served_by, digest)
            for name, tolerance in model.outputs.items():
                comparison = golden.compare(outputs[name], model.examples.outputs[name][:16], tolerance)
                assert comparison.wrong == 0, (key, name, comparison)
                print(key, name, comparison)


def image(path: str) -> None:
    from PIL import Image, ImageDraw

    drawn = Image.new("L", (64, 64), 255)
    ImageDraw.Draw(drawn).line([(20, 8), (20, 54), (48, 54)], fill=0, width=6)
    drawn.save(path)


def small_onnx(path: str) -> None:
    """A network of small whole numbers, whose sums do not depend on their order."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(SEED)
    shapes = {"kernel": (4, 1, 3, 3), "bias": (4,), "weights": (4 * 36, 10)}
    constants = {name: random.integers(-3, 4, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def exact(path: str, saved_model: str) -> None:
    """The SavedModel returns the same bits as ONNX Runtime."""
    import numpy as np
    import tensorflow as tf

    from seaway.onnxruntime_import import import_onnxruntime

    images = np.random.default_rng(SEED + 1).integers(0, 5, (6, 1, 8, 8)).astype(np.float32)
    session = import_onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": images})
    serving = tf.saved_model.load(saved_model).signatures["serving_default"]
    scores = serving(image=tf.constant(images))["scores"].numpy()
    assert np.ptp(expected) > 100
    np.testing.assert_array_equal(scores, expected)


NET = """\
import torch


def net():
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
"""


def net(path: str) -> None:
    Path(path).write_text(NET)


CHECKS = {
    "only-seaway": only_seaway, "without": without, "example": example, "responses": responses, "image": image,
    "small-onnx": small_onnx, "exact": exact, "net": net,
}  # fmt: skip

if __name__ == "__main__":
    CHECKS[sys.argv[1]](*sys.argv[2:])  # type: ignore[operator]
