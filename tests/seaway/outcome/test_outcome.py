"""The last word of a run, as stage and as a command."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))

import cluster_api
import pytest
from cluster_api import NAMESPACE, RUN

from seaway.kube.runs import Trouble
from seaway.outcome.outcome import outcome, page

ROOT = Path(__file__).resolve().parents[3]


def asked(folder: Path, url: str, *options: object) -> subprocess.CompletedProcess[str]:
    config = folder / "config"
    config.write_text(cluster_api.kubeconfig(url))
    command = [sys.executable, "-m", "seaway.outcome", "--run", RUN, "--namespace", NAMESPACE, *map(str, options)]
    environment = os.environ | {"KUBECONFIG": str(config), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_it_names_the_stage_and_quotes_it(tmp_path: Path) -> None:
    with cluster_api.serving(cluster_api.FAILED_TRAINING) as url:
        done = asked(tmp_path, url, "--state", "FAILED", "--report", tmp_path / "outcome.md")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == (tmp_path / "outcome.md").read_text().rstrip("\n")
    assert done.stdout.startswith(
        f"# Run {RUN}: failed\n\n## train\n\n- pod pod-3, main: ended with Error, status 1\n\n    epoch 1\n"
        "    train: no net 'mpl': there are cnn, mlp\n"
    )


def test_a_cluster_that_will_not_tell_fails_nothing(tmp_path: Path) -> None:
    with cluster_api.serving({f"/api/v1/namespaces/{NAMESPACE}/pods": None}) as url:
        done = asked(tmp_path, url, "--state", "FAILED")
    assert done.returncode == 0, done.stderr
    assert "What the pods say cannot be told: pods in team: the cluster does not allow it" in done.stdout


def test_a_good_run(tmp_path: Path) -> None:
    with cluster_api.serving(cluster_api.of()) as url:
        done = asked(tmp_path, url, "--state", "SUCCEEDED")
    assert done.stdout.startswith(f"# Run {RUN}: succeeded\n\nNo pod of the run failed.\n")


@pytest.mark.parametrize("state", ["COMPLETE", "CACHED", "SUCCEEDED"])
def test_a_good_run_by_the_words_of_kubeflow_s_metadata_store(state: str) -> None:
    """A real driver hands over COMPLETE (tests/conformance/kubeflow/executor_inputs.json, outcome)."""
    assert page(RUN, state, []) == f"# Run {RUN}: succeeded\n\nNo pod of the run failed.\n"


def test_a_state_that_the_store_was_not_told_is_what_the_pods_say() -> None:
    lost = Trouble("train", "", True, ("its pod is gone: pod deleted",), lost=True)
    for state in ("RUNNING", "UNKNOWN", ""):
        text = page(RUN, state, [lost])
        assert text.startswith(f"# Run {RUN}: failed\n\n## train\n\n- its pod is gone: pod deleted\n")
        assert "by no fault of its own: submit the run again" in text
        assert page(RUN, state, []).startswith(f"# Run {RUN}: unknown\n")
    assert page(RUN, "CANCELED", []).startswith(f"# Run {RUN}: canceled\n")


def test_outside_of_a_cluster_there_is_nobody_to_ask(tmp_path: Path) -> None:
    outcome(RUN, "FAILED", tmp_path / "outcome.md")
    assert "have no pods" in (tmp_path / "outcome.md").read_text()
