"""Whether a module is installed, found without importing it."""

import sys
from pathlib import Path

import pytest

from seaway import extras


@pytest.mark.parametrize("packages", [True, False], ids=["with __init__.py", "without"])
@pytest.mark.parametrize("module", ["shopfloor", "shopfloor.nets", "shopfloor.nets.small", "shopfloor.nets.small.cnn"])
def test_modules_of_packages(tmp_path: Path, module: str, packages: bool) -> None:
    """A project's folders are often packages without __init__.py, at any depth."""
    inner = tmp_path / "shopfloor" / "nets" / "small"
    inner.mkdir(parents=True)
    (inner / "cnn.py").write_text("raise AssertionError('imported')")
    if packages:
        for folder in (inner, inner.parent, inner.parent.parent):
            (folder / "__init__.py").write_text("raise AssertionError('imported')")
    assert extras.is_installed(module, tmp_path)
    assert not extras.is_installed(f"{module}.other", tmp_path)
    assert not extras.is_installed(module)
    assert not [name for name in sys.modules if name.startswith("shopfloor")]
