"""The KFP spec of `load`."""

from kfp import dsl

from seaway.pipeline.images import image


@dsl.component(base_image=image("load"), packages_to_install=[], install_kfp_package=False)
def load(
    url: str,
    repository: str,
    name: str,
    version: int,
    dataset: dsl.Input[dsl.Dataset],
    onnx: dsl.Input[dsl.Model],
    duration_s: int,
    users: int,
    rate: float,
    limits: dict[str, str],
    metrics: str,
    baseline: str,
    evidence: dsl.Output[dsl.Artifact],
    measured: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    tls: str = "",
    grpc_url: str = "",
) -> None:
    """Sends the test set and then a load by Locust to the served version, over each protocol; checks every response.

    `tls`: folder of ca.crt, tls.crt and tls.key for a server at https:// or grpcs://, as in a Secret; "" for none.
    `grpc_url`: the server's gRPC address; "" for none.
    """
    from pathlib import Path

    from seaway.client_tls import ClientTls
    from seaway.errors import exit_with_message
    from seaway.load.load import load as work

    with exit_with_message("load"):
        metadata = work(
            url,
            Path(repository),
            name,
            version,
            evidence=Path(evidence.path),
            report=Path(report.path),
            dataset=Path(dataset.path),
            onnx=Path(onnx.path),
            duration_s=duration_s,
            users=users,
            rate=rate,
            limits=limits,
            metrics=metrics,
            baseline=baseline,
            tls=ClientTls.from_folder(tls),
            grpc_url=grpc_url,
        )
        for key, value in metadata.metrics.items():
            measured.log_metric(key, value)
