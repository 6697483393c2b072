"""The KFP spec of `validate`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("validate"), packages_to_install=[], install_kfp_package=False)
def validate(
    onnx: dsl.Input[dsl.Model],
    saved_model: dsl.Input[dsl.Model],
    parity: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    dataset: dsl.Input[dsl.Dataset] = None,  # not Optional: on a cluster KFP instantiates this
) -> None:
    """Checks that ONNX Runtime and TensorFlow reproduce PyTorch's outputs; fails if not, so nothing is published."""
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.validate.validate import validate as work

    with exit_with_message("validate"):
        images = Path(dataset.path) if dataset else None
        metadata = work(Path(onnx.path), Path(saved_model.path), images, Path(parity.path), Path(report.path))
        for name, value in metadata.metrics.items():
            metrics.log_metric(name, value)
        Path(metrics.path).write_text(f"{metadata.metrics}\n")  # KFP's local cache needs a file
