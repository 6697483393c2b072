"""The compiled pipelines on a cluster: stages as Pods, a promoted model in the Deployment, Locust in the cluster."""

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

from seaway.artifacts import model_repository
from seaway.kube import rollout, run_diagnostics
from seaway.load import result_files
from seaway.load.verify import replicas
from seaway.pipeline.cluster import CLAIM
from seaway.pipeline.compile import compile_pipeline
from seaway.pipeline.images import STAGES
from seaway.protocols import client_codecs

pytestmark = pytest.mark.timeout(5400)  # includes building and loading 10 GB of images
ACCOUNT = "pipeline-runner"  # Kubeflow's name for it
STAGE_TIMEOUT_S = 300
NEEDED_GB = 20  # measured: 16, for Docker's export, the node's copy, and the unpacked layers
NODE, *OTHERS = WORKERS
SMALL: dict[str, dict[str, Any]] = {
    "characters": {"source": "strokes:1500", "net": "mlp", "epochs": 2, "load_duration_s": 3, "load_users": 4},
    "ship": {"name": "small", "model": "python:torchvision.models:resnet18", "inputs": ["3x64x64"]},
}


@pytest.fixture(scope="module")
def ir(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled pipelines; one node has their images."""
    folder = tmp_path_factory.mktemp("compiled")
    for name in SMALL:
        compile_pipeline(name, folder / f"{name}.yaml")
    whole = "".join(file.read_text() for file in folder.iterdir())
    provide(*(stage for stage in STAGES if f"/{stage}:" in whole), nodes=[NODE], needed_gb=NEEDED_GB)
    return folder


@pytest.fixture
def on_one_node(stack: str) -> Iterator[None]:
    """Schedules all pods on the node that has the images, because the IR has no node settings."""
    kubectl("create", "serviceaccount", ACCOUNT)
    try:
        command("kubectl", "--context", CONTEXT, "cordon", *OTHERS)
        yield
    finally:
        command("kubectl", "--context", CONTEXT, "uncordon", *OTHERS)


@pytest.fixture
def allowed(stack: str) -> None:
    """Grants the permissions, as docs/pipelines.md and `preflight` tell the user to."""
    kubectl("apply", "-k", "manifests/rbac")
    kubectl(
        "create", "rolebinding", "seaway-runs", "--role", "seaway-pipeline", f"--serviceaccount={NAMESPACE}:{ACCOUNT}"
    )


@pytest.fixture
def pipeline(ir: Path, cluster: Path, on_one_node: None) -> Any:
    """Returns a function that makes a run of a compiled pipeline, with small settings and these parameters."""
    artifacts = cluster / FOLDER
    artifacts.mkdir()
    artifacts.chmod(0o777)

    def start(pod: dict[str, Any], output: str) -> str:
        name, stage = pod["metadata"]["name"], run_diagnostics.stage_name(pod)
        kubectl("create", "-f", "-", stdin=json.dumps(pod))
        terminated = "jsonpath={.status.containerStatuses[0].state.terminated}"
        waited = ("wait", f"pod/{name}", f"--for={terminated}", f"--timeout={STAGE_TIMEOUT_S}s")
        kubectl(*waited, timeout=STAGE_TIMEOUT_S + 60, check=False)
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


def summary_of(cluster: Path, run: Run) -> str:
    [report] = (cluster / FOLDER / run.place).glob("run-summary/*/report")
    return report.read_text()


def stages_of(run: Run) -> set[str]:
    selector = f"{run_diagnostics.RUN_LABEL}={run.settings.id}"
    pods = json.loads(kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return {run_diagnostics.stage_name(pod) for pod in pods}


def locust(path: str, **form: object) -> dict:
    """Returns a response of Locust's web API, requested within the master's pod."""
    program = (
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], sys.argv[2].encode() or None).read().decode())"
    )
    words = ("python", "-c", program, f"http://127.0.0.1:8089{path}", urllib.parse.urlencode(form))
    return json.loads(kubectl("exec", "deployment/seaway-loadtest-master", "--", *words))


def test_the_whole_way(stack: str, cluster: Path, allowed: None, pipeline: Any, tmp_path: Path) -> None:
    kubectl("scale", "deployment/seaway", "--replicas=2")
    rolled_out()
    run = pipeline()
    run.run()
    assert summary_of(cluster, run) == f"# Run {run.settings.id}: succeeded\n\nNo pod of the run failed.\n"

    # kubectl shows the version in both replicas, and both serve it over every protocol.
    version = cluster / MODEL / "2"
    assert model_repository.versions(cluster, MODEL) == [1, 2]
    assert model_repository.labels(cluster, MODEL)["stable"] == 2
    modes = {path.stat().st_mode & 0o777 for path in [version, *version.rglob("*")] if path.is_dir()}
    assert modes == {0o755}, "though the stages' umask is 0"
    assert {path.stat().st_mode & 0o777 for path in version.rglob("*") if path.is_file()} == {0o644}
    assert serving("seaway")[rollout.VERSION] == "2"
    ready = {pod["metadata"]["name"] for pod in serving_pods("stable")}
    assert (len(ready), found("deployment", "seaway")["status"]["readyReplicas"]) == (2, 2)
    assert serving_pods("canary") == []
    protocols = [protocol.key for protocol in client_codecs.OVER_HTTP]
    all_protocols = [word for key in protocols for word in ("--protocol", key)]
    options = ("--golden", version, "--time", 3, "--users", 4, "--no-evidence", "--report", tmp_path)
    verified = seaway("verify", stack, *options, *all_protocols)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    measured = result_files.read_json(tmp_path / result_files.JSON)
    assert [one.protocol for one in measured] == protocols
    for one in measured:
        assert {replica.pod for replica in replicas([one])} == ready, one.title
        assert {replica.model.partition("@")[0] for replica in replicas([one])} == {f"{MODEL}/2"}

    # Locust in the cluster finds no errors either.
    command("kubectl", "--context", CONTEXT, "apply", "-k", "tests/e2e/loadtest")
    rolled_out("seaway-loadtest-master")
    rolled_out("seaway-loadtest-worker")
    until(lambda: len(locust("/stats/requests")["workers"]) == 2, 60)
    started = locust("/swarm", user_count=4, spawn_rate=4, run_time="5s")
    assert started["success"], started
    until(lambda: locust("/stats/requests")["state"] == "stopped", 60)
    statistics = locust("/stats/requests")
    [total] = [one for one in statistics["stats"] if one["name"] == "Aggregated"]
    assert total["num_requests"] > 100
    assert (total["num_failures"], statistics["errors"]) == (0, [])


def test_any_model_is_shipped(cluster: Path, allowed: None, pipeline: Any) -> None:
    run = pipeline("ship")
    run.run()
    assert stages_of(run) == {"preflight", "export-model", "convert", "validate", "publish", "run-summary"}
    assert model_repository.versions(cluster, "small") == [1]


def test_preflight_reports_what_a_run_lacks_before_any_stage_starts(
    request: pytest.FixtureRequest, pipeline: Any, cluster: Path
) -> None:
    kubectl("delete", "deployment", "seaway-canary")
    run = pipeline()
    with pytest.raises(StageFailed, match=r"^preflight: ") as failed:
        run.run()
    assert stages_of(run) == {"preflight", "run-summary"}
    for message in (
        f"{NAMESPACE}:{ACCOUNT} is not allowed to: ",
        f"kubectl -n {NAMESPACE} create rolebinding seaway-runs --role seaway-pipeline --serviceaccount {NAMESPACE}:",
    ):
        assert message in str(failed.value)
    request.getfixturevalue(
        "allowed"
    )  # as the message says; without permissions, preflight cannot see what else is missing
    with pytest.raises(StageFailed, match=rf"^preflight: (?s:.*)no Deployment seaway-canary in {NAMESPACE}"):
        pipeline().run()


def test_the_run_summary_names_the_failed_stage(pipeline: Any, allowed: None, cluster: Path) -> None:
    run = pipeline(source="nonsense")
    with pytest.raises(StageFailed, match=r"^explore: ") as failed:
        run.run()
    report = summary_of(cluster, run)
    assert report.startswith(f"# Run {run.settings.id}: failed\n\n## explore\n"), report
    assert "explore: 'nonsense' is not a data source" in str(failed.value)
    [quoted] = [line for line in report.splitlines() if line.startswith("    ")]
    assert quoted.strip().startswith("explore: 'nonsense' is not a data source"), "without lines of KFP"
    assert stages_of(run) == {"preflight", "explore", "run-summary"}
    assert serving("seaway").get(rollout.VERSION) is None, "nothing was promoted"
