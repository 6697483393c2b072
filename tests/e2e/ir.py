"""A compiled pipeline as Pods, on a cluster without Kubeflow: what its driver, its launcher and Argo make of the IR.

A pod's image, command, arguments, environment, resources, claims, user, pull policy and labels are the IR's; so are the
order of the tasks and what passes between them. The rest is the backend's, which adds as much on a real one:

* artifacts: KFP's launcher brings them from an object store and back; here a folder of a claim is mounted where KFP's
  executor expects what `minio://` holds. They are named and described as a real driver does it, which gives inputs no
  schema (tests/conformance/kubeflow),
* the run: its id, its ServiceAccount, and the names by which Argo's pods are known,
* the environment's variables, and a umask of 0, which stages inherit from argoexec,
* what a namespace with Pod Security "restricted" demands and the IR has no word for.

Left out: the cache, and retries, which are for pods that were lost. What the IR asks for and no Pod here would have
raises NotImplementedError.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import count
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, Parse, ParseDict
from google.protobuf.struct_pb2 import Value
from kfp import components, dsl
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.local.executor_input_utils import executor_input_to_dict
from kfp.local.placeholder_utils import replace_placeholders
from kfp.pipeline_spec import pipeline_spec_pb2 as spec

from seaway.kube import runs

BUCKET = "minio://mlpipeline"
FOLDER = ".artifacts"  # of the claim: no model's name begins with a dot
OUTPUT = "output_metadata.json"
LOGS = "executor-logs"  # an output of every stage
PARAMETERS = "/tmp/kfp/outputs"
ARGOEXEC = ["sh", "-c", 'umask 0; exec "$0" "$@"']  # what of it a stage notices
STORE = {
    "Provider": "minio",
    "Params": {"endpoint": "seaweedfs.kubeflow:9000", "region": "minio", "secretName": "mlpipeline-minio-artifact"},
}
OWN = {"KFP_POD_NAME": "metadata.name", "KFP_POD_UID": "metadata.uid"}  # variables, by the pod's field
ARGO = {
    "ARGO_CONTAINER_NAME": runs.MAIN,
    "ARGO_DEADLINE": "0001-01-01T00:00:00Z",
    "ARGO_INCLUDE_SCRIPT_OUTPUT": "false",
    "ARGO_PROGRESS_FILE": "/var/run/argo/progress",
    "ARGO_PROGRESS_FILE_TICK_DURATION": "3s",
    "ARGO_PROGRESS_PATCH_TICK_DURATION": "1m0s",
    "KFP_RETRY_INDEX": "0",
}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
WHATEVER_BECAME = spec.PipelineTaskSpec.TriggerPolicy.ALL_UPSTREAM_TASKS_COMPLETED

Values = Mapping[str, Value]
Artifacts = Mapping[str, spec.RuntimeArtifact]
Start = Callable[[dict[str, Any], str], str]


class StageFailed(Exception):
    """A stage's pod did not end well. `stage`: its task's name."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(f"{stage}: {message}")
        self.stage = stage


@dataclass(frozen=True)
class Settings:
    """Of a run, beside its pipeline: what `seaway submit` gives Kubeflow, and where a Kubeflow is set up to keep
    artifacts: in `store`, the claim, mounted as `bucket`."""

    id: str
    service_account: str
    store: str
    bucket: str = BUCKET


