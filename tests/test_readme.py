"""README's tree names every file of the product, once, and nothing that is not there; links lead somewhere."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("seaway", "components", "loadtest", "pipelines", "sweep", "cli", "benchmarks")
IN_EVERY_STAGE = ("__main__.py", "component.py", "__init__.py")


def test_the_tree_is_true() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree")[1]
    named, folders = [], [""] * 8
    for line in tree.splitlines():
        found = re.match(r"( *)([\w./-]+)(/?)(  |$)", line)
        if not found:
            continue
        depth = len(found[1]) // 2
        folders[depth] = found[2].rstrip("/")
        if found[2].endswith(".py"):
            named.append("/".join([*folders[:depth], found[2]]))
    tracked = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    there = [f for f in tracked.split() if f.endswith(".py") and Path(f).name not in IN_EVERY_STAGE]
    assert sorted(named) == sorted(there)


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))]
    local = [(page, link) for page, link in links if not link.startswith("http")]
    assert local
    assert [f"{page.name}: {link}" for page, link in local if not (page.parent / link).exists()] == []
