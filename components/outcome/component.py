"""The KFP spec of `outcome`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("outcome"), packages_to_install=[], install_kfp_package=False)
def outcome(run: str, status: dsl.PipelineTaskFinalStatus, report: dsl.Output[dsl.Markdown]) -> None:
    """Says how the run ended: which stage failed, why, and its last words, of which Kubeflow's API has nothing."""
    from pathlib import Path

    from seaway.outcome.outcome import outcome as work

    work(run, status.state, Path(report.path))
