"""docs/code-map.md lists every file of the product once and no other; links are not broken."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("seaway", "loadtest", "pipelines", "benchmarks", "examples")
IN_EVERY_STAGE = ("__main__.py", "__init__.py")


def test_the_code_map_is_complete() -> None:
    listed, folder = [], ""
    for line in (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## (\S+)/", line):
            folder = heading[1]
        elif file := re.match(r"(\S+\.py) +\S", line):
            listed.append(f"{folder}/{file[1]}")
    tracked = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [f for f in tracked.split() if f.endswith(".py") and Path(f).name not in IN_EVERY_STAGE]
    assert sorted(listed) == sorted(files)


def test_no_link_is_broken() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))]
    local = [(page, link) for page, link in links if not link.startswith("http")]
    assert local
    assert [f"{page.name}: {link}" for page, link in local if not (page.parent / link).exists()] == []
