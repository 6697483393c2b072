"""The KFP spec of `preflight`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("preflight"), packages_to_install=[], install_kfp_package=False)
def preflight(claim: str, namespace: str, serving: bool) -> str:
    """Fails where the run must fail later, naming all that is missing. Returns `namespace`, or for "" the run's own."""
    from seaway.errors import exit_with_message
    from seaway.preflight.preflight import preflight as work

    with exit_with_message("preflight"):
        return work(claim, namespace, serving)
