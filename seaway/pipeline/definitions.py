"""Components and pipelines are KFP's files, loaded by their paths: from a checkout, from the copy that an installed
package carries, or a pipeline of the user's own."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from seaway.errors import InvalidInput, NotFound, SeawayError

PACKAGE = Path(__file__).resolve().parents[1]
SUFFIX = ".py"


def home() -> Path:
    """The folder of components/ and pipelines/: the checkout's root, or `_kfp/` of an installed package."""
    carried = PACKAGE / "_kfp"
    return carried if carried.is_dir() else PACKAGE.parent


def component(stage: str, name: str = "") -> Any:
    """The KFP component of components/<stage>/component.py; `name` where it is not the stage's. Raises NotFound."""
    module = component_module(stage)
    try:
        return getattr(module, name or stage)
    except AttributeError:
        raise NotFound(f"{module.__file__}: has no component {name or stage!r}") from None


def component_module(stage: str) -> ModuleType:
    """components/<stage>/component.py. Raises NotFound."""
    file = home() / "components" / stage / "component.py"
    if not file.is_file():
        there = sorted(path.parent.name for path in (home() / "components").glob("*/component.py"))
        raise NotFound(f"no component {stage!r}: there are {', '.join(there)}")
    return _module(file)


def names() -> list[str]:
    """Of the pipelines that come with Seaway."""
    return sorted(path.stem for path in (home() / "pipelines").glob(f"*{SUFFIX}"))


def pipeline(wanted: str) -> Any:
    """The KFP pipeline of that name, or of the file of that path: `characters`, or `mine/pipeline.py`.

    A file holds one function with `@dsl.pipeline`; what it imports lies beside it or is installed. Raises NotFound for
    what is not there, InvalidInput for a file that cannot be imported or holds none or several.
    """
    from kfp.dsl.graph_component import GraphComponent

    if not wanted.endswith(SUFFIX) and wanted not in names():
        raise NotFound(f"no pipeline {wanted!r}: there are {', '.join(names())}; or give a file, as mine/pipeline.py")
    own = wanted.endswith(SUFFIX)
    file = Path(wanted).expanduser().resolve() if own else home() / "pipelines" / f"{wanted}{SUFFIX}"
    module = _own(file) if own else _module(file)
    held = {id(value): value for value in vars(module).values() if isinstance(value, GraphComponent)}.values()
    # One that the file has from elsewhere, to use within its own, is not meant where it has its own.
    found = [one for one in held if one.pipeline_func.__module__ == module.__name__] or list(held)
    if len(found) != 1:
        said = " and ".join(sorted(one.pipeline_func.__name__ for one in found))
        raise InvalidInput(f"{file}: holds {said or 'none'}: give a file with one function that has @dsl.pipeline")
    return found[0]


def inputs(pipeline: Any) -> dict[str, dict[str, Any]]:
    """Parameter → its type and default, as the IR has them, but for whole numbers, which are no floats here."""
    from google.protobuf import json_format  # type: ignore[import-untyped]

    root = json_format.MessageToDict(pipeline.pipeline_spec)["root"]
    found: dict[str, dict[str, Any]] = root.get("inputDefinitions", {}).get("parameters", {})
    for one in found.values():
        if one["parameterType"] == "NUMBER_INTEGER" and "defaultValue" in one:
            one["defaultValue"] = int(one["defaultValue"])
    return found


def _own(file: Path) -> ModuleType:
    """A user's file, which may import what lies in its folder, as a program may. Says where in it something fails."""
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    try:
        return _module(file)
    except SeawayError:
        raise
    except Exception as error:
        raise InvalidInput(f"{_where(file, error)}: importing it fails: {type(error).__name__}: {error}") from error


def _where(file: Path, error: Exception) -> str:
    """`mine.py:12`: the last line that was reached in the file or in what lies beside it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    reached = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == file.parent
    ]
    return f"{reached[-1].filename}:{reached[-1].lineno}" if reached else str(file)


def outputs(pipeline: Any) -> list[str]:
    """Names of what the pipeline returns, in its order."""
    returned = inspect.signature(pipeline.pipeline_func).return_annotation
    declared = pipeline.pipeline_spec.root.output_definitions
    return list(getattr(returned, "_fields", [*declared.parameters, *declared.artifacts]))


@cache
def _module(file: Path) -> ModuleType:
    """The file as a module that is no import name, and is another than any of the same name in another folder."""
    if not file.is_file():
        raise NotFound(f"{file}: there is no such file")
    path = hashlib.sha256(str(file).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"_seaway_{path}_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and KFP look there for what a function was defined in
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
