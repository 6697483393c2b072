"""The TrainJob for Kubeflow Trainer, checked without a cluster against the API of version 2.2 and Seaway's settings."""

import copy
from pathlib import PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
from rendered import Object, load, of_kind
from restricted import violations

from seaway.pipeline.cluster import CLAIM, MODELS_PATH, USER
from seaway.pipeline.manifests import PLACEHOLDER_TAG
from seaway.train.__main__ import HELP

# Fields of trainer.kubeflow.org/v1alpha1 that may be set: a type, fields, or a list of what has fields. An Object is a
# core Kubernetes type, which the Pod's own schema checks below.
POD: Object = {
    "metadata": {"labels": dict, "annotations": dict},
    "spec": {
        "serviceAccountName": str,
        "volumes": list,
        "initContainers": list,
        "containers": [{"name": str, "env": list, "volumeMounts": list, "securityContext": dict}],
        "imagePullSecrets": list,
        "securityContext": dict,
        "nodeSelector": dict,
        "affinity": dict,
        "tolerations": list,
        "schedulingGates": list,
    },
}
TRAINJOB: Object = {
    "apiVersion": str,
    "kind": str,
    "metadata": dict,
    "spec": {
        "runtimeRef": {"name": str, "apiGroup": str, "kind": str},
        "initializer": dict,
        "trainer": {
            "image": str,
            "command": list,
            "args": list,
            "env": list,
            "numNodes": int,
            "resourcesPerNode": {"limits": dict, "requests": dict, "claims": list},
            "numProcPerNode": int,  # "auto" until 2.1
        },
        "runtimePatches": [
            {
                "manager": str,
                "trainingRuntimeSpec": {
                    "template": {
                        "metadata": {"labels": dict, "annotations": dict},
                        "spec": {"replicatedJobs": [{"name": str, "template": {"spec": {"template": POD}}}]},
                    }
                },
            }
        ],
        "suspend": bool,
        "activeDeadlineSeconds": int,
        "managedBy": str,
    },
}


def faults(found: Any, schema: Any, path: str = "") -> list[str]:
    """What of `found` the schema does not know, by path."""
    if isinstance(schema, type):
        return [] if type(found) is schema else [f"{path}: {found!r} is no {schema.__name__}"]
    if isinstance(schema, list):
        if not isinstance(found, list):
            return [f"{path}: no list"]
        return [fault for i, entry in enumerate(found) for fault in faults(entry, schema[0], f"{path}.{i}")]
    unknown = [f"{path}.{name}: unknown" for name in found.keys() - schema.keys()]
    return unknown + [
        fault for n in found.keys() & schema.keys() for fault in faults(found[n], schema[n], f"{path}.{n}")
    ]


@pytest.fixture
def job() -> Object:
    (found,) = load("training")
    return found


@pytest.fixture
def pod(job: Object) -> Object:
    """The pod that the Trainer creates, as far as the TrainJob determines it."""
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node", "the job of the runtime torch-distributed"
    made: Object = copy.deepcopy(replicated["template"]["spec"]["template"]["spec"])
    (container,) = made["containers"]
    assert container["name"] == "node", "its container"
    trainer = job["spec"]["trainer"]
    container |= {"resources": trainer["resourcesPerNode"]} | {n: trainer[n] for n in ("image", "command", "args")}
    return made


def test_every_field_exists_in_the_trainer_s_api(job: Object) -> None:
    assert faults(job, TRAINJOB) == []
    assert job["spec"]["runtimeRef"]["name"] == "torch-distributed"
    assert job["spec"]["trainer"]["numNodes"] * job["spec"]["trainer"]["numProcPerNode"] > 1


@pytest.mark.parametrize(
    ("path", "value"),
    [("spec.podTemplateOverrides", []), ("spec.trainer.numProcPerNode", "auto"), ("spec.trainer.resources", {})],
)
def test_the_check_sees_faults(job: Object, path: str, value: object) -> None:
    *way, last = path.split(".")
    place = job
    for step in way:
        place = place[step]
    place[last] = value
    assert [fault.partition(":")[0] for fault in faults(job, TRAINJOB)] == [f".{path}"]


def test_its_pods_are_valid_and_meet_the_restricted_standard(pod: Object) -> None:
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, "spec": pod}
    kubernetes_validate.validate(made, "1.34", strict=True)
    assert violations(pod) == []
    context = pod["securityContext"]
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == USER


def test_they_mount_the_model_repository_writable(pod: Object) -> None:
    claims = {v["name"]: v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    (name,) = claims
    assert claims[name] == {"claimName": CLAIM}
    assert CLAIM in of_kind(load("production"), "PersistentVolumeClaim")
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounts[name] == {"name": name, "mountPath": MODELS_PATH}


def test_they_run_the_train_stage_in_its_image_under_torchrun(pod: Object) -> None:
    (container,) = pod["containers"]
    assert container["image"] == f"seaway/train{PLACEHOLDER_TAG}"
    assert container["command"] == ["python", "-m", "torch.distributed.run", "-m", "seaway.train"]
    options = dict(argument.removeprefix("--").split("=") for argument in container["args"])
    paths = {"dataset", "checkpoint", "work", "report"}
    assert options.keys() - paths <= {name.replace("_", "-") for name in HELP}
    for path in (PurePosixPath(options[name]) for name in paths):
        assert path.is_relative_to(MODELS_PATH)
        assert path.relative_to(MODELS_PATH).parts[0].startswith("."), "a server must not take it for a model"
    assert options["work"] == f"{MODELS_PATH}/.work"
