"""The pipeline for any PyTorch model: from the function that builds it to a version in the model repository.

export ─▶ convert ─▶ validate ─▶ publish
"""

from kfp import dsl

from seaway.pipeline.definitions import component

export_model = component("export", "export_model")
convert = component("convert")
validate = component("validate")
publish = component("publish")


@dsl.pipeline(name="seaway-ship", description="Exports, converts, validates and publishes any PyTorch model.")
def ship(
    model: str,
    name: str,
    inputs: list[str] = [],  # noqa: B006 - kfp reads the defaults
    weights: str = "",
    sizes: list[str] = [],  # noqa: B006
    batch: bool = True,
    outputs: list[str] = [],  # noqa: B006
    labels: str = "",
    activation: str = "",
    golden: str = "",
    exporter: str = "",
    second_opinion: bool = False,
    converter: str = "seaway",
    repository: str = "/models",
) -> int:
    """Returns the version number.

    `model`: python:MODULE:FUNCTION, or an .onnx file; `inputs`: e.g. ["3x224x224"]; `sizes`: e.g. ["L=1..512"];
    `batch`: whether every input has a batch as its first axis; `outputs`: names, all by default; `exporter`: auto (""),
    torchscript or dynamo; `second_opinion`: try both; `converter`: seaway or onnx-tf.

    The cache does not know the user's code and weights, so every task always runs.
    """
    exported = export_model(
        model=model,
        weights=weights,
        inputs=inputs,
        sizes=sizes,
        batch=batch,
        outputs=outputs,
        labels=labels,
        activation=activation,
        golden=golden,
        name=name,
        exporter=exporter,
        second_opinion=second_opinion,
        converter=converter,
    ).set_caching_options(False)
    onnx = exported.outputs["onnx"]
    converted = convert(onnx=onnx, converter=converter).set_caching_options(False)
    saved_model = converted.outputs["saved_model"]
    validated = validate(onnx=onnx, saved_model=saved_model).set_caching_options(False)
    parity = validated.outputs["parity"]
    published = publish(onnx=onnx, saved_model=saved_model, parity=parity, repository=repository, name=name)
    return published.set_caching_options(False).output
