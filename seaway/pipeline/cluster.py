"""Prepares a pipeline for a Kubeflow cluster: images, model repository, user, resources, timeouts, retries, a preflight
check first and a run summary last.

Local runs use the pipeline as it is: none of this applies there, and kfp.local would warn about each setting.
"""

import inspect
from dataclasses import dataclass
from typing import Any

from seaway.errors import InvalidInput
from seaway.kfp_import import import_kfp
from seaway.pipeline import images
from seaway.pipeline.definitions import component

import_kfp()
import kfp.kubernetes as kubernetes  # noqa: E402  (`from kfp import kubernetes` would not name the missing package)
from kfp import dsl  # noqa: E402
from kfp.dsl import pipeline_context  # noqa: E402

CLAIM = "seaway-models"  # manifests/base/persistentvolumeclaim.yaml
MODELS_PATH = "/models"  # as in the server's pods, because models.config, written for TensorFlow Serving, holds it
TLS_PATH = "/tls"  # where the stages that call a server find the Secret of --tls-secret
USER = 10001  # of the images and of the server's pods
CLIENT_LABEL = ("seaway.dev/client", "true")  # pod label that the server's NetworkPolicy admits


@dataclass(frozen=True)
class StageResources:
    """What a stage needs from the cluster.

    Requests are small, so that two nodes of 2 cores have room for any stage beside Kubeflow and the serving stack.
    `timeout_s`: limit for its pod once scheduled, image pulls included; `mounts_models`: reads or writes the model
    repository; `calls_server`: sends requests to the server.
    """

    cpu: tuple[str, str]  # request, limit
    memory: tuple[str, str]
    timeout_s: int
    mounts_models: bool = False
    calls_server: bool = False
    retries: int = 2


SMALL_CPU, CPU = ("100m", "1"), ("500m", "2")
HOUR_S, DAY_S = 3600, 24 * 3600
STAGE_RESOURCES = {
    "preflight": StageResources(SMALL_CPU, ("128Mi", "512Mi"), 15 * 60),
    "explore": StageResources(CPU, ("1Gi", "2Gi"), 4 * HOUR_S, mounts_models=True),  # may download the data
    # Uses as many cores as its limit.
    "train": StageResources(("500m", "4"), ("1Gi", "8Gi"), 3 * DAY_S, mounts_models=True),
    "export": StageResources(CPU, ("1Gi", "4Gi"), 2 * HOUR_S),
    # Any net; holds its weights in PyTorch and in ONNX.
    "export-model": StageResources(CPU, ("1Gi", "8Gi"), 4 * HOUR_S, mounts_models=True),
    "convert": StageResources(CPU, ("1Gi", "4Gi"), 4 * HOUR_S),
    "validate": StageResources(CPU, ("1Gi", "4Gi"), 4 * HOUR_S),
    "publish": StageResources(SMALL_CPU, ("256Mi", "1Gi"), HOUR_S, mounts_models=True),
    "deploy": StageResources(SMALL_CPU, ("256Mi", "1Gi"), HOUR_S, mounts_models=True, calls_server=True),
    # No retries: measurements are not repeated until they pass. Takes load_duration_s a protocol, and the test set.
    "load": StageResources(CPU, ("512Mi", "2Gi"), DAY_S, mounts_models=True, calls_server=True, retries=0),
    "promote": StageResources(SMALL_CPU, ("256Mi", "1Gi"), HOUR_S, mounts_models=True),
    "run-summary": StageResources(SMALL_CPU, ("128Mi", "512Mi"), 15 * 60),
}
DEFAULT_RESOURCES = StageResources(CPU, ("1Gi", "8Gi"), DAY_S)  # for a user's own components, unless they set theirs
RETRY_BACKOFF = {"backoff_duration": "30s", "backoff_factor": 2}


