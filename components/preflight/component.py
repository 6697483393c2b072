"""The KFP spec of `preflight`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("preflight"), packages_to_install=[], install_kfp_package=False)
def preflight(claim: str, namespace: str, serving: bool) -> str:
    """Fails early if the cluster lacks what the run needs. Returns the namespace in which the stages act."""
    from seaway.errors import exit_with_message
    from seaway.preflight.preflight import preflight as work

    with exit_with_message("preflight"):
        return work(claim, namespace, serving)
