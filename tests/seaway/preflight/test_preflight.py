"""The first stage of a run, in a pod and as a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))

import cluster_api
from cluster_api import NAMESPACE
from kubernetes import client

from seaway.errors import Refused
from seaway.kube import api_client
from seaway.preflight.preflight import preflight

ROOT = Path(__file__).resolve().parents[3]
ROLE = yaml.safe_load((ROOT / "manifests/rbac/role.yaml").read_text())["rules"]
CLAIM = {
    f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/seaway-models": {
        "metadata": {"name": "seaway-models"},
        "spec": {},
        "status": {"phase": "Bound"},
    }
}


@pytest.fixture
def in_a_pod(tmp_path, monkeypatch):
    """Makes the process a pod of the namespace; the returned function sets the API server's address."""
    (tmp_path / "namespace").write_text(f"{NAMESPACE}\n")
    monkeypatch.setattr(api_client, "OWN_NAMESPACE", tmp_path / "namespace")
    return lambda url: monkeypatch.setattr(
        api_client, "connect", lambda: client.ApiClient(client.Configuration(host=url))
    )


def test_stages_act_in_the_run_s_own_namespace_unless_another_is_given(in_a_pod, capsys):
    with cluster_api.serving(CLAIM, ROLE) as url:
        in_a_pod(url)
        assert preflight("seaway-models", serving=False) == NAMESPACE
        assert preflight("seaway-models", "elsewhere", serving=False) == "elsewhere"
        with pytest.raises(Refused, match=f"no Deployment seaway, .* in {NAMESPACE}\n"):
            preflight("seaway-models")
        with pytest.raises(Refused, match=r"no Deployment seaway, .* in elsewhere\n"):
            preflight("seaway-models", "elsewhere")
    assert f"nothing is missing: permissions and claim seaway-models in {NAMESPACE}\n" in capsys.readouterr().out


def test_outside_a_cluster_nothing_is_checked():
    assert preflight("seaway-models") == ""
    assert preflight("seaway-models", "team") == "team"


def run_preflight(folder, url, *options):
    (folder / "config").write_text(cluster_api.kubeconfig(url))
    command = [sys.executable, "-m", "seaway.preflight", "--namespace", NAMESPACE, *options]
    environment = os.environ | {"KUBECONFIG": str(folder / "config"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_reports_everything_that_is_missing(tmp_path):
    with cluster_api.serving(CLAIM, ROLE) as url:
        done = run_preflight(tmp_path, url, "--service-account", "default-editor")
        assert done.returncode == 1
        assert "- team:default-editor is not allowed to: list pods" in done.stderr
        assert "- no Deployment seaway, no Service seaway" in done.stderr
        fine = run_preflight(tmp_path, url, "--service-account", "pipeline-runner", "--no-serving")
    assert (fine.returncode, fine.stderr) == (0, "")
