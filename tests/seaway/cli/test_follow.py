"""`seaway submit --wait` by what a real backend answered (tests/conformance/kubeflow), and by Argo's own words."""

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
    """A recording whose failed stage is another one's name: what is recorded of `validate` is told of any."""
    text = json.dumps(recorded(name)[-1:])
    for stage in stages:
        text = text.replace('"validate', f'"{stage}@').replace(f'"{stage}"', '"validate"').replace(f"{stage}@", stage)
    return json.loads(text)


def of_train(message: str, *more: dict) -> dict:
    return argo.workflow(argo.node("train(0).executor(0)", "Failed", message, 1), *more)


def told(out: str) -> list[list[str]]:
    """The changes of stages: [stage, state]."""
    return [line.split()[1:] for line in out.splitlines() if line[:3].strip().isdigit()]


class Done(NamedTuple):
    error: str
    out: str


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The verb in this process, with its own options; `cluster`: the address to which kubectl's configuration leads."""
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


# ---- states, as they were recorded


def test_a_run_that_succeeded_and_what_came_from_the_cache(submit: Callable[..., Done]) -> None:
    with kubeflow_api.serving(Kubeflow(recordings=[recorded("run_patched")])) as host:
        done = submit(host)
    assert done.error == "", done.out
    changes = told(done.out)
    assert [stage for stage, state in changes if state == "cached"] == UP_TO_CONVERT
    assert {stage for stage, state in changes if state == "succeeded"} == {
        "validate", "publish", "deploy", "load", "promote", "outcome",
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
    assert ["validate", "failed"] in told(done.out)
    assert not {stage for stage, _ in told(done.out)} & {"publish", "deploy", "load", "promote"}
    assert len(kubeflow.runs) == 1


def test_a_pod_that_argo_saw_vanish_is_repeated_by_argo(submit: Callable[..., Done]) -> None:
    answers = recorded("run_deleted_pod")
    with kubeflow_api.serving(Kubeflow(recordings=[answers])) as host:
        submit(host, wait=False)
        states = [Client(host).state(RUN) for _ in answers]
    assert [one.stages.get("train") for one in states] == [None] * 4 + ["RUNNING"] + ["SUCCEEDED"] * 3
    assert states[-1].stages == {
        "explore": "CACHED", "train": "SUCCEEDED", "export": "SUCCEEDED", "convert": "RUNNING",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["only numbered", "only plain", "whole names"])
@pytest.mark.parametrize("name", ["run_unmodified", "run_patched", "run_deleted_pod", "run_missing_image"])
def test_names_of_nodes_in_all_forms_are_the_stages(submit: Callable[..., Done], name: str, form: str) -> None:
    """With a retryStrategy Argo has "train" and "train(0)"; without, "train"; and a node's name is the whole path."""
    given = recorded(name)
    changed = json.loads(json.dumps(given))
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
    found = []
    for answers in (given, changed):
        answers[:] = [one for one in answers if not isinstance(one["after_s"], str)]
        with kubeflow_api.serving(Kubeflow(recordings=[answers])) as host:
            submit(host, wait=False)
            found.append([Client(host).state(RUN).stages for _ in answers])
    assert found[0] == found[1]
    assert found[0][-1]


# ---- pods that were lost


@pytest.mark.parametrize(
    "message", [argo.SIGTERM, argo.DELETED, argo.EVICTED, "Preempted in order to admit critical pod"]
)
def test_a_run_that_lost_a_pod_is_submitted_again_with_the_same(submit: Callable[..., Done], message: str) -> None:
    kubeflow = Kubeflow(
        recordings=[ends("run_unmodified", "train"), recorded("run_patched")], workflows=[of_train(message)]
    )
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host, param=["epochs=2", "net=mlp"], service_account="mine", run_name="first")
    assert done.error == "", done.out
    first, second = kubeflow.runs.values()
    assert (first.pop("display_name"), second.pop("display_name")) == ("first", "first (2)")
    assert {**first, "run_id": ""} == {**second, "run_id": ""}, "the same parameters, pipeline and account"
    assert "cacheKey" not in json.dumps(first), "anybody's results may answer"
    assert f"The run failed in train: {host}/#/runs/details/{RUN}\n  train:\n    {message.strip()}" in done.out
    assert f"Submitted again (1 of 2), for a pod was lost and no stage failed itself\nRun   {RUN[:-1]}1" in done.out


def test_it_is_submitted_again_at_most_twice(submit: Callable[..., Done]) -> None:
    kubeflow = Kubeflow(recordings=[ends("run_unmodified", "train")] * 4, workflows=[of_train(argo.DELETED)] * 4)
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host)
    assert len(kubeflow.runs) == 3
    assert "no fault of the stage's, but submitted again 2 times already" in done.error
    assert done.error.count(argo.DELETED) == 1


