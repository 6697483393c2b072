"""tests/vocabulary.txt lists terms that are never right here; recordings of others and the changelog are exempt."""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TERMS = [line.split("\t") for line in (ROOT / "tests/vocabulary.txt").read_text().splitlines() if line[:1] not in "#"]
EXEMPT = (
    "tests/conformance/",
    "seaway/example/",
    "tests/golden/",
    "tests/vocabulary.txt",
    "tests/test_vocabulary.py",
    "CHANGELOG.md",
)
PAGES = (".md", ".html", ".jinja", ".js", ".css", ".yaml", ".yml", ".txt")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [file for file in listed.splitlines() if not file.startswith(EXEMPT) and (ROOT / file).is_file()]


def identifiers_and_text(source: str) -> Iterator[tuple[str, str, int]]:
    """(scope, what it says, line) of every name, string and comment of a Python file."""
    strings = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.COMMENT)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield "identifier", token.string, token.start[0]
        elif token.type in strings:
            yield "text", token.string, token.start[0]


def offences(files: list[str], terms: list[list[str]]) -> list[str]:
    patterns = [(scope, re.compile(pattern, re.IGNORECASE if scope == "text" else 0)) for scope, pattern in terms]
    found = []
    for file in files:
        said = [("filename", file, 0)]
        if file.endswith(".py"):
            said += identifiers_and_text((ROOT / file).read_text(encoding="utf-8"))
        elif file.endswith(PAGES):
            lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
            said += [("text", line, number) for number, line in enumerate(lines, 1)]
        found += [
            f"{file}:{line}: {scope} {text.strip()[:60]!r} has {pattern.pattern}"
            for scope, text, line in said
            for wanted, pattern in patterns
            if scope == wanted and pattern.search(text)
        ]
    return found


def test_no_term_of_the_list_is_used() -> None:
    assert offences(tracked(), TERMS) == []


def test_the_list_is_short_and_each_scope_is_searched(tmp_path: Path) -> None:
    assert len(TERMS) <= 60
    bad = tmp_path / "nursery.py"
    bad.write_text('nursery = "two strangers"  # mended\n')
    found = offences([str(bad)], TERMS)
    assert {line.split(": ")[1].split()[0] for line in found} == {"filename", "identifier", "text"}
