"""Real servers of real SavedModels. Starting one imports TensorFlow, so most tests share two of them."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance

START_TIMEOUT_S, WAIT_TIMEOUT_S = 240.0, 120.0
GO = shutil.which("go") or "/usr/local/go/bin/go"
GO_PROGRAM = Path(__file__).resolve().parents[2] / "conformance" / "graphpipe-go"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


class Server:
    """`python -m seaway.serve` on free ports; `log` is its stderr."""

    def __init__(self, repository: Path, *options: str) -> None:
        command = [sys.executable, "-m", "seaway.serve", "--model-repository", str(repository)]
        command += ["--port", "0", "--admin-port", "0"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SEAWAY_")}
        self.process = subprocess.Popen(
            [*command, "--workers", "1", "--poll-interval-s", "0.2", *options],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[3],
        )
        first = self.process.stderr.readline().split()
        self.url, self.admin_url = [word.rstrip("/") for word in first if word.startswith(("http://", "https://"))]
        self.port, self.admin_port = (int(url.rpartition(":")[2]) for url in (self.url, self.admin_url))
        self.grpc = first[first.index("gRPC") + 1] if "gRPC" in first else ""  # host:port
        self.log: list[str] = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()

    def request(self, method: str, path: str, body: bytes | str = b"", headers: dict | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def predict(self, target: str, document: object) -> Reply:
        return self.request("POST", f"/v1/models/{target}:predict", json.dumps(document))

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def status(self) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=60)
        try:
            connection.request("GET", "/status")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.admin_url}/metrics", timeout=60) as reply:
            return reply.read().decode()

    def states(self, model: str) -> dict[int, str]:
        reply = self.get(f"/v1/models/{model}")
        rows = reply.json()["model_version_status"] if reply.status == 200 else []
        return {int(row["version"]): row["state"] for row in rows}

    def error_of(self, model: str, version: int) -> str:
        [row] = self.get(f"/v1/models/{model}/versions/{version}").json()["model_version_status"]
        return row["status"]["error_message"]

    def worker(self) -> int:
        [worker] = self.status()["workers"]
        return worker["pid"]

    def wait(self, condition: Callable[[], object], seconds: float = WAIT_TIMEOUT_S) -> None:
        """Polls until the condition holds; fails with the server's log at the deadline."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, "the server exited:\n" + "".join(self.log)
            assert time.monotonic() < deadline, "the condition never held:\n" + "".join(self.log)
            time.sleep(0.05)

    def wait_ready(self) -> None:
        self.wait(lambda: self.get("/readyz").status == 200, START_TIMEOUT_S)

    def stop(self, seconds: float = 60.0) -> int:
        """Sends SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(10)
            self.process.stderr.close()


class DropIn(Server):
    """`tensorflow_model_server`, or its image's entrypoint, on free ports; `grpc_port` 0: without gRPC."""

    def __init__(
        self, entry: str, arguments: Sequence[str], environ: Mapping[str, str] | None = None, grpc_port: int = 0
    ) -> None:
        self.port = self.free_port()
        code = f"from seaway.serve.tfs_command import {entry}; {entry}()"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SEAWAY_", "MODEL_"))}
        quick = {"SEAWAY_WORKERS": "1", "SEAWAY_THREADS": "2", "SEAWAY_POLL_INTERVAL_S": "0.2"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments, f"--port={grpc_port}", f"--rest_api_port={self.port}"],
            stderr=subprocess.PIPE,
            text=True,
            env=inherited | quick | dict(environ or {}),
            cwd=Path(__file__).parents[3],
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()

    @staticmethod
    def free_port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def is_open(self) -> bool:
        try:
            return self.get("/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self) -> None:
        self.wait(self.is_open, START_TIMEOUT_S)


class Load:
    """Threads that send requests without a pause and check each response against the version that it names."""

    def __init__(self, port, model, offsets, threads=2):
        self.answers, self.failed, self.wrong = {}, [], []
        self._port, self._model, self._offsets = port, model, offsets
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self, seed):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        random = np.random.default_rng(seed)
        while not self._stop.is_set():
            x = float(random.integers(1_000_000))
            try:
                connection.request("POST", f"/v1/models/{self._model}:predict", json.dumps({"instances": [x]}))
                reply = connection.getresponse()
                body = reply.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                return
            if reply.status != 200:
                self.failed.append((reply.status, body))
                continue
            version = reply.headers["Seaway-Model"].partition("@")[0]
            self.answers[version] = self.answers.get(version, 0) + 1
            if json.loads(body)["predictions"] != [x / 2 + self._offsets[version]]:
                self.wrong.append((x, body))
        connection.close()


