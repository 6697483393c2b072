"""`seaway status`, `deploy`, `promote` and `rollback` without a cluster; tests/e2e tests them on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.artifacts import model_repository
from seaway.load import evidence
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.progress import Progress
from seaway.load.result import summarize

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "seaway" / "load"))

import toy  # noqa: E402


def seaway(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "KUBECONFIG": str(folder / "none")}
    command = [sys.executable, "-m", "seaway.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("verb", ["status", "deploy --version 3", "rollback"])
def test_without_a_cluster_the_error_is_one_line(tmp_path, verb):
    done = seaway(tmp_path, *verb.split())
    assert done.returncode == 1
    assert done.stderr.startswith("seaway: no cluster: ")
    assert "does `kubectl get nodes` work here?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_promote_in_a_folder_requires_good_evidence(tmp_path):
    repository = tmp_path / "models"
    for seed in (1, 2):
        toy.make(tmp_path / str(seed), seed=seed).publish(repository)
    none = seaway(tmp_path, "promote", "--version", "1", "--model-repository", repository, "--name", "toy")
    assert (none.returncode, "no evidence for toy/1 in " in none.stderr) == (1, True)
    for version, fault in ((1, ""), (2, "HTTP 500")):
        counters = Counters()
        metadata = model_repository.read_metadata(repository, "toy", version)
        counters.record_correct(0, 5.0)
        counters.record_response(f"a-pod toy/{version}@{metadata.sha256} savedmodel", False, 0.0)
        if fault:
            counters.record_error(0, fault, wrong=False)
        run = summarize(Progress(1.0, total=counters), "http://127.0.0.1", LoadConfig(duration_s=1, warmup_s=0))
        written = evidence.write(tmp_path / f"evidence-{version}", "toy", version, metadata, [], [run])
        evidence.store(repository, "toy", tmp_path / f"evidence-{version}", written)
    good = seaway(tmp_path, "promote", "--version", "1", "--model-repository", repository, "--name", "toy")
    assert good.returncode == 0
    stable, note = good.stdout.splitlines()
    assert stable == "stable is toy/1, the first stable version"
    assert note.startswith("only the label moved; to roll out a Deployment too: ")
    assert note.endswith(f"seaway promote --version 1 --name toy --model-repository {repository} --namespace seaway")
    bad = seaway(tmp_path, "promote", "--version", "2", "--model-repository", repository, "--name", "toy")
    assert (bad.returncode, "1 requests failed" in bad.stderr) == (1, True)
    assert model_repository.labels(repository, "toy") == {"stable": 1}
