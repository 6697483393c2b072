"""Stages in children of warm processes: isolated, and with the artifacts of kfp.local's SubprocessRunner."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from seaway.errors import SeawayError
from seaway.pipeline import definitions, local, warm

ROOT = Path(__file__).resolve().parents[3]
COMPONENT = {"base_image": "python:3.11", "packages_to_install": [], "install_kfp_package": False}


@dsl.component(**COMPONENT)
def disturb(folder: str) -> None:
    """Leaves behind what a stage can: changes of its process, and a process that holds its output open."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    os.environ["DISTURBED"] = "yes"
    sys.path.append("/disturbed")
    os.chdir("/")
    left = subprocess.Popen(["sleep", "120"])
    Path(folder, "left").write_text(str(left.pid))
    print("é without a line end", end="", flush=True)
    os.write(2, b" \xff")


@dsl.component(**COMPONENT)
def observe() -> str:
    import json
    import os
    import sys
    from pathlib import Path

    parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
    return json.dumps([os.environ.get("DISTURBED"), "/disturbed" in sys.path, str(Path.cwd()), parent])


@dsl.component(**COMPONENT)
def end(how: str) -> int:
    import os
    import signal
    import sys

    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "message":
        sys.exit("the input is empty")
    if how == "exception":
        raise ValueError("no such column")
    return 7


@dsl.pipeline
def two(folder: str) -> str:
    disturbed = disturb(folder=folder).set_caching_options(False)
    return observe().after(disturbed).set_caching_options(False).output


@dsl.pipeline
def one(how: str) -> int:
    return end(how=how).set_caching_options(False).output


def run(pipeline: Any, root: Path, **arguments: Any) -> Any:
    with warm.runner(pipeline) as runner:
        return local.run(pipeline, arguments, root, runner)["Output"]


def test_what_a_stage_leaves_does_not_reach_the_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    disturbed, changed_path, folder, parent = json.loads(run(two, tmp_path, folder=str(tmp_path)))
    os.kill(int((tmp_path / "left").read_text()), signal.SIGTERM)  # it still ran
    assert time.monotonic() - started < 100, "a stage has ended when its process has, not when all its children have"
    assert (disturbed, changed_path, folder) == (None, False, str(Path.cwd()))
    assert "seaway.pipeline.warm_process" in parent
    assert "  é without a line end \ufffd" in capsys.readouterr().out
    assert warm_processes() == []


@pytest.mark.parametrize("how", ["crash", "killed", "exit", "message", "exception"])
def test_a_stage_that_fails(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warm.runner(one) as runner:
        with pytest.raises(SeawayError, match="the stage end failed"):
            local.run(one, {"how": how}, tmp_path, runner)
        assert local.run(one, {"how": "well"}, tmp_path, runner)["Output"] == 7
    shown = capsys.readouterr().out
    assert ("the input is empty" in shown) == (how == "message")
    assert ("ValueError: no such column" in shown) == (how == "exception")


def test_without_its_warm_process_a_stage_runs_in_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "MODULE", "seaway.pipeline.no_such_module")
    assert run(one, tmp_path, how="well") == 7


def test_only_lightweight_components_are_parsed() -> None:
    container = definitions.pipeline("ship").pipeline_spec.deployment_spec["executors"]["exec-convert"]["container"]
    source, arguments = warm.parse_task([*container["command"], *container["args"]])
    assert "def convert(" in source
    assert arguments == ["--executor_input", "{{$}}", "--function_to_execute", "convert"]

    @dsl.component(base_image="python:3.11", packages_to_install=["tabulate"])
    def installs() -> None: ...

    executors = installs.pipeline_spec.deployment_spec["executors"]["exec-installs"]["container"]
    assert warm.parse_task([*executors["command"], *executors["args"]]) is None
    assert warm.parse_task(["python3", "-m", "mine"]) is None


def test_the_artifacts_are_those_of_a_new_process_for_each_stage(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef churn(): return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))\n"
    )
    trees = {}
    for runner in ("warm", "subprocess"):
        command = [sys.executable, "-m", "seaway.cli.main", "ship", "python:mine:churn", "--input", "numbers:6"]
        command += ["--runner", runner, "--root", runner]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        trees[runner] = contents(tmp_path / runner)
    assert trees["warm"].keys() == trees["subprocess"].keys()
    assert [name for name, content in trees["warm"].items() if content != trees["subprocess"][name]] == []
    assert len(trees["warm"]) > 20


def contents(root: Path) -> dict[str, bytes]:
    """Every file of the published version and of the tasks' artifacts; without the names of `root` and of the run."""
    files = {}
    for path in (path for folder in ("models", "artifacts") for path in (root / folder).rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.name == "executor_output.json":  # kfp's own, with keys in any order
            content = json.dumps(json.loads(content), sort_keys=True).encode()
        content = content.partition(b"<h2>Environment</h2>")[0]  # of a report; it has the date
        name, content = str(path.relative_to(root)).encode(), content.replace(bytes(root), b"ROOT")
        files[re.sub(rb"seaway-ship-[\d-]+", b"RUN", name).decode()] = re.sub(rb"seaway-ship-[\d-]+", b"RUN", content)
    return files


def warm_processes() -> list[str]:
    """The command lines of this process's children that are warm processes."""
    listed = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if "warm_process" in line]


def test_ctrl_c_ends_in_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "seaway.cli.main", "ship", "python:torch.nn:Flatten", "--input", "numbers:6"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **piped) as process:
        assert process.stdout and process.stderr
        while "importing PyTorch" not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == (
            "\nseaway ship: interrupted; run the same command again; `seaway versions` lists what was published\n"
        )
        left = subprocess.run(["ps", "-s", str(process.pid), "-o", "args="], capture_output=True, text=True).stdout
    assert left == ""


INTERRUPTED_IN_A_HOOK = """
import os, signal, sys
from seaway.pipeline.local import start_process
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    start_process([sys.executable, "-c", "import signal; print(signal.pthread_sigmask(0, []))"], lambda: None)
except KeyboardInterrupt:
    os.wait()
    print("interrupted")
"""


def test_ctrl_c_while_a_process_starts_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IN_A_HOOK], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["set()", "interrupted"], done.stderr
