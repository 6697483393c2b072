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
    """Proves ONNX Runtime and TensorFlow equal to PyTorch, or fails: nothing unvalidated reaches the volume."""
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.validate.validate import validate as work

    with exit_with_message("validate"):
        pictures = Path(dataset.path) if dataset else None
        card = work(Path(onnx.path), Path(saved_model.path), pictures, Path(parity.path), Path(report.path))
        for name, value in card.metrics.items():
            metrics.log_metric(name, value)
        Path(metrics.path).write_text(f"{card.metrics}\n")  # without a file KFP's local cache never finds the task
