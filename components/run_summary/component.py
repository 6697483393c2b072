"""The KFP spec of `run_summary`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("run_summary"), packages_to_install=[], install_kfp_package=False)
def run_summary(run: str, status: dsl.PipelineTaskFinalStatus, report: dsl.Output[dsl.Markdown]) -> None:
    """Reports how the run ended: which stage failed, why, and the end of its log."""
    from pathlib import Path

    from seaway.run_summary.run_summary import run_summary as work

    work(run, status.state, Path(report.path))
