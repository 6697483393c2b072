"""The KFP spec of `train`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("train"), packages_to_install=[], install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    net: str,
    epochs: int,
    sampling: str,
    training: dict[str, str],
    seed: int,
    code: str,
    work: str,
    checkpoint: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Trains a net. `training` holds further settings by name. `work` is a folder that outlives the task: a restarted
    task resumes from the checkpoints in it. `code`, of a user's own net, is there for Kubeflow's cache key alone."""
    import os
    from pathlib import Path

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in __main__, before PyTorch is loaded
    from seaway.errors import exit_with_message
    from seaway.train.settings import parsed
    from seaway.train.train import train as work_on

    with exit_with_message("train"):
        settings = parsed({"net": net, "epochs": str(epochs), "sampling": sampling, "seed": str(seed)}, training)
        card = work_on(Path(dataset.path), Path(checkpoint.path), settings, work=Path(work), report=Path(report.path))
        for name, value in card.metrics.items():
            metrics.log_metric(name, value)
        Path(metrics.path).write_text(f"{card.metrics}\n")  # without a file KFP's local cache never finds the task
