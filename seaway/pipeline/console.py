"""What a person sees of a local run: which stage runs, what it says itself, how long it took. The rest goes to a log.

kfp.local prints every task's whole input as JSON, and its executor logs on the same stream as the stage.
"""

import io
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

from rich.console import Console

_COLOUR = re.compile(r"\x1b\[\d+m")
_TASK = re.compile(r"Task '?([\w-]+)'? (cache hit|finished)|Executing task '([\w-]+)'")
_EXECUTOR = "[KFP Executor"
_JSON_FOLLOWS = "Got executor_input:"


@contextmanager
def tidy(log: Path) -> Iterator[None]:
    """While the block runs, shows stages and their own lines on stdout, and writes everything to `log`."""
    # Both are closed here: one that is collected after its log was would complain of it, from Python 3.13 on.
    with log.open("w", encoding="utf-8") as everything, _Stages(sys.stdout, everything) as shown:
        root = logging.getLogger()
        root.addFilter(shown.heed)
        level = root.level
        root.setLevel(logging.INFO)  # a task that is picked up is told at this level
        try:
            with redirect_stdout(shown):
                yield
        finally:
            root.removeFilter(shown.heed)
            root.setLevel(level)


class _Stages(io.TextIOBase):
    """A stdout that keeps kfp's own lines to the log."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._console, self._log = Console(file=terminal, highlight=False, soft_wrap=True), log
        self._line, self._in_json, self._started = "", False, 0.0

    def heed(self, record: logging.LogRecord) -> bool:
        """A logging filter that turns kfp's messages about tasks into ours, and lets only warnings through."""
        message = _COLOUR.sub("", record.getMessage())
        self._log.write(f"{message}\n")
        if found := _TASK.match(message):
            self._tell(found[3] or found[1], "failed" if "FAILURE" in message else found[2])
        return record.levelno >= logging.WARNING and not found

    def _tell(self, task: str, what: str | None) -> None:
        if what == "cache hit":
            self._console.print(f"[bold cyan]{task}[/bold cyan]  [dim]done in an earlier run[/dim]")
        elif what == "failed":
            self._console.print(f"[bold red]{task} failed[/bold red]")
        elif what == "finished":
            self._console.print(f"[dim]  {time.monotonic() - self._started:.1f} s[/dim]")
        else:
            self._started = time.monotonic()
            self._console.print(f"[bold cyan]{task}[/bold cyan]")

    def write(self, text: str) -> int:
        self._log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if self._is_the_stage_s(line):
                self._console.print(f"  {line.removeprefix('    ')}", markup=False)
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def isatty(self) -> bool:
        return False

    def _is_the_stage_s(self, line: str) -> bool:
        if self._in_json:
            self._in_json = line != "    }"
            return False
        self._in_json = _EXECUTOR in line and _JSON_FOLLOWS in line
        rule = not line.strip("- ")
        return not (rule or line.lstrip().startswith(_EXECUTOR))
