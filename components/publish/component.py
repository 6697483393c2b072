"""The KFP spec of `publish`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("publish"), packages_to_install=[], install_kfp_package=False)
def publish(
    onnx: dsl.Input[dsl.Model],
    saved_model: dsl.Input[dsl.Model],
    parity: dsl.Input[dsl.Artifact],
    repository: str,
    name: str,
) -> int:
    """Publishes a validated model to the model repository as the next version of `name`. Returns the version number."""
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.publish.publish import publish as work

    with exit_with_message("publish"):
        version = work(Path(onnx.path), Path(saved_model.path), Path(parity.path), Path(repository), name)
        print(f"{name}/{version} in {repository}")
        return version
