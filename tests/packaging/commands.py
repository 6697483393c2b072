"""Runs the shell commands of README.md and docs/*.md, page by page, as a reader would.

    .venv/bin/python tests/packaging/commands.py [docs/ship.md …] [--list] [--log FILE]

Each page gets a temporary folder with what its commands expect (PREPARE), and its commands run there in their order,
with the checkout's environment first on PATH. `seaway serve` starts a server, which ends with the page or with the next
server.
A Python block whose first line is `# NAME.py` is written to that file; blocks of the pages in PYTHON are run. NOT_RUN
holds the commands that do not run here, each with its reason; test_commands.py checks that both lists are true.
With --log, a page that passed at this commit is not run again. The exit status is 1 if a command failed.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
PYTHON = ("docs/clients.md", "docs/conversion.md")
URL = "http://127.0.0.1:8501"  # the default port, which the pages name
READY_TIMEOUT_S = 180
COMMAND_TIMEOUT_S = 900

CLUSTER, DOCKER, DATA = "needs a Kubernetes cluster", "needs Docker", "needs EMNIST's files in a folder"
SUITE = "is a part of the test suite, or runs all of it"
NOT_RUN = {  # a pattern of commands → why they do not run here
    r"python3 -m venv|pip install": "installs packages; new_user.py and installs.py do, into empty environments",
    r"make (kind-up|kind-down|e2e|e2e-kfp)\b": CLUSTER,
    r"make images\b|docker |for image in ": DOCKER,
    r"(kubectl|kind) |(NS|IMAGE)=": CLUSTER,
    r"seaway (submit|status)\b|seaway \w+ .*(--namespace|://CANARY|:30080)": CLUSTER,
    r"seaway promote --version 3$": "goes on from a `verify` on a cluster",
    r"python -m seaway\.pipeline\.manifests ": "writes into the checkout",
    r"make (setup|try|demo|test|check|docs|fix|lock|golden)\b": "makes environments, or writes into the checkout",
    r"python -m pytest": SUITE,
    r"\. \.venv|pre-commit ": "changes the reader's shell or checkout",
    r"tensorflow_model_server ": "needs TensorFlow Serving, which is no Python package",
    r".*\bidx:DIR\b": DATA,
    r"torchrun .*--device cuda": "needs GPUs",
    r"torchrun --nnodes": "needs two machines",
    r"seaway load http://127\.0\.0\.1:8080": "needs another server than Seaway's",
    r"printf .* \| sudo|curl .*models\.example": "needs nginx, a certificate and root",
    r"seaway serve .*--tls-cert": "needs a certificate; tests/seaway/serve/test_tls_served.py makes some",
    r"seaway serve .*--otlp-endpoint": "needs a collector; tests/seaway/serve/test_tracing.py is one",
    r"seaway run --load-rate": "trains for minutes; tests/seaway/cli runs the pipeline on few images",
    r"seaway sweep --search": "trains 20 networks",
    r"seaway ship (model\.onnx|saved_model/)": "needs a file from elsewhere; tests of export and serve have some",
}
STATUSES = {r"seaway load .*--limit": {0, 1, 3}}  # a limit may be violated on a slow machine
APPEND = {r"locust ": " --headless --users 2 --run-time 5s"}  # instead of its web page

REPOSITORY = """
mkdir -p .seaway/models && cp -r "$ROOT/seaway/example/characters" .seaway/models/ && ln -s .seaway/models models
cp -r models/characters/1 models/characters/2 && ln -s "$ROOT/loadtest" loadtest
python -c 'from pathlib import Path; from seaway.artifacts.model_repository import set_label
set_label(Path("models"), "characters", "stable", 2, "prepared")'
"""
IMAGE = """
python -c 'from PIL import Image, ImageDraw; image = Image.new("L", (100, 100), 255)
ImageDraw.Draw(image).line((50, 10, 50, 90), fill=0, width=8); image.save("image.png")'
"""
NET = r"""
printf 'from torch import nn\n\ndef churn():\n    return nn.Linear(6, 2)\n' > mynets.py
python -c 'import mynets, torch; torch.save(mynets.churn().state_dict(), "churn.pt")'
printf 'stays\nleaves\n' > labels.txt
"""
DATASET = "python -m seaway.explore --source strokes:868 --dataset w/dataset"
SERVE = "seaway serve &"
PREPARE = {  # page → shell lines that make what its commands expect
    "README.md": NET,
    "docs/clients.md": IMAGE,
    "docs/conversion.md": 'cp "$ROOT"/seaway/example/characters/1/assets.extra/model.onnx .',
    "docs/load-testing.md": REPOSITORY
    + "seaway serve --grpc-port 8500 &\nprintf 'failed: 0.1%%\\np99_ms: 500\\n' > limits.yaml\n"
    + f"for day in monday tuesday; do seaway load {URL} --time 3 --report $day; done",
    "docs/pipelines.md": 'cp "$ROOT/examples/own_pipeline.py" mine.py',
    "docs/promote.md": f"{REPOSITORY}\n{SERVE}",
    "docs/serve.md": REPOSITORY,
    "docs/training.md": DATASET,
    "docs/tutorial.md": REPOSITORY + IMAGE,
}


class Failed(Exception):
    """A command ended with another status than it should."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"(?m)^( *)```(\w+)\n((?:.*\n)*?)\1```$", text)
    return [
        Block(language, "".join(line[len(indent) :] for line in body.splitlines(True)))
        for indent, language, body in found
    ]


