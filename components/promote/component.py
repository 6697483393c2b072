"""The KFP spec of `promote`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("promote"), packages_to_install=[], install_kfp_package=False)
def promote(volume: str, name: str, version: int, namespace: str, evidence: dsl.Input[dsl.Artifact]) -> None:
    """Points `stable` at the version if its evidence says that every answer was right, or fails and moves nothing."""
    from pathlib import Path

    from seaway.errors import exit_with_message
    from seaway.promote.promote import promote as work

    with exit_with_message("promote"):
        work(Path(volume), name, version, Path(evidence.path), namespace)
