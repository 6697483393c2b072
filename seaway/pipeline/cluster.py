"""A pipeline made fit for a Kubeflow cluster: images, the model volume, user, resources, time, retries, a first check
and a last word.

None of it means anything to a local run, whose pipeline stays as it is; kfp.local would warn of each.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import kfp.kubernetes as kubernetes  # of a package of its own: `from kfp import` would not say that it is missing
from kfp import dsl
from kfp.dsl import pipeline_context

from seaway.errors import InvalidInput
from seaway.pipeline import images
from seaway.pipeline.definitions import component

CLAIM = "seaway-models"  # manifests/base/persistentvolumeclaim.yaml
VOLUME = "/models"  # as in the server's pods: models.config, which publish writes for TensorFlow Serving, has this path
USER = 10001  # the images', and the server's
CLIENT = ("seaway.dev/client", "true")  # the label that the server's NetworkPolicy lets in


@dataclass(frozen=True)
class Needs:
    """What a stage asks of the cluster. Requests are small: two nodes of 2 cores are to have room for any stage beside
    Kubeflow and the serving stack. `minutes`: after which its pod is ended, from when a node has it, pulling included.
    `volume`: reads or writes the model volume; `calls`: speaks to the server."""

    cpu: tuple[str, str]  # request, limit
    memory: tuple[str, str]
    minutes: int
    volume: bool = False
    calls: bool = False
    retries: int = 2


SMALL_CPU, CPU = ("100m", "1"), ("500m", "2")
DAY = 24 * 60  # minutes
NEEDS = {
    "preflight": Needs(SMALL_CPU, ("128Mi", "512Mi"), 15),
    "explore": Needs(CPU, ("1Gi", "2Gi"), 4 * 60, volume=True),  # with a download
    "train": Needs(("500m", "4"), ("1Gi", "8Gi"), 3 * DAY, volume=True),  # takes as many cores as its limit has
    "export": Needs(CPU, ("1Gi", "4Gi"), 2 * 60),
    "export-model": Needs(CPU, ("1Gi", "8Gi"), 4 * 60, volume=True),  # any net: weights in PyTorch and in ONNX
    "convert": Needs(CPU, ("1Gi", "4Gi"), 4 * 60),
    "validate": Needs(CPU, ("1Gi", "4Gi"), 4 * 60),
    "publish": Needs(SMALL_CPU, ("256Mi", "1Gi"), 60, volume=True),
    "deploy": Needs(SMALL_CPU, ("256Mi", "1Gi"), 60, volume=True, calls=True),
    # Not measured until it suits; of load_seconds on each protocol, and the test set.
    "load": Needs(CPU, ("512Mi", "2Gi"), DAY, volume=True, calls=True, retries=0),
    "promote": Needs(SMALL_CPU, ("256Mi", "1Gi"), 60, volume=True),
    "outcome": Needs(SMALL_CPU, ("128Mi", "512Mi"), 15),
}
OTHER = Needs(CPU, ("1Gi", "8Gi"), DAY)  # a user's own component, where it does not say
BACKOFF = {"backoff_duration": "30s", "backoff_factor": 2}


def pipeline(local: Any, registry: str = images.REGISTRY, claim: str = CLAIM, cached: bool = True) -> Any:
    """The pipeline `local` for a cluster: images from `registry`, the volume from the PersistentVolumeClaim `claim`;
    unless `cached`, every stage runs.

    `preflight` comes before all stages. It says in which namespace they act: the parameter's, or the run's own."""
    signature = inspect.signature(local.pipeline_func)
    preflight, outcome = component("preflight"), component("outcome")

    def stages(*channels: Any) -> None:
        # Only here: no pipeline may return what was made within an exit handler, and a local run needs its reports.
        last = outcome(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER).set_caching_options(False)
        given = signature.bind(*channels).arguments
        with dsl.ExitHandler(last, name="stages"):
            first = preflight(claim=claim, namespace=given.get("namespace", ""), serving="namespace" in given)
            first.set_caching_options(False)
            if "namespace" in given:
                given["namespace"] = first.output
            local.pipeline_func(**given)
        for task in pipeline_context.Pipeline.get_default_pipeline().tasks.values():
            _fit(task, registry, claim)
            if task not in (first, last):
                task.after(first)
            if not cached:
                task.set_caching_options(False)

    stages.__signature__ = signature.replace(return_annotation=None)  # type: ignore[attr-defined]
    return dsl.pipeline(name=local.name, description=local.description)(stages)


def _fit(task: Any, registry: str, claim: str) -> None:
    """Raises InvalidInput for a stage of ours within a pipeline within the pipeline, which nothing here reaches."""
    if task.container_spec is None:  # an importer, or a pipeline
        if any(_is_ours(image) for image in _images(task.pipeline_spec)):
            raise InvalidInput(f"{task.name} is a pipeline that uses Seaway's stages: use them in the outer one itself")
        return
    if not _is_ours(task.container_spec.image):
        _fit_other(task)
        return
    needs = NEEDS.get(task.component_spec.name, OTHER)
    task.set_container_image(_from(registry, task.container_spec.image))
    task.set_cpu_request(needs.cpu[0]).set_cpu_limit(needs.cpu[1])
    task.set_memory_request(needs.memory[0]).set_memory_limit(needs.memory[1])
    if needs.retries:
        task.set_retry(needs.retries, **BACKOFF)
    kubernetes.set_timeout(task, needs.minutes * 60)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    if needs.volume:
        kubernetes.mount_pvc(task, claim, VOLUME)
    if needs.calls:
        kubernetes.add_pod_label(task, *CLIENT)


def _fit_other(task: Any) -> None:
    """A component of the user's own: its image and its user stay, and so does what the pipeline has set already."""
    asked = task.container_spec.resources
    for what, value in (
        ("cpu_request", OTHER.cpu[0]),
        ("cpu_limit", OTHER.cpu[1]),
        ("memory_request", OTHER.memory[0]),
        ("memory_limit", OTHER.memory[1]),
    ):
        if not getattr(asked, what, None):
            getattr(task, f"set_{what}")(value)
    if task._task_spec.retry_policy is None:
        task.set_retry(OTHER.retries, **BACKOFF)
    if not task.platform_config.get("kubernetes", {}).get("activeDeadlineSeconds"):
        kubernetes.set_timeout(task, OTHER.minutes * 60)


def _is_ours(image: str) -> bool:
    return image.startswith(f"{images.REGISTRY}/")


def _images(spec: Any) -> list[str]:
    """Those that the executors of an IR name; none where there is no IR."""
    executors = spec.deployment_spec["executors"] if spec is not None and "executors" in spec.deployment_spec else {}
    return [executor["container"]["image"] for executor in executors.values() if "container" in executor]


def _from(registry: str, image: str) -> str:
    return f"{registry.rstrip('/')}/{image.removeprefix(f'{images.REGISTRY}/')}"
