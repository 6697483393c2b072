"""The commands of README, CONTRIBUTING and docs: all are run by commands.py or listed there, and name what exists."""

import importlib.util
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest
import typer

from seaway.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
RUNS = (  # the programs that commands.py may run; any other command needs a reason in NOT_RUN
    "seaway", "python", "curl", "locust", "torchrun", "mkdir", "printf",
)  # fmt: skip


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("commands", Path(__file__).with_name("commands.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["commands"] = module
    spec.loader.exec_module(module)
    return module


COMMANDS = load()
SHELL = [
    (page, command)
    for page in COMMANDS.PAGES
    for block in COMMANDS.blocks(page)
    if block.language == "sh"
    for command in COMMANDS.commands(block.text)
]
INLINE = [
    (page, span.replace("\\|", "|"))
    for page in COMMANDS.PAGES
    for span in re.findall(r"(?<!`)`((?:seaway|make|python -m seaway\.)[^`]*)`(?!`)", (ROOT / page).read_text())
    if re.match(r"(seaway|make|python -m seaway\.[a-z_]+\b) ?(?![:/])", span) and "…" not in span
]


def test_every_command_runs_or_has_a_reason() -> None:
    unknown = [
        (page, command)
        for page, command in SHELL
        if not COMMANDS.why_not(command) and shlex.split(command)[0] not in RUNS
    ]
    assert unknown == []


def test_every_reason_is_of_some_command() -> None:
    unused = [pattern for pattern in COMMANDS.NOT_RUN if not any(re.match(pattern, command) for _, command in SHELL)]
    assert unused == []
    assert set(COMMANDS.PREPARE) | set(COMMANDS.PYTHON) <= set(COMMANDS.PAGES)


def test_commands_are_shell_blocks_that_are_marked_so() -> None:
    bare = [page for page in COMMANDS.PAGES if re.search(r"(?m)^    (seaway|make|kubectl|python -m) ", _text(page))]
    fences = {
        page: re.findall(r"(?m)^ *```(.*)$", _text(page)) for page in COMMANDS.PAGES if page != "docs/code-map.md"
    }
    unmarked = [page for page, languages in fences.items() if not all(languages[::2]) or any(languages[1::2])]
    assert (bare, unmarked) == ([], [])


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "command"), [*SHELL, *INLINE])
def test_verbs_options_and_targets_exist(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text())
        assert [word for word in words[1:] if not re.search("=", word) and word not in targets] == []
    elif words[0] == "seaway":
        known = _options(words[1:])
        assert known is not None, f"{page}: no such verb: {command}"
        assert [word for word in _flags(words) if word not in known] == []
    elif words[:2] == ["python", "-m"] and words[2].startswith("seaway."):
        known = _of_module(words[2])
        assert [word for word in _flags(words) if word not in known] == []


def _flags(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match("--[a-z]", word)]


def _options(words: list[str]) -> set[str] | None:
    """The options of a verb of `seaway`; None if there is no such verb."""
    command: click.Command = typer.main.get_command(app)
    options = {flag for parameter in command.params for flag in parameter.opts}
    for word in words:
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        if word not in command.commands:
            if command.name != "load":
                return None
            break
        command = command.commands[word]
    if command.name == "load":  # `seaway load URL` is `seaway load run URL`
        command = command.commands["run"]  # type: ignore[attr-defined]
    if command.name == "serve":  # which passes on what the server's own command takes
        options |= _of_module("seaway.serve")
    return (
        options
        | {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
    )


@cache
def _of_module(module: str) -> frozenset[str]:
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    return frozenset(re.findall(r"--[a-z][a-z0-9_-]*", shown.stdout))


OTHERS = {  # options of other programs, which pages mention: kubectl, pip, curl, Docker, Locust, torchrun, benchmarks
    "--ignore-daemonsets", "--delete-emptydir-data", "--constraint", "--http2", "--build-arg", "--max-restarts",
    "--master", "--expect-workers", "--worker", "--master-host", "--headless", "--rest",
    "--only", "--parts", "--rows", "--million", "--runs", "--kind", "--gigabytes", "--nets", "--rounds", "--steps",
    "--seeds", "--at-once", "--seconds", "--writers", "--web-host", "--tls-client-cert", "--tls-client-key",
    "--generate",
}  # fmt: skip
MODULES = (
    "serve",
    "serve.tfs_command",
    "explore",
    "train",
    "export",
    "convert",
    "validate",
    "publish",
    "load",
    "promote",
    "preflight",
    "run_summary",
)


def _flags_below(command: click.Command) -> set[str]:
    own = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(_flags_below, getattr(command, "commands", {}).values()))


@cache
def _all_options() -> frozenset[str]:
    """Those of every verb of `seaway` and of every stage."""
    verbs = _flags_below(typer.main.get_command(app))
    return frozenset(verbs.union(*(_of_module(f"seaway.{module}") for module in MODULES)))


@pytest.mark.parametrize("page", COMMANDS.PAGES)
def test_options_in_prose_exist(page: str) -> None:
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", _text(page))
    named = {
        flag for span in re.findall(r"`([^`]+)`", prose) for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*", span)
    }
    assert named - _all_options() - OTHERS == set()
