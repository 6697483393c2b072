"""The compiled pipelines on a cluster: their stages as Pods, a model before a Deployment, and Locust beside it."""

import json
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ir import FOLDER, Run, Settings, StageFailed
from onkind import (
    CONTEXT,
    MODEL,
    NAMESPACE,
    WORKERS,
    command,
    found,
    kubectl,
    provide,
    rolled_out,
    seaway,
    serving,
    serving_pods,
    until,
)

from seaway.artifacts import store
from seaway.kube import rollout, runs
from seaway.load import results
from seaway.load.verify import replicas
from seaway.pipeline.cluster import CLAIM
from seaway.pipeline.compile import compile_pipeline
from seaway.pipeline.images import STAGES
from seaway.protocols import wire

pytestmark = pytest.mark.timeout(5400)  # with images to be built and loaded, 10 GB of them
ACCOUNT = "pipeline-runner"  # as Kubeflow calls it
STAGE_SECONDS = 300
GIGABYTES = 20  # 16 were taken: as Docker lays them ready, as the node keeps that, and unpacked
NODE, *OTHERS = WORKERS
SMALL: dict[str, dict[str, Any]] = {
    "characters": {"source": "strokes:1500", "net": "mlp", "epochs": 2, "load_seconds": 3, "load_users": 4},
    "ship": {"name": "small", "model": "python:torchvision.models:resnet18", "inputs": ["3x64x64"]},
}


@pytest.fixture(scope="module")
def ir(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled pipelines' folder; one node holds their images."""
    folder = tmp_path_factory.mktemp("compiled")
    for name in SMALL:
        compile_pipeline(name, folder / f"{name}.yaml")
    whole = "".join(file.read_text() for file in folder.iterdir())
    provide(*(stage for stage in STAGES if f"/{stage}:" in whole), nodes=[NODE], gigabytes=GIGABYTES)
    return folder


@pytest.fixture
def on_one_node(stack: str) -> Iterator[None]:
    """Pods of the run, and Locust's, come to the node that has their images: the IR does not know of nodes."""
    kubectl("create", "serviceaccount", ACCOUNT)
    try:
        command("kubectl", "--context", CONTEXT, "cordon", *OTHERS)
        yield
    finally:
        command("kubectl", "--context", CONTEXT, "uncordon", *OTHERS)


@pytest.fixture
def allowed(stack: str) -> None:
    """What docs/pipelines.md has the user do, and `preflight` too."""
    kubectl("apply", "-k", "manifests/rbac")
    kubectl(
        "create", "rolebinding", "seaway-runs", "--role", "seaway-pipeline", f"--serviceaccount={NAMESPACE}:{ACCOUNT}"
    )


@pytest.fixture
def pipeline(ir: Path, cluster: Path, on_one_node: None) -> Any:
    """A run of a compiled pipeline, the small one with these parameters."""
    artifacts = cluster / FOLDER
    artifacts.mkdir()
    artifacts.chmod(0o777)

    def start(pod: dict[str, Any], output: str) -> str:
        name, stage = pod["metadata"]["name"], runs.stage_of(pod)
        kubectl("create", "-f", "-", stdin=json.dumps(pod))
        ended = "jsonpath={.status.containerStatuses[0].state.terminated}"
        waited = ("wait", f"pod/{name}", f"--for={ended}", f"--timeout={STAGE_SECONDS}s")
        kubectl(*waited, timeout=STAGE_SECONDS + 60, check=False)
        [state] = [one["state"] for one in found("pod", name)["status"].get("containerStatuses", [{"state": {}}])]
        log = kubectl("logs", name, check=False)
        print(f"---- {stage}: {state}\n{log}")
        if state.get("terminated", {}).get("exitCode") != 0:
            events = kubectl("events", "--for", f"pod/{name}", check=False)
            raise StageFailed(stage, f"{json.dumps(state)}\n{log}\n{events}")
        return (artifacts / output).read_text()

    def run(name: str = "characters", **parameters: Any) -> Run:
        settings = Settings(id=str(uuid.uuid4()), service_account=ACCOUNT, store=CLAIM)
        return Run(ir / f"{name}.yaml", SMALL[name] | parameters, settings, start)

    return run


def report_of_outcome(cluster: Path, run: Run) -> str:
    [report] = (cluster / FOLDER / run.place).glob("outcome/*/report")
    return report.read_text()


def stages_of(run: Run) -> set[str]:
    pods = json.loads(kubectl("get", "pods", "-l", f"{runs.RUN}={run.settings.id}", "-o", "json"))["items"]
    return {runs.stage_of(pod) for pod in pods}


def locust(path: str, **form: object) -> dict:
    """What the web page's API answers; it is asked within the master's pod."""
    ask = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], sys.argv[2].encode() or None).read().decode())"
    words = ("python", "-c", ask, f"http://127.0.0.1:8089{path}", urllib.parse.urlencode(form))
    return json.loads(kubectl("exec", "deployment/seaway-loadtest-master", "--", *words))