@pytest.mark.parametrize(
    "workflow",
    [
        of_train(argo.OWN),
        of_train(argo.OOM),
        of_train(argo.DEADLINE),
        of_train("Step exceeded its deadline"),
        of_train(argo.STORAGE),
        of_train(argo.SIGKILL),  # by whom is not known
        of_train(argo.DELETED, argo.node("train(0).executor(1)", "Failed", argo.OWN, 2)),
        of_train(argo.DELETED, argo.node("validate(0).executor(0)", "Failed", argo.OWN, 2)),
        {},
    ],
)
def test_a_stage_that_failed_by_its_own_fault_is_not_repeated(submit: Callable[..., Done], workflow: dict) -> None:
    kubeflow = Kubeflow(recordings=[ends("run_unmodified", "train")] * 2, workflows=[workflow] * 2)
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host)
    assert len(kubeflow.runs) == 1
    assert done.error.startswith(f"the run failed in train: {host}")


def test_a_run_that_somebody_ended_is_cancelled_and_not_repeated(submit: Callable[..., Done]) -> None:
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
    cluster = cluster_api.of(pod("exit-handler-1(0).explore(0).executor(0)", "Succeeded", 0, ended)) | {
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
    assert "no fault of the stage's: submit it again; training goes on where it was" in done.error


@pytest.mark.parametrize("asked", [{"cache": False}, {"param": ["source=idx:/models/.data/emnist"]}])
def test_a_cache_that_may_not_answer_does_so_for_the_same_run_alone(submit: Callable[..., Done], asked: dict) -> None:
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
            done = submit(host, **asked)
        assert done.error == "", done.out
        first, second = kubeflow.runs.values()
        assert keys(first) == keys(second)
        sent.append(keys(first))
    assert sent[0].keys() == sent[1].keys() == {*UP_TO_CONVERT, "validate"}
    assert not {*sent[0].values()} & {*sent[1].values()}, "no other run's results"


# ---- images that do not come


def missing(message: str = argo.PULL) -> Kubeflow:
    workflow = argo.workflow(argo.node("explore(0).executor(0)", "Pending", message))
    return Kubeflow(recordings=[recorded("run_missing_image")], workflows=[workflow])


def test_a_run_whose_image_does_not_come_is_terminated_and_the_image_named(submit: Callable[..., Done]) -> None:
    kubeflow = missing()
    with kubeflow_api.serving(kubeflow) as host:
        done = submit(host, pull_deadline=0.1)
    assert kubeflow.terminated == [RUN]
    assert done.error.startswith(
        "explore waited 0.1 s for an image that cannot be pulled: localhost/seaway/python-train:none; the run was "
        f"terminated: {host}/#/runs/details/{RUN}\n  {argo.PULL}\n"
    )
    assert done.out.count("ImagePullBackOff") == 1


def test_the_image_is_named_by_the_pod_where_kubectl_leads_to_it(submit: Callable[..., Done], tmp_path: Path) -> None:
    pull = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    cluster = cluster_api.of(pod("exit-handler-1(0).explore(0).executor(0)", "Pending", 1, pull))
    kubeflow = Kubeflow(multi_user=True, recordings=[recorded("run_missing_image")])
    with kubeflow_api.serving(kubeflow) as host, cluster_api.serving(cluster) as api:
        done = submit(host, api, tmp_path, namespace=NAMESPACE, pull_deadline=0.1)
    assert kubeflow.terminated == [RUN]
    assert "explore waited 0.1 s for an image that cannot be pulled: an/image:1; the run was terminated" in done.error


def test_following_ends_no_run(submit: Callable[..., Done]) -> None:
    kubeflow = missing()
    with kubeflow_api.serving(kubeflow) as host:
        submit(host, wait=False)
        done = submit(host, follow=RUN, wait=False, pull_deadline=0.1)
    assert kubeflow.terminated == []
    assert "python-train:none; the run goes on:" in done.error


def test_an_image_that_comes_late_ends_nothing(submit: Callable[..., Done]) -> None:
    """Beyond its time for want of a node, not of an image; and the deadline is five minutes by default."""
    late = [*recorded("run_missing_image")[:-1]] + [recorded("run_missing_image")[-2]] * 20 + recorded("run_patched")
    for message, more in (("Unschedulable: 0/1 nodes are available", {"pull_deadline": 0.02}), (argo.PULL, {})):
        kubeflow = missing(message)
        kubeflow.recordings = [late]
        with kubeflow_api.serving(kubeflow) as host:
            done = submit(host, **more)
        assert (done.error, kubeflow.terminated) == ("", []), done.out
        assert message in done.out


def test_what_argo_says_last_is_not_the_last_word(submit: Callable[..., Done], tmp_path: Path) -> None:
    said = "Traceback (most recent call last):\nTypeError: Cannot instantiate typing.Union\n"
    log = f"{said}F1129 07:56:14.1 1 main.go:52] failed to execute component: exit status 1\nError: exit status 1\n"
    cluster = cluster_api.of(pod("exit-handler-1(0).validate(0).executor(0)", "Failed", 1, ERROR), logs={"pod-1": log})
    kubeflow = Kubeflow(multi_user=True, recordings=[recorded("run_unmodified")])
    with kubeflow_api.serving(kubeflow) as host, cluster_api.serving(cluster) as api:
        done = submit(host, api, tmp_path, namespace=NAMESPACE)
    assert done.error.endswith("    | TypeError: Cannot instantiate typing.Union")
    assert "  validate:\n" in done.error
    assert len(kubeflow.runs) == 1
