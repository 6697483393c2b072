"""Runs a compiled pipeline as Pods on a cluster without Kubeflow, as Kubeflow's driver, launcher and Argo would.

A pod's image, command, arguments, environment, resources, claims, user, pull policy and labels come from the IR, as do
the order of the tasks and the values that pass between them. A real backend also adds:

* artifacts: KFP's launcher copies them from and to an object store; here a folder of a claim is mounted where KFP's
  executor expects the content of `minio://`. They are named and described as by a real driver, which gives inputs no
  schema (tests/conformance/kubeflow),
* the run: its ID, its ServiceAccount, and the names of Argo's pods,
* environment variables, and a umask of 0, which stages inherit from argoexec,
* what a namespace with Pod Security "restricted" requires and the IR cannot express.

The cache is left out, and so are retries, which are for lost pods. An IR setting that is not supported here raises
NotImplementedError.
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

from seaway.kube import argo, run_diagnostics

BUCKET = "minio://mlpipeline"
FOLDER = ".artifacts"  # on the claim: no model name begins with a dot
OUTPUT = "output_metadata.json"
LOGS = "executor-logs"  # an output of every stage
PARAMETERS = "/tmp/kfp/outputs"
ARGOEXEC = ["sh", "-c", 'umask 0; exec "$0" "$@"']  # its effects on a stage
STORE = {
    "Provider": "minio",
    "Params": {"endpoint": "seaweedfs.kubeflow:9000", "region": "minio", "secretName": "mlpipeline-minio-artifact"},
}
POD_FIELDS = {"KFP_POD_NAME": "metadata.name", "KFP_POD_UID": "metadata.uid"}  # variable → field of the pod
ARGO = {
    "ARGO_CONTAINER_NAME": run_diagnostics.MAIN_CONTAINER,
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
ALWAYS = spec.PipelineTaskSpec.TriggerPolicy.ALL_UPSTREAM_TASKS_COMPLETED

Values = Mapping[str, Value]
Artifacts = Mapping[str, spec.RuntimeArtifact]
RunPod = Callable[[dict[str, Any], str], str]


class StageFailed(Exception):
    """A stage's pod failed. `stage`: its task's name."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(f"{stage}: {message}")
        self.stage = stage


@dataclass(frozen=True)
class Settings:
    """A run's settings from `seaway submit`, and the claim `store` for artifacts, mounted as `bucket`."""

    id: str
    service_account: str
    store: str
    bucket: str = BUCKET