def test_the_whole_way(stack: str, cluster: Path, allowed: None, pipeline: Any, tmp_path: Path) -> None:
    kubectl("scale", "deployment/seaway", "--replicas=2")
    rolled_out()
    run = pipeline()
    run.run()
    assert report_of_outcome(cluster, run) == f"# Run {run.settings.id}: succeeded\n\nNo pod of the run failed.\n"

    # kubectl shows the version in both replicas, and both answer with it, whatever they are asked in.
    version = cluster / MODEL / "2"
    assert store.versions(cluster, MODEL) == [1, 2]
    assert store.labels(cluster, MODEL)["stable"] == 2
    found_modes = {path.stat().st_mode & 0o777 for path in [version, *version.rglob("*")] if path.is_dir()}
    assert found_modes == {0o755}, "though the stages' umask is 0"
    assert {path.stat().st_mode & 0o777 for path in version.rglob("*") if path.is_file()} == {0o644}
    assert serving("seaway")[rollout.VERSION] == "2"
    ready = {pod["metadata"]["name"] for pod in serving_pods("stable")}
    assert (len(ready), found("deployment", "seaway")["status"]["readyReplicas"]) == (2, 2)
    assert serving_pods("canary") == []
    everything = [word for key in wire.PROTOCOLS for word in ("--protocol", key)]
    asked = ("--golden", version, "--time", 3, "--users", 4, "--no-evidence", "--report", tmp_path)
    verified = seaway("verify", stack, *asked, *everything)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    measured = results.read_json(tmp_path / results.JSON)
    assert [one.protocol for one in measured] == [*wire.PROTOCOLS]
    for one in measured:
        assert {replica.pod for replica in replicas([one])} == ready, one.title
        assert {replica.model.partition("@")[0] for replica in replicas([one])} == {f"{MODEL}/2"}

    # Locust in the cluster finds no fault either.
    command("kubectl", "--context", CONTEXT, "apply", "-k", "tests/e2e/loadtest")
    rolled_out("seaway-loadtest-master")
    rolled_out("seaway-loadtest-worker")
    until(lambda: len(locust("/stats/requests")["workers"]) == 2, 60)
    begun = locust("/swarm", user_count=4, spawn_rate=4, run_time="5s")
    assert begun["success"], begun
    until(lambda: locust("/stats/requests")["state"] == "stopped", 60)
    counted = locust("/stats/requests")
    [total] = [one for one in counted["stats"] if one["name"] == "Aggregated"]
    assert total["num_requests"] > 100
    assert (total["num_failures"], counted["errors"]) == (0, [])


def test_any_model_is_shipped(cluster: Path, allowed: None, pipeline: Any) -> None:
    run = pipeline("ship")
    run.run()
    assert stages_of(run) == {"preflight", "export-model", "convert", "validate", "publish", "outcome"}
    assert store.versions(cluster, "small") == [1]


def test_what_a_run_lacks_is_told_before_any_stage_begins(
    request: pytest.FixtureRequest, pipeline: Any, cluster: Path
) -> None:
    kubectl("delete", "deployment", "seaway-canary")
    run = pipeline()
    with pytest.raises(StageFailed, match=r"^preflight: ") as failed:
        run.run()
    assert stages_of(run) == {"preflight", "outcome"}
    for told in (
        f"ServiceAccount {NAMESPACE}:{ACCOUNT} may not ",
        f"kubectl -n {NAMESPACE} create rolebinding seaway-runs --role seaway-pipeline --serviceaccount {NAMESPACE}:",
    ):
        assert told in str(failed.value)
    request.getfixturevalue("allowed")  # as it is told to; who may not look cannot tell what else there is not
    with pytest.raises(StageFailed, match=rf"^preflight: (?s:.*)no Deployment seaway-canary in {NAMESPACE}"):
        pipeline().run()


def test_a_stage_that_fails_is_named_by_the_last_word(pipeline: Any, allowed: None, cluster: Path) -> None:
    run = pipeline(source="nonsense")
    with pytest.raises(StageFailed, match=r"^explore: ") as failed:
        run.run()
    report = report_of_outcome(cluster, run)
    assert report.startswith(f"# Run {run.settings.id}: failed\n\n## explore\n"), report
    assert "explore: 'nonsense' is no data source" in str(failed.value)
    [said] = [line for line in report.splitlines() if line.startswith("    ")]
    assert said.strip().startswith("explore: 'nonsense' is no data source"), "and nothing of KFP's"
    assert stages_of(run) == {"preflight", "explore", "outcome"}
    assert serving("seaway").get(rollout.VERSION) is None, "nothing was promoted"
