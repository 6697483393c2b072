"""The KFP spec of `explore`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("explore"), packages_to_install=[], install_kfp_package=False)
def explore(
    source: str, fingerprint: str, cache: str, dataset: dsl.Output[dsl.Dataset], report: dsl.Output[dsl.HTML]
) -> None:
    """Reads labelled images into a dataset and reports on them. `fingerprint`: of the data, for Kubeflow's cache."""
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.explore.explore import explore as read

    with exit_with_message("explore"):
        read(source, Path(dataset.path), Path(report.path), cache=Path(cache))
