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
from seaway.kube import kube
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
    """A pod of the namespace, whose API server is at the address that it is given."""
    (tmp_path / "namespace").write_text(f"{NAMESPACE}\n")
    monkeypatch.setattr(kube, "OWN_NAMESPACE", tmp_path / "namespace")
    return lambda url: monkeypatch.setattr(kube, "connect", lambda: client.ApiClient(client.Configuration(host=url)))


def test_stages_act_in_the_run_s_own_namespace_unless_another_is_named(in_a_pod, capsys):
    with cluster_api.serving(CLAIM, ROLE) as url:
        in_a_pod(url)
        assert preflight("seaway-models", serving=False) == NAMESPACE
        assert preflight("seaway-models", "elsewhere", serving=False) == "elsewhere"
        with pytest.raises(Refused, match=f"no Deployment seaway, .* in {NAMESPACE}\n"):
            preflight("seaway-models")
        with pytest.raises(Refused, match=r"no Deployment seaway, .* in elsewhere\n"):
            preflight("seaway-models", "elsewhere")
    assert f"rights and claim seaway-models in {NAMESPACE}: all there" in capsys.readouterr().out


def test_outside_of_a_cluster_nothing_is_checked():
    assert preflight("seaway-models") == ""
    assert preflight("seaway-models", "team") == "team"


def asked(folder, url, *options):
    (folder / "config").write_text(cluster_api.kubeconfig(url))
    command = [sys.executable, "-m", "seaway.preflight", "--namespace", NAMESPACE, *options]
    environment = os.environ | {"KUBECONFIG": str(folder / "config"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_ends_with_all_that_is_missing(tmp_path):
    with cluster_api.serving(CLAIM, ROLE) as url:
        done = asked(tmp_path, url, "--service-account", "default-editor")
        assert done.returncode == 1
        assert "- ServiceAccount team:default-editor may not list pods" in done.stderr
        assert "- no Deployment seaway, no Service seaway" in done.stderr
        fine = asked(tmp_path, url, "--service-account", "pipeline-runner", "--no-serving")
    assert (fine.returncode, fine.stderr) == (0, "")
