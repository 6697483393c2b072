"""Installs a wheel that was built from the sdist into empty environments, one after another, and uses what is there.

    .venv/bin/python tests/packaging/installs.py [default] [convert] [ship] [--python 3.12 …] [--log FILE]

default   `pip install seaway`: serves its example on each protocol, within 300 MB, without torch and TensorFlow; every
          verb of an extra says which one is missing
convert   `pip install "seaway[convert]"`: a small ONNX model to a SavedModel that gives the very same numbers
ship      `pip install "seaway[ship]"`: a small net to a version that a server answers with

With --log, what passed is kept by commit, and not done again. Environments are deleted, and the exit status is 1 where
anything failed. inside.py is what runs within them.
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
START_SECONDS = 120
# What says that an extra is missing → that extra. {example}: the bundled model repository.
MISSING = {
    "seaway run": "all",
    "seaway ship python:tiny:net --input 4": "ship",
    "seaway sweep": "train",
    "seaway convert x.onnx y": "convert",
    "seaway load http://127.0.0.1:9 --volume {example}": "load",
    "seaway load capacity http://127.0.0.1:9 --volume {example} --protocol tfs --rate 10": "load",
    "seaway verify http://127.0.0.1:9 --volume {example} --protocol tfs": "load",
    "seaway evaluate --url http://127.0.0.1:9": "load",
    "seaway compile x.yaml": "pipelines",
    "seaway submit --host http://127.0.0.1:9": "pipelines",
    "seaway status": "cluster",
    "seaway deploy --version 1 --namespace x": "cluster",
    "seaway rollback --namespace x": "cluster",
    "seaway versions --namespace x --volume {example}": "cluster",
    "python -m seaway.serve --volume {example} --port 0": "tensorflow",
    "python -m seaway.explore --dataset x": "train",
    "python -m seaway.train --dataset x --checkpoint y": "train",
    "python -m seaway.export --model python:tiny:net --input 4 --onnx x": "ship",
    "python -m seaway.convert x.onnx y": "convert",
    "python -m seaway.validate --onnx x --saved-model y --parity z": "ship",
    "python -m seaway.outcome --run x --namespace y": "cluster",
    "python -m seaway.preflight --namespace x": "cluster",
}


class Failed(Exception):
    """What a check found."""


class Environment:
    """An empty virtual environment of one interpreter, and a folder to work in."""

    def __init__(self, folder: Path, interpreter: str) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        self.root = folder / "env"
        self._variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SEAWAY"))}
        self._variables |= {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(self.root)}
        self._variables |= {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONNOUSERSITE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([interpreter, "-m", "venv", self.root], check=True)

    def install(self, wheel: Path, extra: str, constraints: Path) -> None:
        """As a user would; extras by uv where it is, whose cache saves gigabytes of downloads. Raises Failed."""
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        given = ("--constraint", str(constraints)) if constraints.is_file() else ()
        uv = Path(sys.executable).with_name("uv")
        command = [str(uv)] if extra and uv.is_file() else []
        self.run(*command, "pip", "install", "--quiet", *given, wanted)
        self.run("pip", "check")

    def run(self, *command: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        """Raises Failed where it ends with another status."""
        ended = self.start(*command)
        out, err = ended.communicate(timeout=1800)
        if ended.returncode != status:
            raise Failed(f"{' '.join(command)}: status {ended.returncode}, not {status}: {(out + err)[-2000:]}")
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
        """`seaway serve` until the block ends; gives its address. Raises Failed where it does not get ready."""
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
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise Failed(f"seaway serve is not ready: {(self.work / 'server.log').read_text()[-2000:]}")


def default(env: Environment) -> None:
    env.run("python", str(INSIDE), "only-ours")
    env.run("python", str(INSIDE), "without", "torch", "tensorflow", "kfp", "onnx", "locust")
    if env.megabytes() > MAX_MB:
        raise Failed(f"the default install takes {env.megabytes():.0f} MB, more than {MAX_MB}")
    example = env.run("python", str(INSIDE), "example").stdout.strip()
    with env.serving("--example") as url:
        env.run("python", str(INSIDE), "answers", url, example)
        env.run("python", str(INSIDE), "picture", "letter.png")
        env.run("seaway", "predict", "letter.png", "--url", url)
    env.run("seaway", "versions", "--volume", example)
    env.run("seaway", "lineage", "1", "--volume", example)
    found = env.run("seaway", "doctor").stdout
    if "bad" in found or 'pip install "seaway[ship]"' not in found:
        raise Failed(f"seaway doctor: {found}")
    for command, extra in MISSING.items():
        _check_missing(env, command.format(example=example).split(), extra)


def _check_missing(env: Environment, command: list[str], extra: str) -> None:
    (env.work / "x.onnx").touch()
    said = env.run(*command, status=1).stderr.splitlines()
    if len(said) != 1 or f'which is not installed: pip install "seaway[{extra}]"' not in said[0]:
        raise Failed(f"{' '.join(command)}: one line about [{extra}] was expected: " + "\n".join(said))


def convert(env: Environment) -> None:
    env.run("python", str(INSIDE), "without", "torch", "kfp", "locust")
    env.run("python", str(INSIDE), "small-onnx", "small.onnx")
    env.run("seaway", "convert", "small.onnx", "saved_model", "--check")
    env.run("python", str(INSIDE), "exact", "small.onnx", "saved_model")


def ship(env: Environment) -> None:
    env.run("python", str(INSIDE), "without", "locust", "optuna")
    env.run("python", str(INSIDE), "net", "tiny.py")
    env.run("seaway", "ship", "python:tiny:net", "--input", "4", "--root", "root")
    with env.serving("--volume", "root/models") as url:
        env.run("python", str(INSIDE), "answers", url, "root/models")


PARTS: dict[str, Callable[[Environment], None]] = {"default": default, "convert": convert, "ship": ship}
EXTRAS = {"default": ""}


def build(folder: Path) -> Path:
    """The wheel, from the unpacked sdist."""

    def hatchling(source: Path, target: str) -> Path:
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        ended = subprocess.run(command, cwd=source, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"the {target} cannot be built: {ended.stderr}")
        return next(folder.glob("*.tar.gz" if target == "sdist" else "*.whl"))

    folder = folder.absolute()
    for old in (*folder.glob("seaway-*.tar.gz"), *folder.glob("seaway-*.whl")):
        old.unlink()
    with tempfile.TemporaryDirectory() as unpacked:
        shutil.unpack_archive(hatchling(ROOT, "sdist"), unpacked, filter="data")
        (source,) = Path(unpacked).iterdir()
        return hatchling(source, "wheel")


def interpreter(version: str) -> str:
    """Of "3.12" or a path; "" where there is none. An interpreter of pyenv's need not be the one that is chosen."""
    known = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for tried in (version if "/" in version else f"python{version}", *map(str, known)):
        if (path := shutil.which(tried)) and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return path
    return ""


