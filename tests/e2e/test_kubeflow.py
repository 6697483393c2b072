"""The pipeline on a real Kubeflow: `make e2e-kfp HOST=…`.

It needs the setup of docs/pipelines.md: images that the nodes can pull, the serving stack and its claim in the run's
namespace, and a ServiceAccount that may change the stack. Stages act in the run's own namespace. A Kubeflow with
profiles, or images elsewhere, need options: ARGS='--kubeflow-options "--namespace team --registry ghcr.io/example"'.
"""

import shlex
import subprocess
import sys

import pytest
from onkind import ROOT

from seaway.pipeline.request import compiled, stages

pytestmark = pytest.mark.timeout(3600)
SMALL = {"source": "strokes:1500", "net": "mlp", "epochs": "2", "load_duration_s": "2", "load_users": "2"}


@pytest.fixture
def submitted(request: pytest.FixtureRequest):
    """Submits a run with these parameters, waits, and returns the finished command."""
    host = request.config.getoption("--kubeflow")
    if not host:
        pytest.skip("no Kubeflow given: make e2e-kfp HOST=…")
    options = shlex.split(request.config.getoption("--kubeflow-options"))

    def submit(**parameters: str) -> subprocess.CompletedProcess[str]:
        assignments = [word for name, value in (SMALL | parameters).items() for word in ("--param", f"{name}={value}")]
        command = [sys.executable, "-m", "seaway.cli.main", "submit", "--host", host, "--wait", *options, *assignments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3500)

    return submit


def test_a_small_run_succeeds(submitted) -> None:
    done = submitted()
    assert done.returncode == 0, done.stdout + done.stderr
    ended = {tuple(line.split()[1:]) for line in done.stdout.splitlines()}
    for stage in stages(compiled("characters", "seaway", "seaway-models").spec):
        assert ended & {(stage, "succeeded"), (stage, "cached")}, done.stdout


def test_a_run_that_cannot_succeed_names_the_stage(submitted) -> None:
    done = submitted(source="nonsense")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the run failed in explore" in done.stderr
