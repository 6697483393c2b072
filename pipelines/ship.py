"""Any PyTorch model, from the function that builds it to a version in the volume.

export ─▶ convert ─▶ validate ─▶ publish
"""

from kfp import dsl

from seaway.pipeline.definitions import component

export_model = component("export", "export_model")
convert = component("convert")
validate = component("validate")
publish = component("publish")


@dsl.pipeline(name="seaway-ship", description="Any PyTorch model, exported, converted, validated and published.")
def ship(
    model: str,
    inputs: list[str],
    name: str,
    weights: str = "",
    labels: str = "",
    activation: str = "softmax",
    golden: str = "",
    converter: str = "seaway",
    volume: str = "/models",
) -> int:
    """Returns the version's number. `converter`: seaway or onnx-tf.

    The user's code and weights are unknown to the cache, so every task runs."""
    exported = export_model(
        model=model, weights=weights, inputs=inputs, labels=labels, activation=activation, golden=golden, name=name
    ).set_caching_options(False)
    onnx = exported.outputs["onnx"]
    converted = convert(onnx=onnx, converter=converter).set_caching_options(False)
    saved_model = converted.outputs["saved_model"]
    proved = validate(onnx=onnx, saved_model=saved_model).set_caching_options(False)
    parity = proved.outputs["parity"]
    published = publish(onnx=onnx, saved_model=saved_model, parity=parity, volume=volume, name=name)
    return published.set_caching_options(False).output
