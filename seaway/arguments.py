"""Command lines: an argument parser whose errors are one line, the option that a mistyped one was meant to be, and
`seaway` commands that are printed to be run.
"""

import argparse
import difflib
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, but an error is one line without the usage, with the nearest option if one is unknown."""

    def error(self, message: str) -> NoReturn:
        kind, _, words = message.partition("unrecognized arguments: ")
        if not kind and words:
            message = unknown_option(words.split()[0], self._option_string_actions)
        print(with_help(self.prog, message), file=sys.stderr, flush=True)
        raise SystemExit(2)


def with_help(command: str, message: str) -> str:
    """One line for a mistake in a command line: with the command that lists its options."""
    return f"{command}: {message}{' See' if message.endswith('?') else '; see'} `{command} --help`"


_SYNONYMS = {  # other load generators' options
    "--duration": "--time",
    "--run-time": "--time",
    "--concurrency": "--users",
    "--connections": "--users",
    "--requests-per-second": "--rate",
    "--rps": "--rate",
    "--qps": "--rate",
}


def unknown_option(option: str, known: Iterable[str]) -> str:
    """The message for an option that does not exist: with the most similar one that does, if any is similar."""
    name = option.partition("=")[0]
    known = [one for one in known if one.startswith("--")]
    synonym = _SYNONYMS.get(name)
    similar = [synonym] if synonym in known else difflib.get_close_matches(name, known, n=1)
    if name.startswith("-"):
        return f"there is no option {name}{f': did you mean {similar[0]}?' if similar else ''}"
    return f"unexpected argument {option!r}"


def seaway_command(*words: object) -> str:
    """A `seaway` command line for the current folder, by path if PATH does not find this one, as after `make demo`."""
    installed = Path(sys.executable).with_name("seaway")
    by_name = not installed.exists() or shutil.which("seaway") == str(installed)
    program = "seaway" if by_name else short_path(installed)
    return shlex.join(map(str, (program, *words)))


def short_path(path: Path) -> str:
    """Relative, if it is in the current folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
