"""The KFP spec of `explore`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("explore"), packages_to_install=[], install_kfp_package=False)
def explore(
    source: str, fingerprint: str, cache: str, dataset: dsl.Output[dsl.Dataset], report: dsl.Output[dsl.HTML]
) -> None:
    """Reads `source` into the dataset artifact. `fingerprint` (of the data) is there for Kubeflow's cache key alone."""
    from pathlib import Path

    from components.explore.explore import explore as work
    from seaway.errors import exit_with_message

    with exit_with_message("explore"):
        work(source, Path(dataset.path), Path(report.path), cache=Path(cache))
