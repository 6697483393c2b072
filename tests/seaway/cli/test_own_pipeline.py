"""`seaway run|compile --pipeline FILE.py`: the example in examples/, and other user pipelines."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from seaway.cli import run
from seaway.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "own_pipeline.py"
PARTS = """
from kfp import dsl
from seaway.pipeline.definitions import component

explore = component("explore")

@dsl.component(base_image="registry.example/python:1", install_kfp_package=False)
def say(text: str, epochs: int, times: int) -> str:
    return f"{text}{epochs}" * times
"""
SAYS = """
@dsl.pipeline(name="says")
def says(times: int, name: str = "own", epochs: int = 3) -> str:
    return say(text=name, epochs=epochs, times=times).output
"""
LOOKS = """
@dsl.pipeline(name="looks")
def looks(fingerprint: str = "", cache: str = "/models/.cache"):
    explore(source="strokes:434", fingerprint=fingerprint, cache=cache)
"""


def seaway(folder: Path, *arguments: str, more: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"} | more
    command = [sys.executable, "-m", "seaway.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "says.py").write_text(PARTS + SAYS)
    return folder


def test_the_example_runs_and_shows_its_reports(place: Path) -> None:
    """It starts no server, because the pipeline needs none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = seaway(place, "run", "--pipeline", str(EXAMPLE), "--param", "minimum=6", "--port", port)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert re.search(r"^each +6\.0$", done.stdout, re.MULTILINE)
    for stage in ("explore", "enough"):
        page = place / ".seaway" / "reports" / f"{stage}.html"
        assert f"Report   {page.as_uri()}" in done.stdout
    assert "<p>6 images per class, 6 needed" in page.read_text()
    assert "_report" not in done.stdout
    assert "Server" not in done.stdout
    refused = seaway(place, "run", "--pipeline", str(EXAMPLE), "--param", "minimum=7")
    assert refused.returncode == 1
    assert "explore  cached from an earlier run" in refused.stdout
    assert "enough: 6 images per class, 7 needed: collect more" in refused.stdout
    assert "the stage enough failed" in refused.stderr
    assert reports(refused) == [page.as_uri()], "of the stage that failed"
    assert "<p>6 images per class, 7 needed" in page.read_text()


def reports(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"^Report   (\S+)$", done.stdout, re.MULTILINE)


def test_a_pipeline_without_outputs_lists_its_reports_once(tmp_path: Path) -> None:
    (tmp_path / "looks.py").write_text(PARTS + LOOKS)
    done = seaway(tmp_path, "run", "--pipeline", "looks.py")
    assert done.returncode == 0, done.stderr
    assert reports(done) == [(tmp_path / ".seaway" / "reports" / "explore.html").as_uri()]


def test_the_example_is_the_one_in_the_documentation() -> None:
    text = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    [shown] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "@dsl.pipeline" in block]
    whole = EXAMPLE.read_text(encoding="utf-8")
    assert shown == whole[whole.index("from typing") :]


def test_the_example_compiles(place: Path) -> None:
    done = seaway(place, "compile", "own.yaml", "--pipeline", str(EXAMPLE), "--registry", "ghcr.io/example")
    assert done.returncode == 0, done.stderr
    ir, _ = yaml.safe_load_all((place / "own.yaml").read_text())
    images = {name: one["container"]["image"] for name, one in ir["deploymentSpec"]["executors"].items()}
    assert images["exec-enough"] == "python:3.12-slim"
    assert images["exec-explore"].startswith("ghcr.io/example/explore:")
    assert sorted(images) == ["exec-enough", "exec-explore", "exec-preflight", "exec-run-summary"]


def test_a_pipeline_s_own_defaults_apply_unless_an_option_is_set(place: Path) -> None:
    usual = seaway(place, "run", "--pipeline", "says.py", "--param", "times=2")
    assert (usual.returncode, "Output   own3own3\n" in usual.stdout) == (0, True), usual.stdout + usual.stderr
    overridden = seaway(place, "run", "--pipeline", "says.py", "--param", "times=1", "--name", "mine", "--epochs", "0")
    assert (overridden.returncode, "Output   mine0\n" in overridden.stdout) == (0, True), (
        overridden.stdout + overridden.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["says.py"], "the pipeline needs times: give --param times=VALUE"),
        (["says.py", "--param", "time=2"], "--param time: the pipeline has no such parameter; did you mean times?"),
        (["says.py", "--param", "times=x"], "--param times=x: expected an integer, e.g. 2"),
        (["says.py", "--param", "times=2", "--net", "mlp"], "--net: the pipeline says.py has no parameter net"),
        (
            ["says.py", "--param", "times=2", "--limit", "p99_ms=1"],
            "--limit: the pipeline says.py has no parameter loa",
        ),
        (["nothing.py"], "nothing.py: no such file"),
        (["nothing"], "--pipeline nothing: choose from characters, ship, or give a file, e.g. mine/pipeline.py"),
        (["ship"], "the pipeline needs model, name: give --param model=VALUE"),
    ],
)
def test_invalid_arguments_are_refused_before_any_work(place: Path, arguments: list[str], message: str) -> None:
    done = seaway(place, "run", "--root", "never", "--pipeline", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert message in done.stderr
    assert not (place / "never").exists()


def test_ship_as_a_pipeline_of_run(place: Path) -> None:
    nets = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'fixtures'}"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    parameters = ["--param", "model=python:shipped_nets:churn", "--param", 'inputs=["numeric:6", "category:3:int64"]']
    done = seaway(
        place, "run", "--pipeline", "ship", *parameters, "--name", "churn", "--port", port, "--no-keep", more=nets
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert re.search(r"^Output +1$", done.stdout, re.MULTILINE)
    assert f"http://127.0.0.1:{port}" not in done.stdout  # that server has stopped
    command = done.stdout.splitlines()[-1]
    assert command.endswith("seaway serve --model-repository .seaway/models")
    subprocess.run(f"{command} --help", cwd=place, shell=True, check=True, capture_output=True, timeout=60)
    assert (place / ".seaway" / "models" / "churn" / "1" / "saved_model.pb").is_file()


def test_the_options_defaults_are_the_pipeline_s_own() -> None:
    """An unset option is not passed to the pipeline: --help shows the default that then applies."""
    ir, _ = yaml.safe_load_all((ROOT / "tests" / "golden" / "characters.yaml").read_text())
    own = {name: one.get("defaultValue") for name, one in ir["root"]["inputDefinitions"]["parameters"].items()}
    options = {option.name: option.default for option in get_command(app).commands["run"].params}  # type: ignore[attr-defined]
    for option, parameter in run.PARAMETERS.items():
        assert (options[option] or own[parameter] or 0) == (own[parameter] or 0), option
