"""The workflows call make targets that exist, with pinned actions; the documentation site has every page."""

import re
from pathlib import Path

import pytest
import yaml

from seaway.pipeline import images

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text()))


def steps(workflow: Path) -> list[dict[str, str]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_call_make_targets_and_pinned_actions(workflow: Path) -> None:
    called = [target for step in steps(workflow) for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))]
    assert called
    assert set(called) <= TARGETS
    actions = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [action for action in actions if not re.fullmatch(r"actions/[a-z-]+@v\d+\.\d+\.\d+", action)] == []


def test_every_image_is_built() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["images"]["strategy"]["matrix"]["stage"] == list(images.STAGES)


def test_issue_forms_are_forms() -> None:
    for form in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")):
        content = yaml.safe_load(form.read_text())
        assert form.stem == "config" or {"name", "description", "body"} <= content.keys()


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    pages = re.findall(r"(?m)^ +- [^:\n]+: ([a-z-]+\.md)$", text)
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
