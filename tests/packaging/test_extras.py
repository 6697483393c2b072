"""The extras of pyproject.toml, the table behind the install hints, and the hints."""

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
NO_EXTRA = {"onnx_tf"}  # needs packages that do not install on 3.12 and later
NAMESPACES = {
    "google.protobuf": "protobuf",
    "kfp.kubernetes": "kfp-kubernetes",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.trace": "opentelemetry-api",
    "opentelemetry.context": "opentelemetry-api",
}


def requirements(extra: str) -> list[Requirement]:
    """Those of an extra ("": the default install) that apply here, and those of the extras that it names."""
    texts = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    applicable = []
    for requirement in map(Requirement, texts):
        if requirement.name == "seaway":
            applicable += [each for other in requirement.extras for each in requirements(other)]
        elif requirement.marker is None or requirement.marker.evaluate():
            applicable.append(requirement)
    return applicable


@cache
def distributions() -> Mapping[str, list[str]]:
    """Module → the distributions that install it."""
    return metadata.packages_distributions()


def owners(module: str) -> set[str]:
    if module in NAMESPACES:
        return {NAMESPACES[module]}
    return {canonicalize_name(name) for name in distributions().get(module, ())}


@cache
def closure(extra: str) -> set[str]:
    """Everything that an extra installs."""
    pending = [requirement.name for requirement in requirements(extra)]
    closed: set[str] = set()
    while pending:
        name = canonicalize_name(pending.pop())
        if name not in closed:
            closed.add(name)
            required = map(Requirement, metadata.requires(name) or ())
            pending += [each.name for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]
    return closed


def test_the_table_has_the_extras_of_the_package() -> None:
    assert extras.EXTRAS.keys() == PROJECT["optional-dependencies"].keys() == doctor.USES.keys()
    assert set(extras.VERB_EXTRAS.values()) <= extras.EXTRAS.keys()


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_extra_has_its_modules_and_no_package_without_one(extra: str) -> None:
    everything = closure(extra) | closure("")
    assert [module for module in extras.EXTRAS[extra] if not owners(module) & everything] == []
    known = {owner for module in extras.EXTRAS[extra] for owner in owners(module)}
    assert {canonicalize_name(one.name) for one in requirements(extra)} - known == set()


def test_every_import_is_in_the_default_install_or_an_extra() -> None:
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
def test_packages_are_bound_to_the_locked_minor_version(extra: str) -> None:
    for requirement in requirements(extra):
        locked = Version(LOCKED[canonicalize_name(requirement.name)])
        assert requirement.specifier.contains(locked), requirement
        assert not requirement.specifier.contains(f"{locked.major}.{locked.minor + 1}.0"), requirement


def test_no_extra_has_onnx_tf_and_the_smallest_have_no_second_framework() -> None:
    assert [extra for extra in extras.EXTRAS if "onnx-tf" in closure(extra)] == []
    frameworks = {"torch", "tensorflow-cpu", "tensorflow"}
    assert closure("") & {*frameworks, "onnx", "kfp", "locust", "kubernetes"} == set()
    for extra, framework in {"convert": "tensorflow-cpu", "train": "torch", "load": "", "cluster": ""}.items():
        assert closure(extra) & frameworks <= {framework}


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("seaway ship", "torch", "ship"),
        ("seaway sweep", "torch", "train"),
        ("python -m seaway.train (process 1)", "torch", "train"),
        ("seaway run", "locust.runners", "all"),
        ("seaway versions", "kubernetes", "cluster"),
        ("seaway compile", "kfp.kubernetes", "pipelines"),
        ("seaway serve", "opentelemetry.sdk", "otel"),
        ("python -m seaway.convert", "onnx", "convert"),
    ],
)
def test_the_hint_names_the_extra_of_the_verb_or_stage(
    command: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    hint = extras.install_hint(command, module)
    assert re.fullmatch(
        rf'{re.escape(command)} needs [\w.]+, which is not installed: pip install "seaway\[{extra}\]"', hint
    )


@pytest.mark.parametrize("module", ["mynets.layers", "torchaudio", "", "torch.nothing"])
def test_no_hint_for_modules_in_no_extra_and_installed_ones(module: str) -> None:
    assert extras.install_hint("seaway ship", module) == ""


def test_a_missing_package_in_no_extra_keeps_its_traceback() -> None:
    with pytest.raises(ModuleNotFoundError), exit_with_message("seaway", "ship"):
        raise ModuleNotFoundError("No module named 'mynets'", name="mynets")


def test_without_tensorflow_the_server_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['tensorflow'] = None; import importlib.util as u; f = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *more: None if name == 'tensorflow' else f(name, *more)\n"
    hidden += "sys.argv = ['serve', '--model-repository', sys.argv[1], '--port', '0']\n"
    hidden += "from seaway.serve.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", hidden, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert 'pip install "seaway[tensorflow]"; or serve with ONNX Runtime: --backend onnx' in ended.stderr
    assert "Traceback" not in ended.stderr
