"""The KFP spec of `deploy`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("deploy"), packages_to_install=[], install_kfp_package=False)
def deploy(url: str, repository: str, name: str, version: int, namespace: str) -> None:
    """Deploys a published version as canary, waits until it is served, and smoke-tests it with golden examples."""
    from pathlib import Path

    from seaway.deploy.deploy import deploy as work
    from seaway.errors import exit_with_message

    with exit_with_message("deploy"):
        work(url, Path(repository), name, version, timeout_s=300 if namespace else 60, namespace=namespace)
