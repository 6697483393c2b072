"""`seaway evaluate` against real servers of a model without serving_default, each with one protocol alone."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from seaway.artifacts.artifact_metadata import Tensor
from seaway.data import datasets
from seaway.errors import SeawayError
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import Call, ModelVersionInfo, RawRequest, Reply, Signature

ROOT = Path(__file__).resolve().parents[3]
EVALUATE = [sys.executable, "-m", "seaway.cli.main", "evaluate"]
DATA = "strokes:434"
SIDES = {"inputs": Tensor("pixels", "float32", (None, 28, 28, 1)), "outputs": Tensor("shares", "float32", (None, 62))}
SIGNATURES = {"classify_pixels": Signature((SIDES["inputs"],), (SIDES["outputs"],))}
DEFINITION = {
    side: {
        tensor.name: {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": str(-1 if size is None else size)} for size in tensor.shape]},
        }
    }
    for side, tensor in SIDES.items()
}
MODEL = ModelVersionInfo("glyphs", 1, "", SIGNATURES, {"classify_pixels": DEFINITION, "__init_op": {}})
PATHS = {
    "/v1/models/glyphs:predict": (tfserving, "predict"),
    "/v2/models/glyphs/infer": (oip, "infer"),
    "/graphpipe/glyphs": (graphpipe, "infer"),
}
METADATA = {
    "/v1/models/glyphs/metadata": (tfserving, lambda: tfserving.write_metadata("glyphs", 1, MODEL.definitions)),
    "/v2/models/glyphs": (oip, lambda: oip.model_metadata(MODEL, ["1"])),
}


class _Handler(http.server.BaseHTTPRequestHandler):
    """Knows the test set, but takes every O for 0, and every l for 1."""

    protocol_version = "HTTP/1.1"
    served: ModuleType
    classes: dict[bytes, int]

    def do_GET(self) -> None:
        module, body = METADATA.get(self.path, (None, bytes))
        self.send(Reply(200, body()) if module is self.served else Reply(404, b"no such path"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        module, verb = PATHS.get(self.path, (None, ""))
        if module is not self.served:
            return self.send(Reply(404, b"no such path"))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            call = module.read(RawRequest(verb, body, headers), MODEL)
            self.send(module.write(call, self.infer(call), MODEL) if isinstance(call, Call) else call)
        except SeawayError as error:
            self.send(module.error(error))

    def infer(self, call: Call) -> dict[str, np.ndarray]:
        images = np.rint(call.inputs["pixels"] * 255).astype(np.uint8)
        return {"shares": np.eye(62, dtype=np.float32)[[self.classes[image.tobytes()] for image in images]]}

    def send(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
        self.send_response(reply.status)
        for name, value in {"Content-Type": reply.type, "Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(module: ModuleType, classes: dict[bytes, int]) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"served": module, "classes": classes})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def test_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, int], float]:
    """A folder to work in, the predicted class of each image, and their accuracy."""
    folder = tmp_path_factory.mktemp("evaluate")
    labels = datasets.read(DATA, folder, folder / ".seaway" / "data")
    images, true_classes = (np.load(folder / f"test_{part}.npy") for part in ("images", "labels"))
    alike = {labels.index("O"): labels.index("0"), labels.index("l"): labels.index("1")}
    predicted = [alike.get(int(true), int(true)) for true in true_classes]
    classes = dict(zip((image.tobytes() for image in images), predicted, strict=True))
    assert len(classes) == len(images)
    return folder, classes, float((np.array(predicted) == true_classes).mean())


@pytest.mark.parametrize(
    ("module", "protocol"), [(tfserving, "tfs"), (oip, "oip"), (oip, "oip-binary"), (graphpipe, "graphpipe")]
)
@pytest.mark.parametrize("named", [True, False])
def test_every_protocol_alone(
    test_set: tuple[Path, dict[bytes, int], float], module: ModuleType, protocol: str, named: bool
) -> None:
    folder, classes, accuracy = test_set
    options = ["--protocol", protocol] if named else []
    with serving(module, classes) as url:
        done = subprocess.run(
            [*EVALUATE, "--data", DATA, "--url", url, "--name", "glyphs", *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert done.returncode == 0, done.stderr
    assert 0 < accuracy < 1
    assert f"\naccuracy           {accuracy:.2%}\n" in done.stdout
    assert "\naccuracy, merged   100.00% (0, O and o as one class, and 1, I and l)\n" in done.stdout


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_ctrl_c_ends_in_one_line(tmp_path: Path, verb: str) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "x.png")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "seaway.cli.main", verb, "--url", url, "--name", "glyphs"]
        process = subprocess.Popen(
            [*command, *(["x.png"] if verb == "predict" else [])],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # even if it is ignored here
        )
        silent.settimeout(60)
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, f"\nseaway {verb}: interrupted; run the same command again\n")
