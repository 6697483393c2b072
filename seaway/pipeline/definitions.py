"""Loads KFP components and pipelines from files: of a checkout, packaged with an installed Seaway, or a user's own."""

import hashlib
import importlib.util
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from seaway.errors import InvalidInput, NotFound, SeawayError
from seaway.kfp_import import import_kfp

PACKAGE = Path(__file__).resolve().parents[1]
SUFFIX = ".py"


def definitions_folder() -> Path:
    """Returns the folder of components/ and pipelines/: the checkout's root, or `_kfp/` of an installed package."""
    packaged = PACKAGE / "_kfp"
    return packaged if packaged.is_dir() else PACKAGE.parent


def component(stage: str, name: str = "") -> Any:
    """Returns the KFP component in components/<stage>/component.py. `name`: default the stage's. Raises NotFound."""
    module = component_module(stage)
    try:
        return getattr(module, name or stage)
    except AttributeError:
        raise NotFound(f"{module.__file__} has no component {name or stage!r}") from None


def component_module(stage: str) -> ModuleType:
    """Loads components/<stage>/component.py. Raises NotFound."""
    file = definitions_folder() / "components" / stage / "component.py"
    if not file.is_file():
        stages = sorted(path.parent.name for path in (definitions_folder() / "components").glob("*/component.py"))
        raise NotFound(f"no component {stage!r}; choose from {', '.join(stages)}")
    return _load_module(file)


def pipeline_names() -> list[str]:
    """Returns the names of the pipelines that come with Seaway."""
    return sorted(path.stem for path in (definitions_folder() / "pipelines").glob(f"*{SUFFIX}"))


def pipeline(name_or_file: str) -> Any:
    """Returns the KFP pipeline of that name or in that file: `characters`, or `mine/pipeline.py`.

    A file holds one function with `@dsl.pipeline`; its imports are beside it or installed. Raises NotFound for an
    unknown name or a missing file, InvalidInput for a file that cannot be imported or does not hold one pipeline.
    """
    import_kfp()
    from kfp.dsl.graph_component import GraphComponent

    if name_or_file.endswith(SUFFIX):
        file = Path(name_or_file).expanduser().resolve()
        module = _load_user_file(file)
    elif name_or_file in pipeline_names():
        file = definitions_folder() / "pipelines" / f"{name_or_file}{SUFFIX}"
        module = _load_module(file)
    else:
        available = ", ".join(pipeline_names())
        raise NotFound(f"--pipeline {name_or_file}: choose from {available}, or give a file, e.g. mine/pipeline.py")
    pipelines = {id(value): value for value in vars(module).values() if isinstance(value, GraphComponent)}.values()
    # The file's own pipeline takes precedence over imported ones, which it may use within its own.
    candidates = [one for one in pipelines if one.pipeline_func.__module__ == module.__name__] or list(pipelines)
    if len(candidates) != 1:
        listed = " and ".join(sorted(one.pipeline_func.__name__ for one in candidates))
        raise InvalidInput(f"{file} holds {listed or 'no pipeline'}: give a file with one @dsl.pipeline function")
    return candidates[0]


def inputs(pipeline: Any) -> dict[str, dict[str, Any]]:
    """Returns parameter → its type and default as in the IR, but with integers, which the IR stores as floats."""
    from google.protobuf import json_format

    root = json_format.MessageToDict(pipeline.pipeline_spec)["root"]
    parameters: dict[str, dict[str, Any]] = root.get("inputDefinitions", {}).get("parameters", {})
    for parameter in parameters.values():
        if parameter["parameterType"] == "NUMBER_INTEGER" and "defaultValue" in parameter:
            parameter["defaultValue"] = int(parameter["defaultValue"])
    return parameters


def _load_user_file(file: Path) -> ModuleType:
    """Loads a user's file, which may import modules from its folder, as a script may. Errors name the failing line."""
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    try:
        return _load_module(file)
    except SeawayError:
        raise
    except Exception as error:
        raise InvalidInput(
            f"{_failing_line(file, error)}: the import fails: {type(error).__name__}: {error}"
        ) from error


def _failing_line(file: Path, error: Exception) -> str:
    """Returns e.g. `mine.py:12`: the last line reached in the file or in modules beside it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == file.parent
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(file)


@cache
def _load_module(file: Path) -> ModuleType:
    """Loads the file as a module under a name of its own, so that files of the same name in other folders differ."""
    if not file.is_file():
        raise NotFound(f"{file}: no such file")
    import_kfp()
    path = hashlib.sha256(str(file).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"_seaway_{path}_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and KFP look up a function's module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
