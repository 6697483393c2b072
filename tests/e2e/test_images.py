"""The images as containers: their user, their content, and a whole pipeline run in them. Needs `make images`."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from seaway.artifacts import artifact_metadata, model_repository
from seaway.errors import Unavailable
from seaway.load.config import LoadConfig
from seaway.load.verify import problems, verify
from seaway.pipeline import containers, images
from seaway.version import VERSION

ROOT = images.ROOT
STAGES = [*images.STAGES]
PACKAGES = {"serve-onnx": "serve", "serve-tfs": "serve"}  # if an image is not named after its package
PIPELINE = ["explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote"]
RESTRICTED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": "mode=1777"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    # Uses the docker program, because the package leaves a socket open if nothing responds.
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True).returncode:
        pytest.skip("Docker does not respond here: start it, then `make images`")
    connected = docker.from_env()
    yield connected
    connected.close()


def built(client: Any, stage: str) -> str:
    """Returns the stage's image reference; skips the test if it is not built."""
    reference = images.image(stage)
    try:
        client.images.get(reference)
    except docker.errors.ImageNotFound:
        pytest.skip(f"{reference} is not built: make images STAGE={stage}")
    return reference


def output_of(client: Any, stage: str, *command: str, **options: Any) -> str:
    """Returns the output of a container of the stage. Raises docker.errors.ContainerError if it fails."""
    settings = RESTRICTED | {"network_mode": "none", "remove": True, "entrypoint": []} | options
    return str(client.containers.run(built(client, stage), list(command), stderr=True, **settings).decode())


@pytest.mark.parametrize("stage", STAGES)
def test_an_image_starts_as_an_unnamed_user(client: Any, stage: str) -> None:
    module = f"seaway.{PACKAGES.get(stage, stage)}"
    output = output_of(
        client, stage, "sh", "-c", f"id -u && id -g && pwd && touch $(mktemp -d)/a && python -m {module} --help"
    )
    assert output.splitlines()[:3] == ["10001", "10001", "/app"]
    assert f"usage: python -m {module}" in output
    labels = client.images.get(built(client, stage)).labels
    named = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert named["title"] == f"seaway-{stage}"
    assert named["licenses"] == "Apache-2.0"
    assert named["description"].startswith("Seaway: ")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", named["revision"])
    assert named["version"] == VERSION


IMPORT_ALL = """
import importlib, os, pathlib, sys
skipped = set(sys.argv[2:])
for path in sorted(pathlib.Path("seaway", sys.argv[1]).rglob("*.py")):
    name = ".".join(path.with_suffix("").parts)
    if path.stem not in ("__init__", "__main__") and name not in skipped:
        importlib.import_module(name)
"""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_s_modules_find_what_they_import(client: Any, stage: str) -> None:
    other = {  # the other backend; the locustfile, which patches Python for gevent
        "load": ["seaway.load.locustfile"],
        "serve": ["seaway.serve.backends.onnx", "seaway.serve.backends.png_decoder"],
        "serve-tfs": ["seaway.serve.backends.onnx", "seaway.serve.backends.png_decoder"],
        "serve-onnx": [f"seaway.serve.backends.{name}" for name in ("savedmodel", "inspection", "graph", "operators")],
    }
    output_of(client, stage, "python", "-c", IMPORT_ALL, PACKAGES.get(stage, stage), *other.get(stage, []))


@pytest.mark.parametrize(
    ("stage", "modules"),
    [
        ("serve-onnx", ["tensorflow", "torch", "kfp"]),
        ("serve", ["torch", "kfp"]),
        ("deploy", ["torch", "tensorflow", "onnxruntime"]),
        ("explore", ["torch", "torchvision", "tensorflow"]),
        ("validate", ["torch"]),
        ("train", ["tensorflow"]),
    ],
)
def test_an_image_holds_no_other_framework(client: Any, stage: str, modules: list[str]) -> None:
    find = "import importlib.util, sys; print([m for m in sys.argv[1:] if importlib.util.find_spec(m)])"
    assert output_of(client, stage, "python", "-c", find, "numpy", *modules).strip() == "['numpy']"


def test_train_and_export_differ_only_in_code(client: Any) -> None:
    train, export = (client.images.get(built(client, stage)).attrs["RootFS"]["Layers"] for stage in ("train", "export"))
    assert train[:-1] == export[:-1], "built from different caches? make images STAGE='train export'"
    assert train[-1] != export[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, server: Any) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"not ready: {server.logs().decode()[-3000:]}")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["serve", "serve-onnx"])
def test_a_server_and_its_load_test(client: Any, stage: str, tmp_path: Path) -> None:
    """Both run as a user that no image knows; the server responds as PyTorch does, and exits cleanly on SIGTERM."""
    built(client, "load")
    repository = tmp_path / "models"
    shutil.copytree(ROOT / "seaway" / "example", repository)
    for path in (repository, *repository.rglob("*")):
        path.chmod(0o777)  # so that the load stage can write there as that user
    mounts, url = [docker.types.Mount("/models", str(repository), type="bind")], f"http://127.0.0.1:{free_port()}"
    server = client.containers.run(
        built(client, stage),
        detach=True,
        user="12345:0",
        network_mode="host",
        environment={"SEAWAY_PORT": url.rpartition(":")[2], "SEAWAY_ADMIN_PORT": free_port()},
        mounts=[docker.types.Mount("/models", str(repository), type="bind", read_only=True)],
        **RESTRICTED,
    )
    try:
        wait_until_ready(url, server)
        command = ["python", "-m", "seaway.load", "--url", url, "--model-repository", "/models", "--name", "characters"]
        command += ["--version", "1", "--duration-s", "1", "--users", "2", "--evidence", "/models/evidence"]
        output = output_of(client, "load", *command, user="12345:0", network_mode="host", mounts=mounts)
        metrics = artifact_metadata.read(repository / "evidence").metrics
        assert metrics["requests"] > 0, output
        assert (metrics["wrong"], metrics["failed"], metrics["foreign"]) == (0, 0, 0), output
        server.stop(timeout=20)
        assert server.wait()["StatusCode"] == 0, server.logs().decode()[-3000:]
    finally:
        server.remove(force=True)


