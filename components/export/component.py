"""The KFP specs of `export`: for a trained checkpoint, and for a user's own PyTorch model."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("export"), packages_to_install=[], install_kfp_package=False)
def export(
    checkpoint: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    name: str,
    onnx: dsl.Output[dsl.Model],
    converter: str = "seaway",
) -> None:
    """Exports a trained net to ONNX, with golden examples and PyTorch's outputs for the whole test set.

    `converter`: of the next stage, which decides on the opset.
    """
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.export.export import export_checkpoint

    with exit_with_message("export"):
        export_checkpoint(Path(checkpoint.path), Path(dataset.path), Path(onnx.path), name=name, converter=converter)


@dsl.component(base_image=image("export"), packages_to_install=[], install_kfp_package=False)
def export_model(
    model: str,
    weights: str,
    inputs: list[str],
    sizes: list[str],
    batch: bool,
    outputs: list[str],
    labels: str,
    activation: str,
    golden: str,
    name: str,
    exporter: str,
    second_opinion: bool,
    onnx: dsl.Output[dsl.Model],
    converter: str = "seaway",
) -> None:
    """Exports a user's own model, `python:module:function`, to ONNX, or takes an .onnx file.

    `weights`, `labels`, `golden`: paths, or "". `converter`: of the next stage, which decides on the opset.
    """
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.export.export import export_model as work

    with exit_with_message("export"):
        work(
            model,
            Path(onnx.path),
            weights=Path(weights) if weights else None,
            inputs=inputs,
            sizes=sizes,
            batch=batch,
            outputs=outputs,
            labels=Path(labels) if labels else None,
            activation=activation,
            golden=Path(golden) if golden else None,
            name=name,
            exporter=exporter,
            second_opinion=second_opinion,
            converter=converter,
        )