def pipeline(
    definition: Any, registry: str = images.REGISTRY, claim: str = CLAIM, cached: bool = True, tls_secret: str = ""
) -> Any:
    """Returns the pipeline `definition` for a cluster.

    Images come from `registry`, and the model repository is on the PersistentVolumeClaim `claim`. Unless `cached`, all
    stages run. `preflight` runs before all other stages and returns the namespace in which they act: the pipeline's
    parameter `namespace`, or the run's own. The Secret `tls_secret` ("": none) is mounted at `TLS_PATH` in the stages
    that call a server; that path is then the default of the pipeline's parameter `tls`.
    """
    signature = inspect.signature(definition.pipeline_func)
    if tls_secret:
        parameters = signature.parameters.values()
        signature = signature.replace(
            parameters=[one.replace(default=TLS_PATH) if one.name == "tls" else one for one in parameters]
        )
    preflight, run_summary = component("preflight"), component("run_summary")

    def stages(*channels: Any) -> None:
        # Only on a cluster: a pipeline cannot return outputs from within an exit handler, and local runs need reports.
        last = run_summary(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER).set_caching_options(False)
        inputs = signature.bind(*channels).arguments
        with dsl.ExitHandler(last, name="stages"):
            first = preflight(claim=claim, namespace=inputs.get("namespace", ""), serving="namespace" in inputs)
            first.set_caching_options(False)
            if "namespace" in inputs:
                inputs["namespace"] = first.output
            definition.pipeline_func(**inputs)
        for task in pipeline_context.Pipeline.get_default_pipeline().tasks.values():
            _configure(task, registry, claim, tls_secret)
            if task not in (first, last):
                task.after(first)
            if not cached:
                task.set_caching_options(False)

    stages.__signature__ = signature.replace(return_annotation=None)  # type: ignore[attr-defined]
    return dsl.pipeline(name=definition.name, description=definition.description)(stages)


def _configure(task: Any, registry: str, claim: str, tls_secret: str) -> None:
    """Raises InvalidInput for a nested pipeline that uses Seaway's stages, which cannot be configured from here."""
    if task.container_spec is None:  # an importer, or a pipeline
        if any(_is_seaway_image(image) for image in _images(task.pipeline_spec)):
            raise InvalidInput(f"{task.name} is a pipeline that uses Seaway's stages: use them in the outer pipeline")
        return
    if not _is_seaway_image(task.container_spec.image):
        _configure_own_component(task)
        return
    resources = STAGE_RESOURCES.get(task.component_spec.name, DEFAULT_RESOURCES)
    task.set_container_image(_image_in(registry, task.container_spec.image))
    task.set_cpu_request(resources.cpu[0]).set_cpu_limit(resources.cpu[1])
    task.set_memory_request(resources.memory[0]).set_memory_limit(resources.memory[1])
    if resources.retries:
        task.set_retry(resources.retries, **RETRY_BACKOFF)
    kubernetes.set_timeout(task, resources.timeout_s)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    if resources.mounts_models:
        kubernetes.mount_pvc(task, claim, MODELS_PATH)
    if resources.calls_server:
        kubernetes.add_pod_label(task, *CLIENT_LABEL)
        if tls_secret:
            kubernetes.use_secret_as_volume(task, tls_secret, TLS_PATH)


def _configure_own_component(task: Any) -> None:
    """Gives a user's own component defaults, and keeps its image, its user and all that the pipeline set."""
    present = task.container_spec.resources
    for setting, value in (
        ("cpu_request", DEFAULT_RESOURCES.cpu[0]),
        ("cpu_limit", DEFAULT_RESOURCES.cpu[1]),
        ("memory_request", DEFAULT_RESOURCES.memory[0]),
        ("memory_limit", DEFAULT_RESOURCES.memory[1]),
    ):
        if not getattr(present, setting, None):
            getattr(task, f"set_{setting}")(value)
    if task._task_spec.retry_policy is None:
        task.set_retry(DEFAULT_RESOURCES.retries, **RETRY_BACKOFF)
    if not task.platform_config.get("kubernetes", {}).get("activeDeadlineSeconds"):
        kubernetes.set_timeout(task, DEFAULT_RESOURCES.timeout_s)


def _is_seaway_image(image: str) -> bool:
    return image.startswith(f"{images.REGISTRY}/")


def _images(spec: Any) -> list[str]:
    """Returns the images of an IR's executors; [] without an IR."""
    executors = spec.deployment_spec["executors"] if spec is not None and "executors" in spec.deployment_spec else {}
    return [executor["container"]["image"] for executor in executors.values() if "container" in executor]


def _image_in(registry: str, image: str) -> str:
    return f"{registry.rstrip('/')}/{image.removeprefix(f'{images.REGISTRY}/')}"
