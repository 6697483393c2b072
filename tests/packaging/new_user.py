"""README.md's commands in their order, as a new user runs them: in a new clone, with an empty home and no cache.

    .venv/bin/python tests/packaging/new_user.py

Prints each command with its seconds and result. A server counts once it is ready, and ends with the next one; what a
reader then does is in AFTER. Needs port 8501 and 10 GB of disk. The exit status is 1 if a command failed.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import commands

SKIPPED = "make (demo|test)"  # another 8 GB, and the test suite
OPEN_PAGE = f"curl -s -H 'Accept: text/html' {commands.URL}/ | grep -i '<!doctype html>'\n"
BEFORE = {"seaway ship": commands.NET}  # the files that docs/ship.md makes
AFTER = {"seaway serve --example": f"{OPEN_PAGE}{commands.IMAGE}seaway predict image.png\n", "make try": OPEN_PAGE}
KEPT = "PIP_|SSL_|(https?|no)_proxy$"  # environment variables that say where packages are


def steps() -> Iterator[str]:
    """README's commands, with those before and after them."""
    for block in commands.blocks("README.md"):
        for command in commands.commands(block.text) if block.language == "sh" else ():
            if not re.match(SKIPPED, command):
                yield from commands.commands(_lines(BEFORE, command))
                yield command
                yield from commands.commands(_lines(AFTER, command))


def _lines(table: dict[str, str], command: str) -> str:
    return next((lines for start, lines in table.items() if command.startswith(start)), "")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="seaway-new-user-") as home:
        clone = Path(home, "seaway")
        subprocess.run(["git", "clone", "--quiet", commands.ROOT, clone], check=True)
        variables = {name: value for name, value in os.environ.items() if re.match(KEPT, name, re.IGNORECASE)}
        variables |= {"HOME": home, "PATH": f"{clone}/env/bin:{sys.base_prefix}/bin:/usr/bin:/bin"}
        folder, failure = commands.Folder(clone, variables), ""
        try:
            for command in steps():
                began = time.monotonic()
                try:
                    folder.shell(command)
                except commands.Failed as error:
                    failure = f"\n{error}"
                first_line = command.partition("\n")[0]
                print(f"{time.monotonic() - began:5.0f} s  {'failed' if failure else 'ok':6}  {first_line}", flush=True)
                if failure:
                    break
        finally:
            folder.close()
    sys.exit(failure or None)


if __name__ == "__main__":
    main()
