"""The model that fuzzed requests are for, with a signature for every type and format that the protocols support."""

from seaway.artifacts.artifact_metadata import Tensor
from seaway.protocols.calls import ModelVersionInfo, Signature

TYPES = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
SCORES = Tensor("scores", "float32", (None, 3))


def model() -> ModelVersionInfo:
    image = Tensor("image", "float32", (None, 2, 2, 1))
    signatures = {
        "serving_default": Signature((image,), (SCORES,), "tensorflow/serving/predict"),
        "two": Signature((Tensor("a", "float32", (None, 2)), Tensor("b", "int32", (None,))), (SCORES, image)),
        "text": Signature((Tensor("text", "str", (None,)),), (Tensor("text_bytes", "str", (None,)),)),
        "unranked": Signature((Tensor("x", "float64", ()),), (Tensor("x", "float64", ()),), "", frozenset({"x"})),
        "classify": Signature(
            (Tensor("inputs", "str", (None,)),),
            (Tensor("classes", "str", (None, 3)), SCORES),
            "tensorflow/serving/classify",
        ),
        "regress": Signature(
            (Tensor("inputs", "str", (None,)),),
            (Tensor("outputs", "float32", (None, 1)),),
            "tensorflow/serving/regress",
        ),
    }
    for dtype in TYPES:
        x = Tensor("x", dtype, (None,))
        signatures[dtype] = Signature((x,), (Tensor("y", dtype, (None,)),))
    return ModelVersionInfo(
        "fuzzed", 1, "fuzzed/1@0", signatures, {name: {} for name in signatures}, ("a", "b", "c"), "fuzz"
    )
