"""constraints-3.1x.txt: a version of all that the extras need, as locked for development; `make lock` writes them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted(ROOT.glob("constraints-*.txt"))


def asked() -> list[Requirement]:
    """What the default install and the extras name, but other extras of ours."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return [wanted for wanted in map(Requirement, lines) if canonicalize_name(wanted.name) != PROJECT["name"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_has_one_version_of_each_as_locked(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+!-]+", line)] == [], "versions, and no more"
    versions = dict(line.split("==") for line in lines)
    assert len(versions) == len(lines)
    named = asked()
    assert len({wanted.name for wanted in named}) > 20
    for wanted in named:
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), f"{wanted}: make lock"
    locked = re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    assert set(versions.items()) <= set(locked), "make lock"


@pytest.mark.parametrize("lock", ["dev", "try", "uv"])
def test_a_lock_has_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    blocks = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
