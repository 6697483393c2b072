"""`make try` on a fresh copy of the tree: a small environment of its own, and a server of the bundled example in it."""

import base64
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "seaway" / "example" / "characters" / "1"
MAX_ENVIRONMENT_BYTES, MAX_EXAMPLE_BYTES = 200 << 20, 1_000_000  # bytes
TIMEOUT_S = 120.0
VERSION = "{}.{}".format(*sys.version_info)
ABSENT = ("torch", "tensorflow", "kfp", "onnx", "onnx_tf", "typer", "pip")
NOT_A_USERS = ("PYTHON", "VIRTUAL", "SEAWAY_", "MAKE", "MFLAGS")  # what pytest and an outer make leave behind
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(NOT_A_USERS)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as a fresh clone would have it, after `make try` has made its environment."""
    tree = tmp_path_factory.mktemp("fresh") / "seaway"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv-try"], cwd=tree, check=True)
    (tree / ".venv-try" / "bin" / "python").unlink()
    (tree / ".venv-try" / "bin" / "python").symlink_to("/nowhere/python3.10")  # an environment whose Python is gone
    command = ["make", f".venv-try/.ready-{VERSION}", f"PYTHON={sys.executable}"]
    made = subprocess.run(command, cwd=tree, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert made.returncode == 0, made.stdout + made.stderr
    return tree


class Server:
    """What `make try` starts, on a free port."""

    def __init__(self, tree: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        shown = subprocess.run(
            ["make", "--no-print-directory", "-n", "try", f"PORT={self.port}", f"PYTHON={sys.executable}"],
            cwd=tree,
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
            text=True,
        )
        self.command = shlex.split(shown.stdout.splitlines()[-1])
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(self.command, cwd=tree, env=ENVIRONMENT, text=True, **pipe)
        self.said: list[str] = []
        self._reader = threading.Thread(target=lambda: self.said.extend(self.process.stdout), daemon=True)
        self._reader.start()

    def ask(self, path: str, document: object = None, accept: str = "*/*") -> tuple[int, bytes]:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, {"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                if self.ask("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            assert self.process.poll() is None, "".join(self.said)
            assert time.monotonic() < deadline, "".join(self.said)
            time.sleep(0.1)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join(10)
            self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tree: Path) -> Iterator[Server]:
    running = Server(tree)
    running.wait_ready()
    yield running
    assert running.stop() == 0, "".join(running.said)


@pytest.mark.slow
def test_the_environment_is_small_and_holds_no_training_framework(tree: Path) -> None:
    size = sum(path.lstat().st_blocks * 512 for path in (tree / ".venv-try").rglob("*"))
    assert size <= MAX_ENVIRONMENT_BYTES
    program = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
    command = [".venv-try/bin/python", "-c", program]
    asked = subprocess.run(command, cwd=tree, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert asked.stdout == "[]\n"


@pytest.mark.slow
def test_it_is_of_the_python_asked_for_and_kept(tree: Path) -> None:
    command = [".venv-try/bin/python", "--version"]
    asked = subprocess.run(command, cwd=tree, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert asked.stdout.startswith(f"Python {VERSION}.")
    command = ["make", "-q", f".venv-try/.ready-{VERSION}", f"PYTHON={sys.executable}"]
    assert subprocess.run(command, cwd=tree, env=ENVIRONMENT, timeout=60).returncode == 0, "to be made once more"


@pytest.mark.slow
def test_it_says_where_to_look_and_shows_the_page(server: Server) -> None:
    assert f"http://127.0.0.1:{server.port}/" in server.said[0]
    status, page = server.ask("/", accept="text/html")
    assert status == 200
    assert b"<!doctype html>" in page[:100].lower()


@pytest.mark.slow
def test_golden_examples_over_rest(server: Server) -> None:
    metadata, golden = (
        artifact_metadata.read(EXAMPLE, model_repository.METADATA_FILE),
        goldens.read(EXAMPLE / model_repository.EXTRA / goldens.GOLDEN),
    )
    status, body = server.ask("/v1/models/characters:predict", {"instances": golden.inputs["image"][:8].tolist()})
    assert status == 200
    got = np.array(json.loads(body)["predictions"], np.float32)
    assert goldens.compare(got, golden.outputs["scores"][:8], metadata.tolerances["scores"]).wrong == 0


@pytest.mark.slow
def test_a_drawn_seven_is_a_seven(server: Server) -> None:
    drawn, png = Image.new("L", (200, 200), 255), BytesIO()
    ImageDraw.Draw(drawn).line([(50, 40), (150, 40), (90, 170)], fill=0, width=12)
    drawn.save(png, "PNG")
    instance = {"png": {"b64": base64.b64encode(png.getvalue()).decode()}}
    document = {"signature_name": "from_png", "instances": [instance]}
    status, body = server.ask("/v1/models/characters:predict", document)
    assert status == 200
    [answer] = json.loads(body)["predictions"]
    assert answer["label"] == "7"
    assert answer["top_labels"][0] == "7"
    assert answer["score"] == max(answer["scores"])


@pytest.mark.slow
def test_a_taken_port_is_told_with_the_way_out(server: Server, tree: Path) -> None:
    again = subprocess.run(server.command, cwd=tree, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert f"127.0.0.1:{server.port}: the port is in use" in again.stderr


def test_the_example_is_whole_small_and_of_strokes() -> None:
    metadata = artifact_metadata.check(
        EXAMPLE, "version", at=model_repository.METADATA_FILE
    )  # no byte changed since it passed the gate
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) <= MAX_EXAMPLE_BYTES
    lineage = metadata.parents["parity"].parents["onnx"].parents["checkpoint"].parents["dataset"]
    assert lineage.settings["source"].startswith("strokes")
    assert min(metadata.metrics[f"accuracy_{hop}"] for hop in ("pytorch", "onnx_runtime", "savedmodel")) > 0.7
