"""The run summary, as a stage and as a command."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))

import cluster_api
import pytest
from cluster_api import NAMESPACE, RUN

from seaway.kube.run_diagnostics import StageFailure
from seaway.run_summary.run_summary import page, run_summary

ROOT = Path(__file__).resolve().parents[3]


def summarise(folder: Path, url: str, *options: object) -> subprocess.CompletedProcess[str]:
    config = folder / "config"
    config.write_text(cluster_api.kubeconfig(url))
    command = [sys.executable, "-m", "seaway.run_summary", "--run", RUN, "--namespace", NAMESPACE, *map(str, options)]
    environment = os.environ | {"KUBECONFIG": str(config), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_it_names_the_failed_stage_and_quotes_its_log(tmp_path: Path) -> None:
    with cluster_api.serving(cluster_api.FAILED_TRAINING) as url:
        done = summarise(tmp_path, url, "--state", "FAILED", "--report", tmp_path / "run_summary.md")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == (tmp_path / "run_summary.md").read_text().rstrip("\n")
    assert done.stdout.startswith(
        f"# Run {RUN}: failed\n\n## train\n\n- pod pod-3, main: ended with Error, status 1\n\n    epoch 1\n"
        "    train: no net 'mpl': there are cnn, mlp\n"
    )


def test_an_unreadable_cluster_is_no_failure(tmp_path: Path) -> None:
    with cluster_api.serving({f"/api/v1/namespaces/{NAMESPACE}/pods": None}) as url:
        done = summarise(tmp_path, url, "--state", "FAILED")
    assert done.returncode == 0, done.stderr
    assert "The run's pods cannot be read: pods in team: access denied" in done.stdout


def test_a_successful_run(tmp_path: Path) -> None:
    with cluster_api.serving(cluster_api.pod_responses()) as url:
        done = summarise(tmp_path, url, "--state", "SUCCEEDED")
    assert done.stdout.startswith(f"# Run {RUN}: succeeded\n\nNo pod of the run failed.\n")


@pytest.mark.parametrize("state", ["COMPLETE", "CACHED", "SUCCEEDED"])
def test_a_successful_run_by_the_states_of_kubeflow_s_metadata_store(state: str) -> None:
    """A real driver passes COMPLETE (tests/conformance/kubeflow/executor_inputs.json, run_summary)."""
    assert page(RUN, state, []) == f"# Run {RUN}: succeeded\n\nNo pod of the run failed.\n"


def test_the_pods_decide_if_the_store_does_not_know_the_state() -> None:
    lost = StageFailure("train", "", True, ("its pod is gone: pod deleted",), lost=True)
    for state in ("RUNNING", "UNKNOWN", ""):
        text = page(RUN, state, [lost])
        assert text.startswith(f"# Run {RUN}: failed\n\n## train\n\n- its pod is gone: pod deleted\n")
        assert "not at fault itself: submit the run again" in text
        assert page(RUN, state, []).startswith(f"# Run {RUN}: unknown\n")
    assert page(RUN, "CANCELED", []).startswith(f"# Run {RUN}: canceled\n")


def test_outside_a_cluster_there_are_no_pods_to_read(tmp_path: Path) -> None:
    run_summary(RUN, "FAILED", tmp_path / "run_summary.md")
    assert "no pods to read" in (tmp_path / "run_summary.md").read_text()
