"""Installs the wheel built from the sdist into empty environments, one after another, and uses it there.

    .venv/bin/python tests/packaging/installs.py [default] [convert] [ship] [--python 3.12 …] [--log FILE]

default   `pip install seaway`: serves its example over every protocol, within 300 MB, without torch and TensorFlow;
          every verb of an extra says which extra is missing
convert   `pip install "seaway[convert]"`: converts a small ONNX model to a SavedModel with exactly the same outputs
ship      `pip install "seaway[ship]"`: ships a small network and serves it

With --log, checks that passed are recorded by commit and not repeated. Environments are deleted. The exit status is 1
if a check failed. inside.py runs in the environments.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside.py")
PYTHONS = ("3.11", "3.12", "3.13")
MAX_MB = 300  # of the default install
START_TIMEOUT_S = 120
# Command → the extra that it says is missing. {example}: the bundled model repository.
MISSING = {
    "seaway run": "all",
    "seaway ship python:tiny:net --input 4": "ship",
    "seaway sweep": "train",
    "seaway convert x.onnx y": "convert",
    "seaway diff x.onnx y.onnx": "convert",
    "seaway load http://127.0.0.1:9 --model-repository {example}": "load",
    "seaway load capacity http://127.0.0.1:9 --model-repository {example} --protocol tfs --rate 10": "load",
    "seaway verify http://127.0.0.1:9 --model-repository {example} --protocol tfs": "load",
    "seaway compile x.yaml": "pipelines",
    "seaway submit --host http://127.0.0.1:9": "pipelines",
    "seaway status": "cluster",
    "seaway deploy --version 1 --namespace x": "cluster",
    "seaway rollback --namespace x": "cluster",
    "seaway versions --namespace x --model-repository {example}": "cluster",
    "python -m seaway.serve --model-repository {example} --port 0": "tensorflow",
    "python -m seaway.explore --dataset x --report y.html": "train",
    "python -m seaway.train --dataset x --checkpoint y": "train",
    "python -m seaway.export --model python:tiny:net --input 4 --onnx x": "ship",
    "python -m seaway.convert x.onnx y": "convert",
    "python -m seaway.validate --onnx x --saved-model y --parity z": "ship",
    "python -m seaway.run_summary --run x --namespace y": "cluster",
    "python -m seaway.preflight --namespace x": "cluster",
}


class Failed(Exception):
    """A failed check."""


class Environment:
    """An empty virtual environment of one interpreter, and a working folder."""

    def __init__(self, folder: Path, interpreter: str) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        self.root = folder / "env"
        self._variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SEAWAY"))}
        self._variables |= {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(self.root)}
        self._variables |= {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONNOUSERSITE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([interpreter, "-m", "venv", self.root], check=True)

    def install(self, wheel: Path, extra: str, constraints: Path) -> None:
        """As a user would; extras with uv if installed, whose cache saves gigabytes of downloads. Raises Failed."""
        requirement = f"{wheel}[{extra}]" if extra else str(wheel)
        pins = ("--constraint", str(constraints)) if constraints.is_file() else ()
        uv = Path(sys.executable).with_name("uv")
        command = [str(uv)] if extra and uv.is_file() else []
        self.run(*command, "pip", "install", "--quiet", *pins, requirement)
        self.run("pip", "check")

    def run(self, *command: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        """Raises Failed if it exits with another status."""
        process = self.start(*command)
        out, err = process.communicate(timeout=1800)
        if process.returncode != status:
            raise Failed(f"{' '.join(command)}: status {process.returncode}, not {status}: {(out + err)[-2000:]}")
        return subprocess.CompletedProcess(command, status, out, err)

    def start(self, *command: str) -> "subprocess.Popen[str]":
        program = command[0] if "/" in command[0] else str(self.root / "bin" / command[0])
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [program, *command[1:]], cwd=self.work, env=self._variables, stdout=pipe, stderr=pipe, text=True
        )

    def megabytes(self) -> float:
        return sum(path.lstat().st_size for path in self.root.rglob("*")) / 1e6

    @contextmanager
    def serving(self, *options: str) -> Iterator[str]:
        """Runs `seaway serve` until the block ends; yields its address. Raises Failed if it does not become ready."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with (self.work / "server.log").open("w") as log:
            command = [str(self.root / "bin" / "seaway"), "serve", "--port", str(port), *options]
            process = subprocess.Popen(command, cwd=self.work, env=self._variables, stdout=log, stderr=log)
        try:
            self._wait(process, url)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)

    def _wait(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise Failed(f"seaway serve is not ready: {(self.work / 'server.log').read_text()[-2000:]}")


def default(env: Environment) -> None:
    env.run("python", str(INSIDE), "only-seaway")
    env.run("python", str(INSIDE), "without", "torch", "tensorflow", "kfp", "onnx", "locust")
    if env.megabytes() > MAX_MB:
        raise Failed(f"the default install takes {env.megabytes():.0f} MB, more than {MAX_MB}")
    example = env.run("python", str(INSIDE), "example").stdout.strip()
    with env.serving("--example") as url:
        env.run("python", str(INSIDE), "responses", url, example)
        env.run("python", str(INSIDE), "image", "letter.png")
        env.run("seaway", "predict", "letter.png", "--url", url)
        env.run("seaway", "evaluate", "--data", "strokes:434", "--url", url)
    env.run("seaway", "versions", "--model-repository", example)
    env.run("seaway", "lineage", "1", "--model-repository", example)
    for verb in ("serve", "run", "ship", "load"):
        env.run("seaway", verb, "--help")
    output = env.run("seaway", "doctor").stdout
    if "fail" in output or 'pip install "seaway[ship]"' not in output:
        raise Failed(f"seaway doctor: {output}")
    for command, extra in MISSING.items():
        _check_missing(env, command.format(example=example).split(), extra)


def _check_missing(env: Environment, command: list[str], extra: str) -> None:
    (env.work / "x.onnx").touch()
    lines = env.run(*command, status=1).stderr.splitlines()
    if len(lines) != 1 or f'which is not installed: pip install "seaway[{extra}]"' not in lines[0]:
        raise Failed(f"{' '.join(command)}: expected one line about [{extra}]: " + "\n".join(lines))


def convert(env: Environment) -> None:
    env.run("python", str(INSIDE), "without", "torch", "kfp", "locust")
    env.run("python", str(INSIDE), "small-onnx", "small.onnx")
    env.run("seaway", "convert", "small.onnx", "saved_model", "--check")
    env.run("python", str(INSIDE), "exact", "small.onnx", "saved_model")


def ship(env: Environment) -> None:
    env.run("python", str(INSIDE), "without", "locust", "optuna")
    env.run("python", str(INSIDE), "net", "tiny.py")
    env.run("seaway", "ship", "python:tiny:net", "--input", "4", "--root", "root")
    with env.serving("--model-repository", "root/models") as url:
        env.run("python", str(INSIDE), "responses", url, "root/models")


PARTS: dict[str, Callable[[Environment], None]] = {"default": default, "convert": convert, "ship": ship}
EXTRAS = {"default": ""}


def build(folder: Path) -> Path:
    """The wheel, from the unpacked sdist."""

    def hatchling(source: Path, target: str) -> Path:
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the {target} cannot be built: {done.stderr}")
        return next(folder.glob("*.tar.gz" if target == "sdist" else "*.whl"))

    folder = folder.absolute()
    for old in (*folder.glob("seaway-*.tar.gz"), *folder.glob("seaway-*.whl")):
        old.unlink()
    with tempfile.TemporaryDirectory() as unpacked:
        shutil.unpack_archive(hatchling(ROOT, "sdist"), unpacked, filter="data")
        (source,) = Path(unpacked).iterdir()
        return hatchling(source, "wheel")


def interpreter(version: str) -> str:
    """The path for "3.12" or a path; "" if there is none. Includes pyenv's interpreters that are not selected."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (version if "/" in version else f"python{version}", *map(str, installed)):
        if (path := shutil.which(candidate)) and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return path
    return ""


def commit() -> str:
    """The checkout's commit, or "" if it has changes, so that their results are not recorded."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return "" if git("status", "--porcelain") else git("rev-parse", "HEAD")


def once(part: str, version: str, python: str, wheel: Path) -> dict[str, object]:
    """Makes one environment, checks it and deletes it."""
    started, failure, size = time.monotonic(), "", 0.0
    with tempfile.TemporaryDirectory(prefix="seaway-install-") as folder:
        env = Environment(Path(folder), python)
        try:
            env.install(wheel, EXTRAS.get(part, part), ROOT / f"constraints-{version}.txt")
            size = env.megabytes()
            PARTS[part](env)
        except (Failed, subprocess.TimeoutExpired) as error:
            failure = str(error)
    seconds = round(time.monotonic() - started)
    return {"part": part, "python": version, "mb": round(size), "seconds": seconds, "failure": failure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--python", action="append", default=[], help="3.12, or a path; repeat for more (default: all three)"
    )
    parser.add_argument("--but", default="", metavar="VERSION", help="a version to skip: the test suite's own")
    parser.add_argument("--skip-missing", action="store_true", help="continue if an interpreter is missing")
    parser.add_argument("--log", type=Path, help="JSON lines; checks that passed there at this commit are not repeated")
    parser.add_argument("--build", type=Path, metavar="DIR", help="only write the sdist and the wheel there")
    options = parser.parse_args()
    if options.build:
        print(build(options.build))
        return
    if unknown := set(options.part) - PARTS.keys():
        parser.error(f"unknown part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    at = commit()
    logged = options.log.read_text().splitlines() if options.log and options.log.is_file() else []
    done = [json.loads(line) for line in logged]
    passed = {(one["part"], one["python"]): one for one in done if at and one["commit"] == at and not one["failure"]}
    results = []
    with tempfile.TemporaryDirectory(prefix="seaway-wheel-") as folder:
        wheel = build(Path(folder))
        for version in [each for each in options.python or PYTHONS if each != options.but]:
            python = interpreter(version)
            for part in options.part or PARTS:
                if not python:
                    print(f"{part:8} {version}: no such interpreter here", flush=True)
                    results.append({"failure": "" if options.skip_missing else "no interpreter"})
                    continue
                result = passed.get((part, version)) or once(part, version, python, wheel)
                results.append(result)
                outcome = result["failure"] or ("passed before" if (part, version) in passed else "passed")
                print(f"{part:8} {version:5} {result['mb']:6} MB {result['seconds']:5} s  {outcome}", flush=True)
                if options.log and (part, version) not in passed:
                    options.log.parent.mkdir(parents=True, exist_ok=True)
                    with options.log.open("a") as log:
                        log.write(json.dumps({"commit": at, **result}) + "\n")
    sys.exit(any(result["failure"] for result in results))


if __name__ == "__main__":
    main()
