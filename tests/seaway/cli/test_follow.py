"""`seaway submit --wait` with recorded responses of a real backend (tests/conformance/kubeflow) and Argo's messages."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "fixtures"))

import argo_workflow as argo  # noqa: E402
import cluster_api  # noqa: E402
import kubeflow_api  # noqa: E402
from cluster_api import ERROR, NAMESPACE, RUN, pod  # noqa: E402
from kubeflow_api import Kubeflow, recorded  # noqa: E402

from seaway.cli.submit import submit as command  # noqa: E402
from seaway.errors import SeawayError  # noqa: E402
from seaway.pipeline import request  # noqa: E402
from seaway.pipeline.kubeflow import Kubeflow as Client  # noqa: E402

once = functools.cache(request.compiled)  # the same pipeline for all tests
UP_TO_CONVERT = ["explore", "train", "export", "convert"]


def ends(name: str, *stages: str) -> list[dict]:
    """The recording's last response, with the failure of `validate` moved to these stages."""
    text = json.dumps(recorded(name)[-1:])
    for stage in stages:
        text = text.replace('"validate', f'"{stage}@').replace(f'"{stage}"', '"validate"').replace(f"{stage}@", stage)
    return json.loads(text)


def of_train(message: str, *more: dict) -> dict:
    return argo.workflow(argo.node("train(0).executor(0)", "Failed", message, 1), *more)


def stage_changes(out: str) -> list[list[str]]:
    """The printed changes: [stage, state]."""
    return [line.split()[1:] for line in out.splitlines() if line[:3].strip().isdigit()]


class Done(NamedTuple):
    error: str
    out: str


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The verb, called in this process; `cluster`: the API server in kubectl's configuration."""
    monkeypatch.setattr(request, "compiled", once)

    def call(host: str, cluster: str = "", folder: Path | None = None, **options: object) -> Done:
        config = "/nowhere"
        if folder:
            (folder / "config").write_text(cluster_api.kubeconfig(cluster))
            config = str(folder / "config")
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", config)
        error = ""
        try:
            command(host=host, **{"wait": True, "poll": 0.01} | options)  # type: ignore[arg-type]
        except SeawayError as raised:
            error = str(raised)
        return Done(error, capsys.readouterr().out)

    return call


# ---- recorded states


def test_a_run_that_succeeded_and_what_came_from_the_cache(submit: Callable[..., Done]) -> None:
    with kubeflow_api.serving(Kubeflow(recordings=[recorded("run_patched")])) as host:
        done = submit(host)
    assert done.error == "", done.out
    changes = stage_changes(done.out)
    assert [stage for stage, state in changes if state == "cached"] == UP_TO_CONVERT
    assert {stage for stage, state in changes if state == "succeeded"} == {
        "validate", "publish", "deploy", "load", "promote", "run-summary",
    }  # fmt: skip


def test_a_run_that_failed_names_the_stage_and_is_not_repeated(submit: Callable[..., Done]) -> None:
    kubeflow = Kubeflow(recordings=[recorded("run_unmodified")], workflows=[
        argo.workflow(argo.node("validate(0).executor(0)", "Failed", argo.OWN)),
    ])  # fmt: skip
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host)
    assert done.error.startswith(
        f"the run failed in validate: {host}/#/runs/details/{RUN}\n  validate:\n    {argo.OWN}\n"
    )
    assert "kubectl -n kubeflow logs" in done.error, "what the pod said is not known without kubectl"
    assert ["validate", "failed"] in stage_changes(done.out)
    assert not {stage for stage, _ in stage_changes(done.out)} & {"publish", "deploy", "load", "promote"}
    assert len(kubeflow.runs) == 1


