"""The pipeline on a real Kubeflow: `make e2e-kfp HOST=…`.

It needs what docs/pipelines.md says: images where the nodes pull from, the serving stack and its claim in the run's
namespace, and a ServiceAccount that may change the stack. Stages act in the run's own namespace; a Kubeflow with
profiles, or images elsewhere, need more: ARGS='--kubeflow-options "--namespace team --registry ghcr.io/example"'.
"""

import shlex
import subprocess
import sys

import pytest
from onkind import ROOT

from seaway.pipeline.request import compiled, stages

pytestmark = pytest.mark.timeout(3600)
SMALL = {"source": "strokes:1500", "net": "mlp", "epochs": "2", "load_seconds": "2", "load_users": "2"}


@pytest.fixture
def submitted(request: pytest.FixtureRequest):
    """Submits with these parameters, waits, and returns what became of it."""
    host = request.config.getoption("--kubeflow")
    if not host:
        pytest.skip("no Kubeflow is named: make e2e-kfp HOST=…")
    options = shlex.split(request.config.getoption("--kubeflow-options"))

    def submit(**parameters: str) -> subprocess.CompletedProcess[str]:
        given = [word for name, value in (SMALL | parameters).items() for word in ("--param", f"{name}={value}")]
        command = [sys.executable, "-m", "seaway.cli.main", "submit", "--host", host, "--wait", *options, *given]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3500)

    return submit


def test_a_small_run_goes_all_the_way(submitted) -> None:
    done = submitted()
    assert done.returncode == 0, done.stdout + done.stderr
    ended = {tuple(line.split()[1:]) for line in done.stdout.splitlines()}
    for stage in stages(compiled("characters", "seaway", "seaway-models").spec):
        assert ended & {(stage, "succeeded"), (stage, "cached")}, done.stdout


def test_a_run_that_cannot_succeed_names_the_stage(submitted) -> None:
    done = submitted(source="nonsense")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the run failed in explore" in done.stderr