class Run:
    """The pipeline in `file`, with `arguments` for its parameters.

    `start` runs a Pod to its end and returns the content of its second argument, a path in the store. It raises
    StageFailed if the Pod fails.
    """

    def __init__(self, file: Path, arguments: Mapping[str, Any], settings: Settings, start: RunPod) -> None:
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
        """Raises the first StageFailed, after all tasks that run regardless of it."""
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
            upstream = [failed[one] for one in task.dependent_tasks if one in failed]
            if upstream and task.trigger_policy.strategy != ALWAYS:
                failed[name] = upstream[0]
                continue
            only(task, "task_info", "inputs", "dependent_tasks", "component_ref", "trigger_policy",
                 "caching_options", "retry_policy")  # fmt: skip
            inner = self.spec.components[task.component_ref.name]
            parameters = {key: self._value(one, values, made, failed) for key, one in task.inputs.parameters.items()}
            inputs = {key: _artifact(one, artifacts, made) for key, one in task.inputs.artifacts.items()}
            try:
                if inner.HasField("dag"):
                    self._dag(inner, parameters, inputs, (*above, name))
                else:
                    made[name] = self._stage(name, inner, parameters, inputs, above)
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
        status.error.SetInParent()  # always {}
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
        """Returns an output as the driver passes it on: named by a number, no schema, with the stage's metadata."""
        artifact = spec.RuntimeArtifact(name=str(next(self._ids)), uri=declared.uri, metadata=made.metadata)
        artifact.type.instance_schema = ""
        artifact.metadata.update({"display_name": declared.name, "store_session_info": json.dumps(STORE)})
        return artifact

    def pod(
        self, name: str, component: spec.ComponentSpec, given: spec.ExecutorInput, above: tuple[str, ...]
    ) -> dict[str, Any]:
        """Returns the task's Pod. `above`: the workflow and the DAGs that contain the task."""
        container = self.containers[component.executor_label].container
        asked = self.asked[component.executor_label]
        only(container, "image", "command", "args", "env", "resources")
        only(asked, "pvc_mount", "pod_metadata", "image_pull_policy", "security_context", "active_deadline_seconds")
        claims = [(_claim(mount), mount) for mount in asked.pvc_mount]
        folder = _path(self.settings.bucket)
        main = {
            "name": run_diagnostics.MAIN_CONTAINER,
            "image": container.image,
            "imagePullPolicy": asked.image_pull_policy,
            "command": [*ARGOEXEC, *self._fill_placeholders(container.command, component, given, name)],
            "args": self._fill_placeholders(container.args, component, given, name),
            "env": [{"name": one.name, "value": one.value} for one in container.env]
            + [{"name": key, "value": value} for key, value in (ARGO | {"ARGO_NODE_ID": f"{self.workflow}-1"}).items()]
            + [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": field}}} for key, field in POD_FIELDS.items()],
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
                    run_diagnostics.RUN_LABEL: self.settings.id,
                    "pipelines.kubeflow.org/v2_component": "true",
                    "workflows.argoproj.io/workflow": self.workflow,
                },
                "annotations": {
                    **asked.pod_metadata.annotations,
                    argo.NODE_NAME: ".".join((*above, name, "executor")),
                },
            },
            "spec": {
                "serviceAccountName": self.settings.service_account,
                "restartPolicy": "Never",
                **({"activeDeadlineSeconds": seconds} if (seconds := asked.active_deadline_seconds) else {}),
                "containers": [main],
                "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in sorted(volumes)],
            },
        }

    def _fill_placeholders(
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
    """Returns the input of KFP's executor: values or defaults of parameters, and the locations of artifacts."""
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
    """Raises NotImplementedError if any other field of the message is set."""
    unsupported = {field.name for field, _ in message.ListFields()} - {*known}
    if unsupported:
        raise NotImplementedError(f"{message.DESCRIPTOR.name}'s {', '.join(sorted(unsupported))}: not supported here")


def _artifact(
    one: spec.TaskInputsSpec.InputArtifactSpec, artifacts: Artifacts, made: Mapping[str, spec.ExecutorOutput]
) -> spec.RuntimeArtifact:
    if one.HasField("component_input_artifact"):
        return artifacts[one.component_input_artifact]
    output = one.task_output_artifact
    [artifact] = made[output.producer_task].artifacts[output.output_artifact_key].artifacts
    return artifact


def _path(uri: str) -> str:
    """Returns the path at which KFP's executor expects it."""
    return str(dsl.Artifact(uri=uri).path)


def _claim(mount: Any) -> str:
    only(mount, "pvc_name_parameter", "constant", "mount_path", "sub_path")
    only(mount.pvc_name_parameter, "runtime_value")
    return str(mount.pvc_name_parameter.runtime_value.constant.string_value)


def _resources(asked: Any) -> dict[str, dict[str, str]]:
    fields = [f"{what}_{bound}" for what in ("cpu", "memory") for bound in ("request", "limit")]
    only(
        asked, *fields, *(f"resource_{field}" for field in fields)
    )  # fields without the prefix are older, rounded ones
    found: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for field in fields:
        what, bound = field.split("_")
        if quantity := getattr(asked, f"resource_{field}"):
            found[f"{bound}s"][what] = quantity
    return found


def _user(asked: KubernetesExecutorConfig) -> dict[str, Any]:
    """Returns numbers; a message's JSON has 64-bit integers as text."""
    return {field.json_name: value for field, value in asked.security_context.ListFields()}
