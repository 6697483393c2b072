"""Preparation: the model, made by our own stages, and the servers."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import processes, venvs
from benchmarks.processes import Server
from benchmarks.serving.cases import INPUT, MODEL, OUTPUT
from seaway.artifacts import artifact_metadata, atomic, model_repository

IMAGES = 64
WORKERS = (0, 1, 2)  # MLServer's parallel_workers; we compare with the best of them


def repository() -> Path:
    """The repository with the model as version 1 and `native`'s SavedModel. Made once and kept in .seaway/bench."""
    models = venvs.HOME / "native" / "models"
    if not _usable(models):
        with atomic.folder(version(models)) as folder:
            converted = version(converted_repository())
            shutil.copytree(converted / model_repository.EXTRA, folder / model_repository.EXTRA)
            onnx = folder / model_repository.EXTRA / "model.onnx"
            _run([sys.executable, "-m", "benchmarks.serving.native", str(onnx), str(folder)])
            artifact_metadata.write(
                folder,
                dataclasses.replace(artifact_metadata.read(converted, model_repository.METADATA_FILE), sha256=""),
                at=model_repository.METADATA_FILE,
            )
    return models


def converted_repository() -> Path:
    """The same with the SavedModel from our own stages: exported, converted, validated and published."""
    root = venvs.HOME / "conv"
    if not _usable(root / "models"):
        shutil.rmtree(root, ignore_errors=True)
        print("exporting, converting, validating and publishing the model", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            images = np.random.default_rng(4).random((IMAGES, 28, 28, 1)).round(4).astype(np.float32)
            np.savez(Path(folder, "images.npz"), image=images)
            command = [sys.executable, "-m", "seaway.cli.main", "ship", "python:benchmarks.serving.net:conv"]
            command += ["--input", f"{INPUT}:28x28x1", "--golden", f"{folder}/images.npz", "--name", MODEL]
            _run([*command, "--activation", "softmax", "--root", str(root)])
    return root / "models"


def shipped(net: str, shape: str) -> Path:
    """The version that `seaway ship` makes of one of `net`'s functions; made once and kept in .seaway/bench."""
    root = venvs.HOME / net
    folder = root / "models" / net / "1"
    if not folder.exists():
        print(f"shipping {net}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "seaway.cli.main", "ship", f"python:benchmarks.serving.net:{net}"]
        _run([*command, "--input", f"{INPUT}:{shape}", "--name", net, "--root", str(root)])
    return folder


def _usable(models: Path) -> bool:
    """Whether the model was made, and with the output that the requests are for. One without it is removed."""
    if not (folder := version(models)).exists():
        return False
    outputs = artifact_metadata.read(folder, model_repository.METADATA_FILE).outputs
    if any(output.name == OUTPUT for output in outputs):
        return True
    shutil.rmtree(folder)
    return False


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the model could not be made:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def version(models: Path) -> Path:
    return models / MODEL / "1"


def ours(models: Path, folder: Path, backend: str, *options: str, cpus: str = "") -> Server:
    """Our server; `cpus`: the cores that it may use, in taskset's notation ("0", "0,1")."""
    prefix = ["taskset", "-c", cpus] if cpus else []
    return processes.seaway(models, folder / f"seaway-{backend}.log", "--backend", backend, *options, prefix=prefix)


def mlserver(models: Path, folder: Path, workers: int) -> Server:
    """MLServer with its own venv and our model class; with metrics, access log and debug off, its fastest settings."""
    home = folder / f"mlserver-{workers}"
    home.mkdir(exist_ok=True)
    http, grpc, metrics = processes.free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "metrics_endpoint": None,
        "parallel_workers": workers,
        "debug": False,
        "use_structured_logging": False,
    }
    model = {
        "name": MODEL,
        "implementation": "mlserver_model.OnnxModel",
        "parameters": {"uri": str(version(models) / "assets.extra" / "model.onnx")},
    }
    (home / "settings.json").write_text(json.dumps(settings))
    (home / "model-settings.json").write_text(json.dumps(model))
    (home / "mlserver_model.py").write_bytes(Path(__file__).with_name("mlserver_model.py").read_bytes())
    interpreter = venvs.python("mlserver")
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(home), "PATH": f"{interpreter.parent}:/usr/bin:/bin"}
    command, log = [str(interpreter.with_name("mlserver")), "start", "."], folder / f"mlserver-{workers}.log"
    server = Server(command, log, env, home, ours=False)
    server.port, server.grpc_port = http, grpc
    server.wait_for(f"/v2/models/{MODEL}/ready")
    return server
