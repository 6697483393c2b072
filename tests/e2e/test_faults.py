"""Faults: killed processes, a drained node, a canary that cannot run. Stable keeps serving, and the cause is named."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onkind import CONTEXT, MODEL, Steady, command, kubectl, publish, restarts, rolled_out, seaway, serving_pods

from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tolerance

pytestmark = pytest.mark.timeout(900)


# ---- processes


def kill(pod: dict, what: str) -> None:
    """SIGKILL from the node: in its container nothing can kill the main process."""
    [status] = pod["status"]["containerStatuses"]
    node, container = pod["spec"]["nodeName"], status["containerID"].partition("://")[2]
    listed = 'for p in /proc/[0-9]*; do grep -q "$0" $p/cgroup && echo ${p#/proc/} $(tr "\\0" " " <$p/cmdline); done'
    output = command("docker", "exec", node, "sh", "-c", f"{{ {listed}; }} 2>/dev/null", container, check=False)
    running = sorted((int(pid), words) for pid, _, words in (line.partition(" ") for line in output.splitlines()))
    forked = [pid for pid, words in running if "seaway.serve.worker.forkserver" in words]
    main = [pid for pid, words in running if words.startswith("python -m seaway.serve")]
    pid = {"main": main[0], "forkserver": forked[0], "worker": forked[-1]}[what]
    command("docker", "exec", node, "kill", "-9", pid)


def zombies(pod: dict) -> str:
    script = "grep -l '^State:.Z' /proc/[0-9]*/status; true"
    return kubectl("exec", pod["metadata"]["name"], "-c", "server", "--", "sh", "-c", f"{script} 2>/dev/null")


def test_a_killed_worker_only_fails_the_requests_that_it_was_computing(stack: str) -> None:
    [pod] = serving_pods("stable")
    name = pod["metadata"]["name"]
    for what in ("worker", "forkserver", "worker"):
        with Steady(stack, seconds=120) as load:
            count = load.correct()
            kill(pod, what)
            load.wait_for(count + 1000)
        assert load.result is not None
        assert load.result.wrong == 0
        # Those sent to it: at 100 requests per second of 1-2 ms each, rarely one, never a queue.
        assert set(load.result.errors) <= {"HTTP 500"}, load.result.errors
        assert load.result.failed <= 4, load.result.errors
    assert restarts(name) == 0
    assert zombies(pod) == ""


def test_a_killed_container_only_fails_the_requests_sent_to_it_and_recovers(stack: str) -> None:
    kubectl("scale", "deployment/seaway", "--replicas=2")
    rolled_out()
    pod, other = serving_pods("stable")
    with Steady(stack, seconds=240) as load:
        count = load.correct()
        kill(pod, "main")
        kubectl("wait", f"pod/{pod['metadata']['name']}", "--for=condition=Ready=false", "--timeout=30s", check=False)
        kubectl("wait", f"pod/{pod['metadata']['name']}", "--for=condition=Ready", "--timeout=120s")
        load.wait_for(count + 1000)
        recovered_s = load.now()
        load.wait_for(load.correct() + 1000)
    assert load.result is not None
    assert load.result.wrong == 0
    lost = [second for times in load.result.errors_over_time.values() for second, _ in times]
    assert max(lost, default=0) <= recovered_s, "from then on it responds again"
    assert max(lost, default=0) - min(lost, default=0) <= 5, "until the cluster has noticed"
    assert load.result.failed <= 5 * 100, load.result.errors
    responding = {replica.pod for replica in load.result.replicas}
    assert {pod["metadata"]["name"], other["metadata"]["name"]} == responding
    assert (restarts(pod["metadata"]["name"]), restarts(other["metadata"]["name"])) == (1, 0)


def test_a_drained_node_fails_no_request(stack: str) -> None:
    kubectl("scale", "deployment/seaway", "--replicas=2")
    rolled_out()
    first, second = serving_pods("stable")
    nodes = first["spec"]["nodeName"], second["spec"]["nodeName"]
    assert len({*nodes}) == 2, "spread over both workers"
    try:
        with Steady(stack, seconds=240) as load:
            drain = ["drain", nodes[0], "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"]
            command("kubectl", "--context", CONTEXT, *drain)
            rolled_out()
            load.wait_for(load.correct() + 500)
    finally:
        command("kubectl", "--context", CONTEXT, "uncordon", nodes[0])
    assert {pod["spec"]["nodeName"] for pod in serving_pods("stable")} == {nodes[1]}
    load.check_clean()


# ---- canaries that cannot run


@contextmanager
def untouched(url: str) -> Iterator[None]:
    """Asserts that stable answers every request and does not restart."""
    [pod] = serving_pods("stable")
    with Steady(url, rate=50, seconds=240) as load:
        yield
        load.wait_for(500)
    load.check_clean()
    assert restarts(pod["metadata"]["name"]) == 0


def refused(version: int, message: str, timeout_s: int = 60, *more: object) -> None:
    done = seaway("deploy", "--version", version, "--context", CONTEXT, "--timeout", timeout_s, *more)
    assert done.returncode == 1, done.stdout
    assert message in done.stderr, done.stderr


def test_a_quota_is_named(stack: str, cluster: Path) -> None:
    kubectl("create", "quota", "full", "--hard=pods=1")
    with untouched(stack):
        refused(publish(cluster), "exceeded quota: full")


def claim(name: str, mode: str) -> None:
    """Gives the canary a claim of the cluster's default StorageClass."""
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(made))
    pods = {"spec": {"volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": name}}]}}
    kubectl("patch", "deployment/seaway-canary", "-p", json.dumps({"spec": {"template": pods}}))


def test_a_claim_without_a_volume_is_named(stack: str, cluster: Path) -> None:
    claim("nowhere", "ReadWriteMany")  # which the class does not support
    with untouched(stack):
        refused(publish(cluster), "PersistentVolumeClaim nowhere is Pending", 20)


def test_several_replicas_with_a_claim_for_one_node_are_refused(stack: str, cluster: Path) -> None:
    claim("single", "ReadWriteOnce")
    refused(publish(cluster), "the claim single is ReadWriteOnce", 20, "--replicas", 2)
    assert serving_pods("canary") == []


def test_too_little_memory_is_named(stack: str, cluster: Path) -> None:
    limits = ("--limits=memory=100Mi", "--requests=memory=50Mi")
    kubectl("set", "resources", "deployment/seaway-canary", "-c=server", *limits)
    with untouched(stack):
        refused(publish(cluster), "OOMKilled", 120)


def test_a_version_that_ends_the_process_is_named(stack: str, cluster: Path, tmp_path: Path) -> None:
    command(sys.executable, "tests/seaway/serve/make_models.py", tmp_path)

    def fill(folder: Path) -> None:
        shutil.copytree(tmp_path / "hard" / "1", folder, dirs_exist_ok=True)
        (folder / model_repository.EXTRA).mkdir()
        recorded = golden.Golden({"sizes": np.ones(3, np.int32)}, {"y": np.ones(3, np.float32)})
        golden.write(folder / model_repository.EXTRA / golden.GOLDEN, recorded)
        artifact_metadata.write(
            folder,
            ArtifactMetadata("version", MODEL, tolerances={"y": Tolerance(1e-6, 1e-6)}),
            at=model_repository.METADATA_FILE,
        )

    with untouched(stack):
        refused(model_repository.publish(cluster, MODEL, fill), "kills the process", 45)
