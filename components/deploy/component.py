"""The KFP spec of `deploy`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("deploy"), packages_to_install=[], install_kfp_package=False)
def deploy(url: str, volume: str, name: str, version: int, namespace: str) -> None:
    """Makes the version the canary, waits until the server has it AVAILABLE, and smokes it with golden examples."""
    from pathlib import Path

    from seaway.deploy.deploy import deploy as work
    from seaway.errors import exit_with_message

    with exit_with_message("deploy"):
        work(url, Path(volume), name, version, timeout=300 if namespace else 60, namespace=namespace)