@pytest.fixture
def under_load() -> type[Load]:
    return Load


@pytest.fixture(scope="session")
def server_class() -> type[Server]:
    """For tests that start and stop their own."""
    return Server


@pytest.fixture(scope="session")
def drop_in_class() -> type[DropIn]:
    """The same, started as TensorFlow Serving's command."""
    return DropIn


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SavedModels, see make_models.py. Tests copy from it and never change it."""
    out = tmp_path_factory.mktemp("models")
    program = Path(__file__).with_name("make_models.py")
    done = subprocess.run(
        [sys.executable, str(program), str(out)], capture_output=True, text=True, timeout=START_TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GraphPipe's Go reference, built: see tests/conformance/graphpipe-go."""
    if not Path(GO).exists():
        pytest.skip("Go is not installed")
    built = tmp_path_factory.mktemp("go") / "graphpipe-go"
    done = subprocess.run([GO, "build", "-o", built, "."], cwd=GO_PROGRAM, capture_output=True, text=True, timeout=280)
    if done.returncode and "dial tcp" in done.stderr:
        pytest.skip("Go's modules cannot be fetched here")
    assert done.returncode == 0, done.stderr
    return built


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    started: list[Server] = []

    def begin(repository: Path, *options: str) -> Server:
        started.append(Server(repository, *options))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of plain SavedModels, as for TensorFlow Serving; half has labels. Tests do not change its repository."""
    repository = tmp_path_factory.mktemp("plain")
    for model in ("half", "multi", "types", "every", "hard"):
        shutil.copytree(models / model, repository / model)
    for label, version in (("stable", 1), ("canary", 2)):
        model_repository.set_label(repository, "half", label, version)
    running = Server(
        repository,
        "--default-version",
        "latest",
        "--max-body-bytes",
        "1000000",
        "--access-log",
        "--threads",
        "2",
        "--grpc-port",
        "0",
    )
    try:
        running.wait_ready()
        yield running
    finally:
        assert running.stop() == 0


@dataclass(frozen=True)
class Following:
    """A server and the repository that tests publish to, each a model of its own."""

    server: Server
    repository: Path
    models: Path

    def publish(self, name: str, version: int = 1, offset: float | None = None, wrong: str = "") -> int:
        """Publishes half/<version> as the name's next, with golden examples of x/2 + `offset`."""
        offset = {1: 2.0, 2: 3.0}[version] if offset is None else offset
        return model_repository.publish(
            self.repository, name, lambda folder: fill(folder, self.models / "half" / str(version), name, offset, wrong)
        )

    def wait_available(self, name: str, version: int) -> None:
        self.server.wait(lambda: self.server.states(name).get(version) == "AVAILABLE")

    def wait_end(self, name: str, version: int) -> str:
        self.server.wait(lambda: self.server.states(name).get(version) == "END")
        return self.server.error_of(name, version)


def fill(folder: Path, saved_model: Path, name: str, offset: float, wrong: str) -> None:
    """`wrong`: "truncated" cuts saved_model.pb before the metadata is written, "changed" alters a byte afterwards."""
    shutil.copytree(saved_model, folder, dirs_exist_ok=True)
    extra = folder / model_repository.EXTRA
    extra.mkdir()
    graph = folder / "saved_model.pb"
    if wrong == "truncated":
        graph.write_bytes(graph.read_bytes()[:200])
    x = np.float32([0, 1, 2, 80])
    goldens.write(extra / goldens.GOLDEN, goldens.Golden({"x": x}, {"y": x / 2 + np.float32(offset)}))
    interface = Tensor("x", "float32", (None,)), Tensor("y", "float32", (None,))
    metadata = ArtifactMetadata(
        "version", name, (interface[0],), (interface[1],), tolerances={"y": Tolerance(1e-6, 1e-6)}
    )
    artifact_metadata.write(folder, metadata, at=model_repository.METADATA_FILE)
    if wrong == "changed":
        variables = folder / "variables" / "variables.data-00000-of-00001"
        variables.write_bytes(variables.read_bytes()[:-1] + b"!")


@pytest.fixture(scope="session")
def following(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Following]:
    repository = tmp_path_factory.mktemp("followed")
    running = Following(Server(repository, "--threads", "2"), repository, models)
    try:
        running.publish("first")
        running.server.wait_ready()
        yield running
    finally:
        assert running.server.stop() == 0