def test_a_pod_that_argo_saw_vanish_is_repeated_by_argo(submit: Callable[..., Done]) -> None:
    answers = recorded("run_deleted_pod")
    with kubeflow_api.serving(Kubeflow(recordings=[answers])) as host:
        submit(host, wait=False)
        states = [Client(host).run_status(RUN) for _ in answers]
    assert [one.stages.get("train") for one in states] == [None] * 4 + ["RUNNING"] + ["SUCCEEDED"] * 3
    assert states[-1].stages == {
        "explore": "CACHED", "train": "SUCCEEDED", "export": "SUCCEEDED", "convert": "RUNNING",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["only numbered", "only plain", "whole names"])
@pytest.mark.parametrize("name", ["run_unmodified", "run_patched", "run_deleted_pod", "run_missing_image"])
def test_names_of_nodes_in_all_forms_are_the_stages(submit: Callable[..., Done], name: str, form: str) -> None:
    """With a retryStrategy Argo has "train" and "train(0)"; without, "train"; and a node's name is the whole path."""
    recording = recorded(name)
    changed = json.loads(json.dumps(recording))
    for answer in changed:
        tasks = answer["run"].get("run_details", {}).get("task_details", [])
        for task in tasks:
            shown = task.get("display_name", "")
            if shown and form == "whole names" and not shown.startswith("executor"):
                task["display_name"] = f"{argo.ROOT}.{shown}"
        if form != "whole names" and tasks:
            dropped = (lambda shown: shown.endswith(")")) if form == "only plain" else (lambda shown: shown[-1:] != ")")
            answer["run"]["run_details"]["task_details"] = [
                task for task in tasks if not dropped(task.get("display_name", "")) or task.get("state") == "SKIPPED"
            ]
    states = []
    for answers in (recording, changed):
        answers[:] = [one for one in answers if not isinstance(one["after_s"], str)]
        with kubeflow_api.serving(Kubeflow(recordings=[answers])) as host:
            submit(host, wait=False)
            states.append([Client(host).run_status(RUN).stages for _ in answers])
    assert states[0] == states[1]
    assert states[0][-1]


# ---- lost pods


@pytest.mark.parametrize(
    "message", [argo.SIGTERM, argo.DELETED, argo.EVICTED, "Preempted in order to admit critical pod"]
)
def test_a_run_that_lost_a_pod_is_resubmitted_unchanged(submit: Callable[..., Done], message: str) -> None:
    kubeflow = Kubeflow(
        recordings=[ends("run_unmodified", "train"), recorded("run_patched")], workflows=[of_train(message)]
    )
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host, param=["epochs=2", "net=mlp"], service_account="mine", run_name="first")
    assert done.error == "", done.out
    first, second = kubeflow.runs.values()
    assert (first.pop("display_name"), second.pop("display_name")) == ("first", "first (2)")
    assert {**first, "run_id": ""} == {**second, "run_id": ""}, "the same parameters, pipeline and account"
    assert "cacheKey" not in json.dumps(first), "results of any run may be reused"
    assert f"The run failed in train: {host}/#/runs/details/{RUN}\n  train:\n    {message.strip()}" in done.out
    assert f"Resubmitted (1 of 2), because the stage only lost its pod\nRun   {RUN[:-1]}1" in done.out


def test_a_run_is_resubmitted_at_most_twice(submit: Callable[..., Done]) -> None:
    kubeflow = Kubeflow(recordings=[ends("run_unmodified", "train")] * 4, workflows=[of_train(argo.DELETED)] * 4)
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host)
    assert len(kubeflow.runs) == 3
    assert "the stage failed only because its pod was lost, but this was resubmission 2, the last" in done.error
    assert done.error.count(argo.DELETED) == 1