def commands(text: str) -> Iterator[str]:
    """The commands of a shell block, each with all of its lines and without comments at its end."""
    waiting = ""
    for line in text.splitlines():
        waiting = f"{waiting}\n{line}" if waiting else line
        if waiting.endswith("\\"):
            continue
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quotation that ends on a later line
            continue
        if words:
            yield re.sub(r" +# .*$", "", waiting) if "\n" not in waiting else waiting
        waiting = ""
    if waiting:
        raise ValueError(f"a command that does not end: {waiting}")


def why_not(command: str) -> str:
    """Why the command does not run here; "" if it does."""
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, command)), "")


class Folder:
    """A page's temporary folder, and its server."""

    def __init__(self, path: Path, variables: dict[str, str]) -> None:
        self._path, self._server = path, None
        self.write(".curlrc", "fail-with-body\n")  # a status of 400 or above is a failure
        self._variables = variables | {"CURL_HOME": str(path)}

    def shell(self, command: str) -> None:
        """Raises Failed."""
        if re.match(r"(seaway serve|make try)\b", command):
            self._serve(command.removesuffix("&"))
            return
        allowed = next((statuses for pattern, statuses in STATUSES.items() if re.match(pattern, command)), {0})
        command += next((more for pattern, more in APPEND.items() if re.match(pattern, command)), "")
        self._run(["bash", "-euo", "pipefail", "-c", command], command, allowed)

    def python(self, text: str) -> None:
        """Raises Failed."""
        self._run([sys.executable, "-c", text], text, {0})

    def write(self, name: str, text: str) -> None:
        (self._path / name).write_text(text, encoding="utf-8")

    def close(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(timeout=60)
            self._server = None

    def _run(self, words: list[str], shown: str, allowed: set[int]) -> None:
        try:
            ended = subprocess.run(
                words, cwd=self._path, env=self._variables, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{shown}: not finished after {COMMAND_TIMEOUT_S} s") from None
        if ended.returncode not in allowed:
            raise Failed(f"{shown}: status {ended.returncode}: {(ended.stdout + ended.stderr)[-2000:]}")

    def _serve(self, command: str) -> None:
        self.close()
        if _ready():
            raise Failed(f"{command}: another server is at {URL}; end it first")
        log = (self._path / "server.log").open("w")
        self._server = subprocess.Popen(
            shlex.split(command), cwd=self._path, env=self._variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _ready():
            if time.monotonic() > deadline or self._server.poll() is not None:
                raise Failed(f"{command}: not ready: {(self._path / 'server.log').read_text()[-2000:]}")
            time.sleep(0.2)


def _checkout_variables(path: Path) -> dict[str, str]:
    """This process's, with the checkout's environment first on PATH."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SEAWAY"))}
    own |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ROOT": str(ROOT)}
    return own | {"PYTHONPATH": f"{path}:{ROOT}", "TF_CPP_MIN_LOG_LEVEL": "3", "NO_COLOR": "1"}


def _ready() -> bool:
    try:
        urllib.request.urlopen(f"{URL}/readyz", timeout=5).close()
    except OSError:
        return False
    return True


def run(page: str) -> int:
    """Runs a page's commands. Returns how many. Raises Failed."""
    count = 0
    with tempfile.TemporaryDirectory(prefix="seaway-docs-") as path:
        folder = Folder(Path(path), _checkout_variables(Path(path)))
        try:
            for line in commands(PREPARE.get(page, "")):
                folder.shell(line)
            for block in blocks(page):
                if block.language == "python" and (name := re.match(r"# (\w+\.py)", block.text)):
                    folder.write(name[1], block.text)
                elif block.language == "python" and page in PYTHON:
                    folder.python(block.text)
                    count += 1
                elif block.language == "sh":
                    for command in commands(block.text):
                        if not why_not(command):
                            folder.shell(command)
                            count += 1
        finally:
            folder.close()
    return count


def _commit() -> str:
    """ "" if the files are no commit's, so that nothing is remembered of them."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return "" if git("status", "--porcelain") else git("rev-parse", "HEAD")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="*", default=PAGES, help="default: all")
    parser.add_argument("--list", action="store_true", help="print what runs, and what does not and why; run nothing")
    parser.add_argument("--log", type=Path, help="JSON lines; a page that passed there at this commit is not run again")
    options = parser.parse_args()
    if options.list:
        for page in options.page:
            for command in (one for block in blocks(page) if block.language == "sh" for one in commands(block.text)):
                print(f"{page}: {why_not(command) or 'runs'}: {command}")
        return
    commit = _commit()
    lines = options.log.read_text().splitlines() if options.log and options.log.is_file() else []
    logged = [entry for entry in map(json.loads, lines) if entry["part"] == "commands"]
    passed = {entry["page"] for entry in logged if commit and entry["commit"] == commit and not entry["failure"]}
    failed = False
    for page in options.page:
        if page in passed:
            print(f"{page}: passed before", flush=True)
            continue
        started, failure, count = time.monotonic(), "", 0
        try:
            count = run(page)
        except Failed as error:
            failure, failed = str(error), True
        seconds = round(time.monotonic() - started)
        print(f"{page}: {failure or f'{count} commands passed'}, {seconds} s", flush=True)
        if options.log:
            options.log.parent.mkdir(parents=True, exist_ok=True)
            entry = {
                "commit": commit,
                "part": "commands",
                "python": page,
                "page": page,
                "seconds": seconds,
                "failure": failure,
            }
            with options.log.open("a") as log:
                log.write(json.dumps(entry) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
