"""The API server would accept every object: no unknown field, no wrong type."""

import copy

import kubernetes_validate
import pytest
from rendered import Object, each, load

KUBERNETES = "1.34"
PROMETHEUS, TRAINER, KSERVE = "monitoring.coreos.com/v1", "trainer.kubeflow.org/v1alpha1", "serving.kserve.io"
CUSTOM = {  # kinds of operators, whose schemas are not here: the fields in use
    "PodMonitor": (PROMETHEUS, {"selector", "podTargetLabels", "podMetricsEndpoints"}),
    "PrometheusRule": (PROMETHEUS, {"groups"}),
    "TrainJob": (TRAINER, {"runtimeRef", "trainer", "runtimePatches"}),  # more of it in test_training.py
    "ServingRuntime": (  # more of it and the next in test_kserve.py
        f"{KSERVE}/v1alpha1",
        {"annotations", "supportedModelFormats", "protocolVersions", "containers", "volumes"},
    ),
    "InferenceService": (f"{KSERVE}/v1beta1", {"predictor"}),
}


@each
def test_every_object_fits_its_schema(objects: list[Object]) -> None:
    for found in objects:
        if found["kind"] in CUSTOM:
            version, fields = CUSTOM[found["kind"]]
            assert found["apiVersion"] == version
            assert found["spec"].keys() <= fields
        else:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)


@each
def test_no_object_is_duplicated(objects: list[Object]) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len({*names}) == len(names)


@pytest.mark.parametrize(("field", "value"), [("replica", 2), ("replicas", "two"), ("strategy", [])])
def test_the_validation_finds_faults(field: str, value: object) -> None:
    (deployment,) = [d for d in load("kind") if d["kind"] == "Deployment" and d["metadata"]["name"] == "seaway"]
    broken = copy.deepcopy(deployment)
    broken["spec"][field] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)
