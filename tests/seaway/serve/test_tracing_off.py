"""Without --otlp-endpoint nothing of OpenTelemetry is imported; with it, and without the packages, one line says so."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from seaway.errors import InvalidInput
from seaway.serve import tfs_command
from seaway.serve.settings import Settings, from_environment

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "seaway" / "example"
ENDPOINT = "http://127.0.0.1:4318"
SERVE = "from seaway.serve.__main__ import main; main()\n"
HIDDEN = """
import importlib.util as u, sys
f = u.find_spec
u.find_spec = lambda name, *more: None if name == "opentelemetry" else f(name, *more)
"""


def test_nothing_is_imported_without_an_endpoint():
    listing = "import sys; print(sum('opentelemetry' in name for name in sys.modules), len(sys.modules) > 100)"
    options = ["--model-repository", str(EXAMPLES), "--backend", "onnx", "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", SERVE + listing, *options],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as server:  # fmt: skip
        url = next(word for word in server.stderr.readline().split() if word.startswith("http://"))
        with urllib.request.urlopen(url + "v2/health/live", timeout=60) as reply:
            assert json.load(reply) == {"live": True}
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
    assert (out.split(), server.returncode) == (["0", "True"], 0), err


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (SERVE, "python -m seaway.serve"),
        ("from seaway.serve.tfs_command import main; main()", "tensorflow_model_server"),
    ],
    ids=["seaway", "tfs"],
)
def test_without_the_packages_one_line_says_what_to_install(run, name, monkeypatch, tmp_path):
    monkeypatch.setenv("SEAWAY_OTLP_ENDPOINT", ENDPOINT)
    monkeypatch.setenv("SEAWAY_BACKEND", "onnx")
    options = ["--model-repository", str(tmp_path), "--port", "0"]
    if name.startswith("tensorflow"):
        options = ["--port=0", "--rest_api_port=12345", f"--model_base_path={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN + run, *options], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == (
        f'{name} needs opentelemetry.sdk, which is not installed: pip install "seaway[otel]"\n'
    )  # fmt: skip


def test_the_setting(tmp_path):
    environment = {"SEAWAY_OTLP_ENDPOINT": ENDPOINT}
    assert from_environment(environment) == {"otlp_endpoint": ENDPOINT}
    assert Settings(tmp_path).otlp_endpoint == ""
    command = tfs_command.read([f"--model_base_path={tmp_path}", "--rest_api_port=8501"], environment)
    assert command.settings.otlp_endpoint == ENDPOINT


@pytest.mark.parametrize("wrong", ["127.0.0.1:4318", "grpc://host:4317", "http://", "http://host/?a=b"])
def test_an_endpoint_that_is_not_a_url(wrong, tmp_path):
    with pytest.raises(InvalidInput, match="--otlp-endpoint"):
        Settings(tmp_path, otlp_endpoint=wrong)
