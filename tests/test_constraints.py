"""constraints-3.1x.txt: the locked version of everything that the extras need; `make lock` writes them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted(ROOT.glob("constraints-*.txt"))


def requirements() -> list[Requirement]:
    """Those of the default install and the extras, without Seaway's other extras."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    parsed = map(Requirement, lines)
    return [requirement for requirement in parsed if canonicalize_name(requirement.name) != PROJECT["name"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_has_the_locked_version_of_each_package(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+!-]+", line)] == [], "a line is not a version"
    versions = dict(line.split("==") for line in lines)
    assert len(versions) == len(lines)
    required = requirements()
    assert len({requirement.name for requirement in required}) > 20
    for requirement in required:
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            f"{requirement}: make lock"
        )
    locked = re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    assert set(versions.items()) <= set(locked), "make lock"


@pytest.mark.parametrize("lock", ["dev", "try", "uv"])
def test_a_lock_has_hashes_and_no_urls(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    blocks = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
