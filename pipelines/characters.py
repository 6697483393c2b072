"""The whole pipeline for handwritten characters: from a data source to a promoted version.

    explore ─▶ train ─▶ export ─▶ convert ─▶ validate ─▶ publish ─▶ deploy ─▶ load ─▶ promote

Tasks up to `validate` are pure, so Kubeflow may cache them: the cache key holds the stage's image, whose tag is made
from its code, and the data's fingerprint. Tasks from `publish` on use the model repository or a server and always run.
"""

from typing import NamedTuple

from kfp import dsl

from seaway.pipeline.definitions import component

explore = component("explore")
train = component("train")
export = component("export")
convert = component("convert")
validate = component("validate")
publish = component("publish")
deploy = component("deploy")
load = component("load")
promote = component("promote")


class Outputs(NamedTuple):
    version: int
    explore_report: dsl.HTML
    train_report: dsl.HTML
    validate_report: dsl.HTML
    load_report: dsl.HTML


@dsl.pipeline(
    name="seaway-characters",
    description="Trains, converts, validates, deploys and promotes a classifier of handwritten characters.",
)
def characters(
    source: str = "strokes",
    fingerprint: str = "",
    cache: str = "/models/.cache",
    work: str = "/models/.work",
    repository: str = "/models",
    url: str = "http://seaway-canary:8501",
    baseline: str = "http://seaway:8501",
    metrics: str = "",
    namespace: str = "",
    name: str = "characters",
    net: str = "cnn",
    epochs: int = 0,
    sampling: str = "none",
    training: dict[str, str] = {},  # noqa: B006  KFP makes a constant of it
    seed: int = 0,
    code: str = "",
    converter: str = "seaway",
    load_duration_s: int = 3,
    load_users: int = 8,
    load_rate: float = 0.0,
    load_limits: dict[str, str] = {},  # noqa: B006  likewise
    tls: str = "",
    grpc_url: str = "",
) -> Outputs:
    """Returns the published version and the stages' reports.

    `source`: strokes[:N][#text], idx:DIR or emnist[:SPLIT]; `fingerprint`: of its data, for the cache. `epochs`: 0 for
    the net's own default. `training`: further settings by name. `code`: fingerprint of a user's own net. `converter`:
    seaway or onnx-tf. `cache`, `work`, `repository`: folders that the stages can reach; on a cluster, on the mounted
    claim. `namespace`: of the serving Deployments; "" for the run's own namespace on a cluster (cluster.py), elsewhere
    for none: one server at `url` watches the model repository. `tls`: folder of ca.crt, and of tls.crt and tls.key for
    servers with TLS that require a client certificate; `--tls-secret` mounts one. `grpc_url`: the gRPC address of the
    server at `url`, to load-test it over gRPC too, such as grpc://seaway-canary:8500; "" for none.
    """
    data = explore(source=source, fingerprint=fingerprint, cache=cache)
    dataset = data.outputs["dataset"]
    trained = train(
        dataset=dataset, net=net, epochs=epochs, sampling=sampling, training=training, seed=seed, code=code, work=work
    )
    checkpoint = trained.outputs["checkpoint"]
    exported = export(checkpoint=checkpoint, dataset=dataset, name=name, converter=converter)
    onnx = exported.outputs["onnx"]
    converted = convert(onnx=onnx, converter=converter)
    saved_model = converted.outputs["saved_model"]
    validated = validate(onnx=onnx, saved_model=saved_model, dataset=dataset)
    published = publish(
        onnx=onnx, saved_model=saved_model, parity=validated.outputs["parity"], repository=repository, name=name
    ).set_caching_options(False)
    version = published.output
    deployed = deploy(
        url=url, repository=repository, name=name, version=version, namespace=namespace, tls=tls
    ).set_caching_options(False)
    loaded = load(
        url=url,
        repository=repository,
        name=name,
        version=version,
        dataset=dataset,
        onnx=onnx,
        duration_s=load_duration_s,
        users=load_users,
        rate=load_rate,
        limits=load_limits,
        metrics=metrics,
        baseline=baseline,
        tls=tls,
        grpc_url=grpc_url,
    )
    loaded.set_caching_options(False).after(deployed)
    evidence = loaded.outputs["evidence"]
    promote(
        repository=repository, name=name, version=version, namespace=namespace, evidence=evidence
    ).set_caching_options(False)
    return Outputs(
        version,
        data.outputs["report"],
        trained.outputs["report"],
        validated.outputs["report"],
        loaded.outputs["report"],
    )
