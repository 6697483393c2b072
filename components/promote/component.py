"""The KFP spec of `promote`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("promote"), packages_to_install=[], install_kfp_package=False)
def promote(repository: str, name: str, version: int, namespace: str, evidence: dsl.Input[dsl.Artifact]) -> None:
    """Makes a version stable if the load test's evidence allows it; otherwise fails and changes nothing."""
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.promote.promote import promote as work

    with exit_with_message("promote"):
        work(Path(repository), name, version, Path(evidence.path), namespace)
