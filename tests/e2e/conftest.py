"""One kind cluster for all tests: a control plane and two workers. `--keep-cluster` keeps it for the next run.

Needs docker, kind and kubectl on PATH. KIND_NODE_IMAGE names a node image to use instead of the stock one.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from onkind import CONTEXT, HOST, NAME, ROOT, WORKERS, command, kubectl, provide, rolled_out, wait_for

STAGES = ("serve",)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-cluster", action="store_true", help="keep the kind cluster for the next run")
    parser.addoption("--kubeflow", default="", metavar="HOST", help="a real Kubeflow, for test_kubeflow.py")
    parser.addoption("--kubeflow-options", default="", help="further options of `seaway submit` there, as one word")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when != "teardown" and "stack" in getattr(item, "fixturenames", ()):
        report.sections.append(("the cluster", state()))
    return report


def state() -> str:
    """Returns the state of the namespace and of the nodes."""
    queries = (
        ("get", "all,pvc,hpa", "-o", "wide"),
        ("get", "events", "--sort-by=.lastTimestamp"),
        ("logs", "deployment/seaway", "--tail=50"),
        ("logs", "deployment/seaway-canary", "--tail=50"),
        ("describe", "nodes"),
    )
    return "\n".join(kubectl(*words, check=False) for words in queries)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A cluster with Seaway's images; yields the host's folder of its model repository."""
    missing = [tool for tool in ("docker", "kind", "kubectl") if shutil.which(tool) is None]
    if missing or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip(f"cannot create a cluster here: {', '.join(missing) or 'the Docker daemon'} is missing")
    repository = ROOT / ".kind-models"
    repository.mkdir(mode=0o777, exist_ok=True)
    repository.chmod(0o777)
    if NAME not in command("kind", "get", "clusters", check=False).split():
        node = ["--image", os.environ["KIND_NODE_IMAGE"]] if os.environ.get("KIND_NODE_IMAGE") else []
        config = "manifests/kind-workers.yaml"
        command("kind", "create", "cluster", "--config", config, "--wait", "180s", *node, timeout=600)
    mounted = command("docker", "inspect", "--format", "{{range .Mounts}}{{.Source}}\n{{end}}", WORKERS[0], check=False)
    if str(repository) not in mounted.split("\n"):
        pytest.fail(
            f"the cluster {NAME} was not created by make e2e here; delete it: kind delete cluster --name {NAME}"
        )
    provide(*STAGES)
    yield repository
    if not request.config.getoption("--keep-cluster"):
        command("kind", "delete", "cluster", "--name", NAME, timeout=300)


@pytest.fixture
def stack(cluster: Path) -> Iterator[str]:
    """The serving stack, applied over an empty model repository and ready; yields its URL on the host."""
    remove()  # leftovers of a killed run
    for what in (("-f", "manifests/namespace.yaml"), ("-k", "manifests/overlays/kind")):
        command("kubectl", "--context", CONTEXT, "apply", *what)
    try:
        rolled_out()
        wait_for(f"{HOST}/readyz")
        yield HOST
    finally:
        remove()


def remove() -> None:
    """Deletes the stack, without waiting for its pods, and the repository's content: from a node, because the stages
    own what they wrote."""
    kubectl("delete", "deployments", "--all", "--wait=false")
    kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
    for what in (("-k", "manifests/overlays/kind"), ("-f", "manifests/namespace.yaml")):
        delete = ("delete", *what, "--wait", "--ignore-not-found")
        command("kubectl", "--context", CONTEXT, *delete, timeout=300)
    command("docker", "exec", WORKERS[0], "find", "/seaway-models", "-mindepth", "1", "-delete")
