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
    """Trains a net and evaluates it on the test set.

    `training`: further settings by name. `work`: a folder that outlives the task, so that a restarted task resumes from
    its checkpoints. `code`: fingerprint of a user's own net; it only feeds Kubeflow's cache key."""
    import os
    from pathlib import Path

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in __main__, before PyTorch is loaded
    from seaway.errors import exit_with_message
    from seaway.train.settings import parse_settings
    from seaway.train.train import train as train_on

    with exit_with_message("train"):
        settings = parse_settings(
            {"net": net, "epochs": str(epochs), "sampling": sampling, "seed": str(seed)}, training
        )
        metadata = train_on(
            Path(dataset.path), Path(checkpoint.path), settings, work=Path(work), report=Path(report.path)
        )
        for name, value in metadata.metrics.items():
            metrics.log_metric(name, value)
        Path(metrics.path).write_text(f"{metadata.metrics}\n")  # KFP's local cache needs a file
