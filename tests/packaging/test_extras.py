"""The extras of pyproject.toml, the table that messages are made of, and the messages."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from seaway import extras
from seaway.cli import doctor
from seaway.errors import exit_with_message

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
NO_EXTRA = {"onnx_tf"}  # needs packages that are dead on 3.12 and later
NAMESPACES = {"google.protobuf": "protobuf", "kfp.kubernetes": "kfp-kubernetes"}


def requirements(extra: str) -> list[Requirement]:
    """Those that hold here, with those of the extras that it names; "": the default install's."""
    texts = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found = []
    for one in map(Requirement, texts):
        if one.name == "seaway":
            found += [each for other in one.extras for each in requirements(other)]
        elif one.marker is None or one.marker.evaluate():
            found.append(one)
    return found


@cache
def distributions() -> Mapping[str, list[str]]:
    """Module → what installs it."""
    return metadata.packages_distributions()


def owners(module: str) -> set[str]:
    if module in NAMESPACES:
        return {NAMESPACES[module]}
    return {canonicalize_name(name) for name in distributions().get(module, ())}


@cache
def closure(extra: str) -> set[str]:
    """All that is installed with an extra."""
    waiting = [one.name for one in requirements(extra)]
    found: set[str] = set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            wanted = map(Requirement, metadata.requires(name) or ())
            waiting += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def test_the_table_has_the_extras_of_the_package() -> None:
    assert extras.EXTRAS.keys() == PROJECT["optional-dependencies"].keys() == doctor.ADDS.keys()
    assert set(extras.OWN.values()) <= extras.EXTRAS.keys()


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_extra_brings_its_modules_and_no_package_that_no_module_stands_for(extra: str) -> None:
    everything = closure(extra) | closure("")
    assert [module for module in extras.EXTRAS[extra] if not owners(module) & everything] == []
    known = {owner for module in extras.EXTRAS[extra] for owner in owners(module)}
    assert {canonicalize_name(one.name) for one in requirements(extra)} - known == set()


def test_what_is_imported_comes_with_the_default_install_or_an_extra() -> None:
    imported = set()
    for file in (ROOT / "seaway").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported |= {next((m for m in NAMESPACES if name.startswith(m)), name.split(".")[0]) for name in names}
    imported -= {*sys.stdlib_module_names, "seaway", *NO_EXTRA}
    default = {module for module in imported if owners(module) & {canonicalize_name(r.name) for r in requirements("")}}
    assert {"numpy", "onnxruntime", "typer"} <= default
    assert imported - default - set(extras.EXTRAS["all"]) == set()


@pytest.mark.parametrize("extra", ["", *extras.EXTRAS])
def test_packages_are_bound_to_the_minor_version_that_the_tests_ran_with(extra: str) -> None:
    for one in requirements(extra):
        locked = Version(LOCKED[canonicalize_name(one.name)])
        assert one.specifier.contains(locked), one
        assert not one.specifier.contains(f"{locked.major}.{locked.minor + 1}.0"), one


def test_no_extra_has_onnx_tf_and_the_least_ones_no_other_framework() -> None:
    assert [extra for extra in extras.EXTRAS if "onnx-tf" in closure(extra)] == []
    frameworks = {"torch", "tensorflow-cpu", "tensorflow"}
    assert closure("") & {*frameworks, "onnx", "kfp", "locust", "kubernetes"} == set()
    for extra, its_own in {"convert": "tensorflow-cpu", "train": "torch", "load": "", "cluster": ""}.items():
        assert closure(extra) & frameworks <= {its_own}


@pytest.mark.parametrize(
    ("who", "module", "extra"),
    [
        ("seaway ship", "torch", "ship"),
        ("seaway sweep", "torch", "train"),
        ("python -m seaway.train (process 1)", "torch", "train"),
        ("seaway run", "locust.runners", "all"),
        ("seaway versions", "kubernetes", "cluster"),
        ("seaway compile", "kfp.kubernetes", "pipelines"),
        ("python -m seaway.convert", "onnx", "convert"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_of_who_wants_it(
    who: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    said = extras.advice(who, module)
    assert re.fullmatch(
        rf'{re.escape(who)} needs [\w.]+, which is not installed: pip install "seaway\[{extra}\]"', said
    )


@pytest.mark.parametrize("module", ["mynets.layers", "torchaudio", "", "torch.nothing"])
def test_no_extra_is_advised_for_what_none_brings_and_for_what_is_there(module: str) -> None:
    assert extras.advice("seaway ship", module) == ""


def test_an_error_of_others_keeps_its_trace() -> None:
    with pytest.raises(ModuleNotFoundError), exit_with_message("seaway", "ship"):
        raise ModuleNotFoundError("No module named 'mynets'", name="mynets")


def test_without_tensorflow_the_server_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['tensorflow'] = None; import importlib.util as u; f = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *more: None if name == 'tensorflow' else f(name, *more)\n"
    hidden += "sys.argv = ['serve', '--volume', sys.argv[1], '--port', '0']\n"
    hidden += "from seaway.serve.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", hidden, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert 'pip install "seaway[tensorflow]"; or serve with ONNX Runtime: --backend onnx' in ended.stderr
    assert "Traceback" not in ended.stderr