def commit() -> str:
    """ "" where the files are no commit's, so that nothing is kept of them."""

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
    parser.add_argument("--python", action="append", default=[], help="3.12, or a path; repeat (default: all three)")
    parser.add_argument("--but", default="", metavar="VERSION", help="one to leave out: the test suite's own")
    parser.add_argument("--skip-missing", action="store_true", help="go on where an interpreter is not there")
    parser.add_argument("--log", type=Path, help="JSON lines; what passed there at this commit is not done again")
    parser.add_argument("--build", type=Path, metavar="DIR", help="write the sdist and the wheel there, and no more")
    given = parser.parse_args()
    if given.build:
        print(build(given.build))
        return
    if unknown := set(given.part) - PARTS.keys():
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    at = commit()
    done = (
        [json.loads(line) for line in given.log.read_text().splitlines()] if given.log and given.log.is_file() else []
    )
    passed = {(one["part"], one["python"]): one for one in done if at and one["commit"] == at and not one["failure"]}
    results = []
    with tempfile.TemporaryDirectory(prefix="seaway-wheel-") as folder:
        wheel = build(Path(folder))
        for version in [each for each in given.python or PYTHONS if each != given.but]:
            python = interpreter(version)
            for part in given.part or PARTS:
                if not python:
                    print(f"{part:8} {version}: no such interpreter here", flush=True)
                    results.append({"failure": "" if given.skip_missing else "no interpreter"})
                    continue
                found = passed.get((part, version)) or once(part, version, python, wheel)
                results.append(found)
                outcome = found["failure"] or ("passed before" if (part, version) in passed else "passed")
                print(f"{part:8} {version:5} {found['mb']:6} MB {found['seconds']:5} s  {outcome}", flush=True)
                if given.log and (part, version) not in passed:
                    given.log.parent.mkdir(parents=True, exist_ok=True)
                    with given.log.open("a") as log:
                        log.write(json.dumps({"commit": at, **found}) + "\n")
    sys.exit(any(found["failure"] for found in results))


if __name__ == "__main__":
    main()
