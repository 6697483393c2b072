"""The KFP spec of `deploy`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("deploy"), packages_to_install=[], install_kfp_package=False)
def deploy(url: str, repository: str, name: str, version: int, namespace: str, tls: str = "") -> None:
    """Deploys a published version as canary, waits until it is served, and smoke-tests it with golden examples.

    `tls`: folder of ca.crt, tls.crt and tls.key for a server at https://, as in a Secret; "" for none.
    """
    from pathlib import Path

    from seaway.client_tls import ClientTls
    from seaway.deploy.deploy import deploy as work
    from seaway.errors import exit_with_message

    with exit_with_message("deploy"):
        timeout_s, settings = 300 if namespace else 60, ClientTls.from_folder(tls)
        work(url, Path(repository), name, version, timeout_s=timeout_s, namespace=namespace, tls=settings)
