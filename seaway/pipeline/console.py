"""The console output of a local run: which stage runs, its own output, how long it took. The rest goes to a log.

kfp.local prints every task's whole input as JSON, and its executor logs to the same stream as the stage.
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
    """While the block runs, shows stages and their own output on stdout, and writes everything to `log`."""
    # Close both here: since Python 3.13, a stream collected after its log file was closed warns about it.
    with log.open("w", encoding="utf-8") as log_file, _Stages(sys.stdout, log_file) as stages:
        root = logging.getLogger()
        root.addFilter(stages.filter_record)
        level = root.level
        root.setLevel(logging.INFO)  # kfp reports cached tasks at this level
        try:
            with redirect_stdout(stages):
                yield
        finally:
            root.removeFilter(stages.filter_record)
            root.setLevel(level)


class _Stages(io.TextIOBase):
    """A stdout that writes kfp's own lines only to the log."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._console, self._log = Console(file=terminal, highlight=False, soft_wrap=True), log
        self._line, self._in_json, self._started = "", False, 0.0

    def filter_record(self, record: logging.LogRecord) -> bool:
        """A logging filter that replaces kfp's messages about tasks, and passes only warnings."""
        message = _COLOUR.sub("", record.getMessage())
        self._log.write(f"{message}\n")
        if match := _TASK.match(message):
            self._print_task(match[3] or match[1], "failed" if "FAILURE" in message else match[2])
        return record.levelno >= logging.WARNING and not match

    def _print_task(self, task: str, event: str | None) -> None:
        if event == "cache hit":
            self._console.print(f"[bold cyan]{task}[/bold cyan]  [dim]cached from an earlier run[/dim]")
        elif event == "failed":
            self._console.print(f"[bold red]{task} failed[/bold red]")
        elif event == "finished":
            self._console.print(f"[dim]  {time.monotonic() - self._started:.1f} s[/dim]")
        else:
            self._started = time.monotonic()
            self._console.print(f"[bold cyan]{task}[/bold cyan]")

    def write(self, text: str) -> int:
        self._log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if self._is_stage_output(line):
                self._console.print(f"  {line.removeprefix('    ')}", markup=False)
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def isatty(self) -> bool:
        return False

    def _is_stage_output(self, line: str) -> bool:
        if self._in_json:
            self._in_json = line != "    }"
            return False
        self._in_json = _EXECUTOR in line and _JSON_FOLLOWS in line
        separator = not line.strip("- ")
        return not (separator or line.lstrip().startswith(_EXECUTOR))