@pytest.mark.parametrize(
    "workflow",
    [
        of_train(argo.OWN),
        of_train(argo.OOM),
        of_train(argo.DEADLINE),
        of_train("Step exceeded its deadline"),
        of_train(argo.STORAGE),
        of_train(argo.SIGKILL),  # sender unknown
        of_train(argo.DELETED, argo.node("train(0).executor(1)", "Failed", argo.OWN, 2)),
        of_train(argo.DELETED, argo.node("validate(0).executor(0)", "Failed", argo.OWN, 2)),
        {},
    ],
)
def test_a_stage_that_failed_for_another_reason_is_not_repeated(submit: Callable[..., Done], workflow: dict) -> None:
    kubeflow = Kubeflow(recordings=[ends("run_unmodified", "train")] * 2, workflows=[workflow] * 2)
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host)
    assert len(kubeflow.runs) == 1
    assert done.error.startswith(f"the run failed in train: {host}")


def test_a_terminated_run_is_cancelled_and_not_repeated(submit: Callable[..., Done]) -> None:
    kubeflow = Kubeflow(recordings=[[{"after_s": 0, "run": recorded("run_missing_image")[-1]["run"]}]], workflows=[
        argo.workflow(argo.node("explore(0).executor(0)", "Failed", argo.SIGTERM)),
    ])  # fmt: skip
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host)
    assert len(kubeflow.runs) == 1
    assert done.error.startswith("the run canceled in explore")


def test_the_cluster_says_that_a_pod_was_deleted(submit: Callable[..., Done], tmp_path: Path) -> None:
    """API v1beta1 tells nothing here, and the pod is gone: its events and Argo's Workflow are left."""
    lost = argo.node("train(0).executor(0)", "Failed", argo.SIGKILL, 1)
    name = f"{argo.NAME}-system-container-impl-{lost['id'].rpartition('-')[2]}"
    event = {
        "reason": "Killing", "message": "Stopping container main", "type": "Normal", "metadata": {"name": "event-1"},
        "involvedObject": {"kind": "Pod", "name": name, "namespace": NAMESPACE},
    }  # fmt: skip
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    cluster = cluster_api.pod_responses(pod("exit-handler-1(0).explore(0).executor(0)", "Succeeded", 0, ended)) | {
        f"/api/v1/namespaces/{NAMESPACE}/events": {"items": [event]},
        f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows": {"items": [argo.workflow(lost)]},
    }
    kubeflow = Kubeflow(multi_user=True, recordings=[ends("run_unmodified", "train"), recorded("run_patched")])
    with kubeflow_api.serving(kubeflow) as host, cluster_api.serving(cluster) as api:
        done = submit(host, api, tmp_path, namespace=NAMESPACE)
    assert done.error == "", done.out
    assert len(kubeflow.runs) == 2
    assert f"its pod is gone: {argo.SIGKILL}\n    Killing: Stopping container main\n" in done.out


def test_following_submits_nothing(submit: Callable[..., Done]) -> None:
    kubeflow = Kubeflow(recordings=[ends("run_unmodified", "train")], workflows=[of_train(argo.DELETED)])
    with kubeflow_api.serving(kubeflow) as host:
        submit(host, wait=False)
        done = submit(host, follow=RUN, wait=False)
    assert len(kubeflow.runs) == 1
    assert "the stage failed only because its pod was lost: submit the run again; training resumes" in done.error


@pytest.mark.parametrize("options", [{"cache": False}, {"param": ["source=idx:/models/.data/emnist"]}])
def test_without_the_cache_only_results_of_the_same_run_are_reused(submit: Callable[..., Done], options: dict) -> None:
    def keys(run: dict) -> dict[str, str]:
        tasks = run["pipeline_spec"]["pipeline_spec"]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
        caching = {name: task["cachingOptions"] for name, task in tasks.items()}
        return {name: one["cacheKey"] for name, one in caching.items() if one.get("enableCache")}

    sent = []
    for _ in range(2):
        kubeflow = Kubeflow(
            recordings=[ends("run_unmodified", "train"), recorded("run_patched")], workflows=[of_train(argo.DELETED)]
        )
        with kubeflow_api.serving(kubeflow) as host:
            done = submit(host, **options)
        assert done.error == "", done.out
        first, second = kubeflow.runs.values()
        assert keys(first) == keys(second)
        sent.append(keys(first))
    assert sent[0].keys() == sent[1].keys() == {*UP_TO_CONVERT, "validate"}
    assert not {*sent[0].values()} & {*sent[1].values()}, "no other run's results"


