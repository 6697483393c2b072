"""`seaway status`, `deploy`, `promote` and `rollback` where there is no cluster; on one, tests/e2e tries them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.artifacts import store
from seaway.load import evidence
from seaway.load.run import Plan, Progress, result
from seaway.load.tally import Tally

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "seaway" / "load"))

import toy  # noqa: E402


def seaway(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "KUBECONFIG": str(folder / "none")}
    command = [sys.executable, "-m", "seaway.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("verb", ["status", "deploy --version 3", "rollback"])
def test_without_a_cluster_it_is_one_line(tmp_path, verb):
    got = seaway(tmp_path, *verb.split())
    assert got.returncode == 1
    assert got.stderr.startswith("seaway: no cluster: ")
    assert "does `kubectl get nodes` work here?" in got.stderr
    assert len(got.stderr.splitlines()) == 1


def test_promote_in_a_folder_goes_by_the_evidence_of_each_version(tmp_path):
    volume = tmp_path / "volume"
    for seed in (1, 2):
        toy.make(tmp_path / str(seed), seed=seed).publish(volume)
    none = seaway(tmp_path, "promote", "--version", "1", "--volume", volume, "--name", "toy")
    assert (none.returncode, "there is no evidence of toy/1 yet" in none.stderr) == (1, True)
    for version, fault in ((1, ""), (2, "HTTP 500")):
        tally = Tally()
        card = store.read_card(volume, "toy", version)
        tally.right(0, 5.0)
        tally.answered(f"a-pod toy/{version}@{card.sha256}", False, 0.0)
        if fault:
            tally.fault(0, fault, wrong=False)
        run = result(Progress(1.0, total=tally), "http://127.0.0.1", Plan(seconds=1, warmup=0))
        written = evidence.write(tmp_path / f"evidence-{version}", "toy", version, card, [], [run])
        evidence.keep(volume, "toy", tmp_path / f"evidence-{version}", written)
    good = seaway(tmp_path, "promote", "--version", "1", "--volume", volume, "--name", "toy")
    assert (good.returncode, good.stdout) == (0, "stable is toy/1, the first one\n")
    bad = seaway(tmp_path, "promote", "--version", "2", "--volume", volume, "--name", "toy")
    assert (bad.returncode, "1 requests failed" in bad.stderr) == (1, True)
    assert store.labels(volume, "toy") == {"stable": 1}