class Run:
    """The pipeline in `file`, with `arguments` for its parameters.

    `start` runs a Pod to its end and returns what it wrote to the second argument, a path in the store; it raises
    StageFailed where the Pod did not end well.
    """

    def __init__(self, file: Path, arguments: Mapping[str, Any], settings: Settings, start: Start) -> None:
        loaded = components.load_component_from_file(str(file))
        self.spec: spec.PipelineSpec = loaded.pipeline_spec
        self.arguments = {name: ParseDict(value, Value()) for name, value in arguments.items()}
        self.settings, self.start = settings, start
        self.workflow = f"{self.spec.pipeline_info.name}-{settings.id[:5]}"
        self.place = f"v2/artifacts/{self.spec.pipeline_info.name}/{settings.id}"  # of its artifacts, in the bucket
        self._ids = count(1)
        self.containers = ParseDict(MessageToDict(self.spec.deployment_spec), spec.PipelineDeploymentConfig()).executors
        platform = loaded.platform_spec.platforms["kubernetes"].deployment_spec.executors
        self.asked = {
            label: ParseDict(MessageToDict(one), KubernetesExecutorConfig()) for label, one in platform.items()
        }

    def images(self) -> set[str]:
        return {executor.container.image for executor in self.containers.values()}

    def run(self) -> None:
        """Raises the first StageFailed, after all that runs nevertheless."""
        unknown = self.arguments.keys() - self.spec.root.input_definitions.parameters.keys()
        assert not unknown, f"the pipeline has no parameters {unknown}"
        self._dag(self.spec.root, self.arguments, {}, (self.workflow, "root"))

    def _dag(self, component: spec.ComponentSpec, given: Values, artifacts: Artifacts, above: tuple[str, ...]) -> None:
        only(component, "dag", "input_definitions")
        values = {
            name: given.get(name, one.default_value)
            for name, one in component.input_definitions.parameters.items()
            if name in given or one.HasField("default_value")
        }
        tasks = component.dag.tasks
        made: dict[str, spec.ExecutorOutput] = {}
        failed: dict[str, StageFailed] = {}
        for name in TopologicalSorter({name: tasks[name].dependent_tasks for name in sorted(tasks)}).static_order():
            task = tasks[name]
            before = [failed[one] for one in task.dependent_tasks if one in failed]
            if before and task.trigger_policy.strategy != WHATEVER_BECAME:
                failed[name] = before[0]
                continue
            only(task, "task_info", "inputs", "dependent_tasks", "component_ref", "trigger_policy",
                 "caching_options", "retry_policy")  # fmt: skip
            inner = self.spec.components[task.component_ref.name]
            found = {key: self._value(one, values, made, failed) for key, one in task.inputs.parameters.items()}
            brought = {key: _artifact(one, artifacts, made) for key, one in task.inputs.artifacts.items()}
            try:
                if inner.HasField("dag"):
                    self._dag(inner, found, brought, (*above, name))
                else:
                    made[name] = self._stage(name, inner, found, brought, above)
            except StageFailed as error:
                failed[name] = error
        for error in failed.values():
            raise error

    def _value(
        self,
        one: spec.TaskInputsSpec.InputParameterSpec,
        values: Values,
        made: Mapping[str, spec.ExecutorOutput],
        failed: Mapping[str, StageFailed],
    ) -> Value:
        only(one, "runtime_value", "component_input_parameter", "task_output_parameter", "task_final_status")
        match one.WhichOneof("kind"):
            case "runtime_value":
                return one.runtime_value.constant
            case "component_input_parameter":
                return values[one.component_input_parameter]
            case "task_output_parameter":
                output = one.task_output_parameter
                return made[output.producer_task].parameter_values[output.output_parameter_key]
        task = one.task_final_status.producer_task
        status = spec.PipelineTaskFinalStatus(
            state="FAILED" if task in failed else "COMPLETE",
            pipeline_task_name=task,
            pipeline_job_resource_name=self.workflow,
        )
        status.error.SetInParent()  # whatever became of it, {}
        return ParseDict(MessageToDict(status), Value())

    def _stage(
        self, name: str, component: spec.ComponentSpec, values: Values, artifacts: Artifacts, above: tuple[str, ...]
    ) -> spec.ExecutorOutput:
        place = f"{self.place}/{name}/{uuid.uuid4()}"
        given = executor_input(component, values, artifacts, f"{self.settings.bucket}/{place}")
        written = self.start(self.pod(name, component, given, above), f"{place}/{OUTPUT}")
        output = Parse(written, spec.ExecutorOutput(), ignore_unknown_fields=True)
        for key, declared in given.outputs.artifacts.items():
            [made] = output.artifacts[key].artifacts or [spec.RuntimeArtifact()]
            output.artifacts[key].CopyFrom(spec.ArtifactList(artifacts=[self._stored(declared.artifacts[0], made)]))
        return output

    def _stored(self, declared: spec.RuntimeArtifact, made: spec.RuntimeArtifact) -> spec.RuntimeArtifact:
        """An output as the driver hands it on: known by its number, of no schema, with what the stage said of it."""
        found = spec.RuntimeArtifact(name=str(next(self._ids)), uri=declared.uri, metadata=made.metadata)
        found.type.instance_schema = ""
        found.metadata.update({"display_name": declared.name, "store_session_info": json.dumps(STORE)})
        return found

    def pod(
        self, name: str, component: spec.ComponentSpec, given: spec.ExecutorInput, above: tuple[str, ...]
    ) -> dict[str, Any]:
        """The task's Pod; `above`: the workflow and the DAGs that the task is in."""
        container = self.containers[component.executor_label].container
        asked = self.asked[component.executor_label]
        only(container, "image", "command", "args", "env", "resources")
        only(asked, "pvc_mount", "pod_metadata", "image_pull_policy", "security_context", "active_deadline_seconds")
        claims = [(_claim(mount), mount) for mount in asked.pvc_mount]
        folder = _path(self.settings.bucket)
        main = {
            "name": runs.MAIN,
            "image": container.image,
            "imagePullPolicy": asked.image_pull_policy,
            "command": [*ARGOEXEC, *self._filled(container.command, component, given, name)],
            "args": self._filled(container.args, component, given, name),
            "env": [{"name": one.name, "value": one.value} for one in container.env]
            + [{"name": key, "value": value} for key, value in (ARGO | {"ARGO_NODE_ID": f"{self.workflow}-1"}).items()]
            + [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": field}}} for key, field in OWN.items()],
            "resources": _resources(container.resources),
            "securityContext": _user(asked) | RESTRICTED,
            "volumeMounts": [
                {"name": claim, "mountPath": mount.mount_path, "subPath": mount.sub_path} for claim, mount in claims
            ]
            + [{"name": self.settings.store, "mountPath": folder, "subPath": FOLDER}],
        }
        volumes = {claim for claim, _ in claims} | {self.settings.store}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{self.workflow}-{name}",
                "labels": {
                    **asked.pod_metadata.labels,
                    runs.RUN: self.settings.id,
                    "pipelines.kubeflow.org/v2_component": "true",
                    "workflows.argoproj.io/workflow": self.workflow,
                },
                "annotations": {**asked.pod_metadata.annotations, runs.NODE: ".".join((*above, name, "executor"))},
            },
            "spec": {
                "serviceAccountName": self.settings.service_account,
                "restartPolicy": "Never",
                **({"activeDeadlineSeconds": seconds} if (seconds := asked.active_deadline_seconds) else {}),
                "containers": [main],
                "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in sorted(volumes)],
            },
        }

    def _filled(
        self, words: Iterable[str], component: spec.ComponentSpec, given: spec.ExecutorInput, task: str
    ) -> list[str]:
        return replace_placeholders(
            full_command=list(words),
            executor_input_dict=executor_input_to_dict(given, component),
            pipeline_resource_name=self.workflow,
            task_resource_name=task,
            pipeline_root=self.settings.bucket,
            unique_pipeline_id=self.settings.id,
        )