# ---- images that cannot be pulled


def missing(message: str = argo.PULL) -> Kubeflow:
    workflow = argo.workflow(argo.node("explore(0).executor(0)", "Pending", message))
    return Kubeflow(recordings=[recorded("run_missing_image")], workflows=[workflow])


def test_a_run_whose_image_cannot_be_pulled_is_terminated_and_the_image_named(submit: Callable[..., Done]) -> None:
    kubeflow = missing()
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host, pull_deadline=0.1)
    assert kubeflow.terminated == [RUN]
    assert done.error.startswith(
        "explore waited 0.1 s for an image that cannot be pulled: localhost/seaway/python-train:none; the run was "
        f"terminated: {host}/#/runs/details/{RUN}\n  {argo.PULL}\n"
    )
    assert done.out.count("ImagePullBackOff") == 1


def test_the_image_is_named_by_the_pod_if_kubectl_has_access(submit: Callable[..., Done], tmp_path: Path) -> None:
    pull = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    cluster = cluster_api.pod_responses(pod("exit-handler-1(0).explore(0).executor(0)", "Pending", 1, pull))
    kubeflow = Kubeflow(multi_user=True, recordings=[recorded("run_missing_image")])
    with kubeflow_api.serving(kubeflow) as host, cluster_api.serving(cluster) as api:
        done = submit(host, api, tmp_path, namespace=NAMESPACE, pull_deadline=0.1)
    assert kubeflow.terminated == [RUN]
    assert "explore waited 0.1 s for an image that cannot be pulled: an/image:1; the run was terminated" in done.error


def test_following_terminates_no_run(submit: Callable[..., Done]) -> None:
    kubeflow = missing()
    with kubeflow_api.serving(kubeflow) as host:
        submit(host, wait=False)
        done = submit(host, follow=RUN, wait=False, pull_deadline=0.1)
    assert kubeflow.terminated == []
    assert "python-train:none; the run continues:" in done.error


def test_an_image_that_is_pulled_late_terminates_nothing(submit: Callable[..., Done]) -> None:
    """A stage that waits for a node has no deadline; that for an image is five minutes by default."""
    late = [*recorded("run_missing_image")[:-1]] + [recorded("run_missing_image")[-2]] * 20 + recorded("run_patched")
    for message, more in (("Unschedulable: 0/1 nodes are available", {"pull_deadline": 0.02}), (argo.PULL, {})):
        kubeflow = missing(message)
        kubeflow.recordings = [late]
        with kubeflow_api.serving(kubeflow) as host:
            done = submit(host, **more)
        assert (done.error, kubeflow.terminated) == ("", []), done.out
        assert message in done.out


def test_lines_of_argo_s_wrapper_are_not_quoted(submit: Callable[..., Done], tmp_path: Path) -> None:
    said = "Traceback (most recent call last):\nTypeError: Cannot instantiate typing.Union\n"
    log = f"{said}F1129 07:56:14.1 1 main.go:52] failed to execute component: exit status 1\nError: exit status 1\n"
    failed = pod("exit-handler-1(0).validate(0).executor(0)", "Failed", 1, ERROR)
    cluster = cluster_api.pod_responses(failed, logs={"pod-1": log})
    kubeflow = Kubeflow(multi_user=True, recordings=[recorded("run_unmodified")])
    with kubeflow_api.serving(kubeflow) as host, cluster_api.serving(cluster) as api:
        done = submit(host, api, tmp_path, namespace=NAMESPACE)
    assert done.error.endswith("    | TypeError: Cannot instantiate typing.Union")
    assert "  validate:\n" in done.error
    assert len(kubeflow.runs) == 1