@pytest.mark.slow
@pytest.mark.parametrize("command", [(), ("/usr/bin/tensorflow_model_server",)], ids=["entrypoint", "command"])
def test_the_drop_in_starts_as_tensorflow_serving_s_image_does(client: Any, command: tuple[str, ...]) -> None:
    """As in its users' manifests: a model at /models/NAME, MODEL_NAME, arguments appended; or its command by path."""
    http, rpc = free_port(), free_port()
    ports = [f"--rest_api_port={http}", f"--port={rpc}"]
    named = ["--model_name=characters", "--model_base_path=/models/characters"] if command else []
    server = client.containers.run(
        built(client, "serve-tfs"),
        [*ports, *named],
        entrypoint=list(command) or None,
        detach=True,
        network_mode="host",
        environment={"MODEL_NAME": "characters"},
        mounts=[docker.types.Mount("/models", str(ROOT / "seaway" / "example"), type="bind", read_only=True)],
        **RESTRICTED,
    )
    try:
        wait_until_ready(f"http://127.0.0.1:{http}", server)
        config = LoadConfig(users=2, duration_s=1, warmup_s=0, model="characters")
        for url in (f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{rpc}"):
            assert problems(verify(url, ROOT / "seaway" / "example" / "characters" / "1", config)) == []
        server.stop(timeout=20)
        assert server.wait()["StatusCode"] == 0, server.logs().decode()[-3000:]
    finally:
        server.remove(force=True)


# ---- seaway run --runner docker

SMALL = ["--runner", "docker", "--net", "mlp", "--load-duration-s", "1", "--load-users", "2", "--no-keep"]


@pytest.fixture
def all_built(client: Any) -> None:
    for stage in PIPELINE:
        built(client, stage)


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "seaway.cli.main", "run", *SMALL, "--port", str(free_port()), *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left(client: Any, folder: Path) -> list[Any]:
    """Returns the containers of the run in `folder`, including stopped ones."""
    return list(client.containers.list(all=True, filters={"label": f"{containers.LABEL}={folder / '.seaway'}"}))


@pytest.mark.slow
def test_the_whole_way(client: Any, all_built: None, tmp_path: Path) -> None:
    with start(tmp_path, "--data", "strokes:1500", "--epochs", "2") as run:
        output, _ = run.communicate(timeout=280)
    assert run.returncode == 0, output[-4000:]
    assert re.findall(r"^([a-z]+)$", output, re.MULTILINE) == PIPELINE
    assert model_repository.labels(tmp_path / ".seaway" / "models", "characters")["stable"] == 1
    rows = re.findall(r"(PyTorch|ONNX Runtime|SavedModel|served, \w+) +│ +([\d.]+)% │", output)
    assert len(rows) == 5, output[-3000:]
    assert len({accuracy for _, accuracy in rows}) == 1
    others = [path for path in (tmp_path / ".seaway").rglob("*") if path.stat().st_uid != os.getuid()]
    assert others == [], "the caller owns all that the stages wrote"
    assert left(client, tmp_path) == []


def test_a_stage_that_fails_fails_the_run(client: Any, all_built: None, tmp_path: Path) -> None:
    with start(tmp_path, "--data", "emnist:letters") as run:
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert "explore: emnist:letters: the download needs torchvision, which is not installed" in output
    assert "the stage explore" in output
    assert left(client, tmp_path) == []


def test_no_exit_status_is_lost(client: Any) -> None:
    """kfp 2.17 itself loses about one in four of such quick failures, and treats the stage as succeeded."""
    command = ["sh", "-c", "echo said; exit 3"]
    for _ in range(10):
        assert containers._run(client, built(client, "promote"), command, {}, network_mode="none") == 3


@pytest.mark.slow
def test_a_rerun_after_a_kill_resumes_training_and_ctrl_c_leaves_no_container(
    client: Any, all_built: None, tmp_path: Path
) -> None:
    arguments = ("--data", "strokes:1500", "--epochs", "100000")

    def until(run: "subprocess.Popen[str]", words: str) -> str:
        assert run.stdout
        for line in run.stdout:
            if words in line:
                return line
        pytest.fail(f"ended without {words!r}")

    with start(tmp_path, *arguments) as first:
        until(first, "epoch 20/")
        first.send_signal(signal.SIGKILL)
    (orphan,) = left(client, tmp_path)
    assert orphan.status == "running"
    with start(tmp_path, *arguments) as second:
        until(second, "resumed from")
        (container,) = left(client, tmp_path)
        assert container.id != orphan.id, "two containers would write the same checkpoints"
        second.send_signal(signal.SIGINT)
        assert second.stdout
        second.stdout.read()
    assert left(client, tmp_path) == []


def test_a_missing_image_is_reported_before_any_work(client: Any, tmp_path: Path) -> None:
    executors = {"exec-a": {"container": {"image": "seaway/a:python3.11-none"}}}
    pipeline = SimpleNamespace(pipeline_spec=SimpleNamespace(deployment_spec={"executors": executors}))
    with pytest.raises(Unavailable, match=r"missing Docker images: seaway/a:python3\.11-none; build them"):
        containers.runner(pipeline, tmp_path)