def executor_input(
    component: spec.ComponentSpec, values: Values, artifacts: Artifacts, place: str
) -> spec.ExecutorInput:
    """What KFP's executor is told: values or defaults of parameters, and where artifacts are and are to be."""
    made = spec.ExecutorInput()
    for name, one in component.input_definitions.parameters.items():
        if name in values or one.HasField("default_value"):
            made.inputs.parameter_values[name].CopyFrom(values.get(name, one.default_value))
    for name, artifact in artifacts.items():
        made.inputs.artifacts[name].artifacts.append(artifact)
    for name, one in component.output_definitions.artifacts.items():
        made.outputs.artifacts[name].artifacts.add(name=name, type=one.artifact_type, uri=f"{place}/{name}")
    made.outputs.artifacts[LOGS].artifacts.add(name=LOGS, uri=f"{place}/{LOGS}").type.schema_title = "system.Artifact"
    for name in component.output_definitions.parameters:
        made.outputs.parameters[name].output_file = f"{PARAMETERS}/{name}"
    made.outputs.output_file = _path(f"{place}/{OUTPUT}")
    return made


def only(message: Any, *known: str) -> None:
    """Raises NotImplementedError where another field of the message is set."""
    strange = {field.name for field, _ in message.ListFields()} - {*known}
    if strange:
        raise NotImplementedError(f"no Pod here knows of {message.DESCRIPTOR.name}'s {', '.join(sorted(strange))}")


def _artifact(
    one: spec.TaskInputsSpec.InputArtifactSpec, artifacts: Artifacts, made: Mapping[str, spec.ExecutorOutput]
) -> spec.RuntimeArtifact:
    if one.HasField("component_input_artifact"):
        return artifacts[one.component_input_artifact]
    output = one.task_output_artifact
    [artifact] = made[output.producer_task].artifacts[output.output_artifact_key].artifacts
    return artifact


def _path(uri: str) -> str:
    """Where KFP's executor looks for it."""
    return str(dsl.Artifact(uri=uri).path)


def _claim(mount: Any) -> str:
    only(mount, "pvc_name_parameter", "constant", "mount_path", "sub_path")
    only(mount.pvc_name_parameter, "runtime_value")
    return str(mount.pvc_name_parameter.runtime_value.constant.string_value)


def _resources(asked: Any) -> dict[str, dict[str, str]]:
    fields = [f"{what}_{bound}" for what in ("cpu", "memory") for bound in ("request", "limit")]
    only(asked, *fields, *(f"resource_{field}" for field in fields))  # those without are the older, rounded ones
    found: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for field in fields:
        what, bound = field.split("_")
        if quantity := getattr(asked, f"resource_{field}"):
            found[f"{bound}s"][what] = quantity
    return found


def _user(asked: KubernetesExecutorConfig) -> dict[str, Any]:
    """As numbers: a message's JSON has those of 64 bits as text."""
    return {field.json_name: value for field, value in asked.security_context.ListFields()}
