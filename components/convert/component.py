"""The KFP spec of `convert`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("convert"), packages_to_install=[], install_kfp_package=False)
def convert(onnx: dsl.Input[dsl.Model], converter: str, saved_model: dsl.Output[dsl.Model]) -> None:
    """Converts an ONNX model to a TensorFlow SavedModel, with Seaway's own converter ("seaway") or "onnx-tf"."""
    from pathlib import Path

    from seaway.convert.convert import convert_artifact
    from seaway.errors import exit_with_message

    with exit_with_message("convert"):
        convert_artifact(Path(onnx.path), Path(saved_model.path), converter)
