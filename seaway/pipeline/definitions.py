"""Components and pipelines are KFP's files, loaded by their paths: from a checkout, from the copy that an installed
package carries, or a pipeline of the user's own."""

import importlib.util
import inspect
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from seaway.errors import InvalidInput, NotFound

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
    return _module(home() / "components" / stage / "component.py")


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
    file = Path(wanted).resolve() if own else home() / "pipelines" / f"{wanted}{SUFFIX}"
    module = _module(file, beside=own)
    found = {name: value for name, value in vars(module).items() if isinstance(value, GraphComponent)}
    if len(found) != 1:
        said = f"holds {', '.join(sorted(found))}" if found else "holds none"
        raise InvalidInput(f"{file}: {said}: give a file with one function that has @dsl.pipeline")
    return next(iter(found.values()))


def inputs(pipeline: Any) -> dict[str, dict[str, Any]]:
    """Parameter → its type and default, as the IR has them."""
    from google.protobuf import json_format  # type: ignore[import-untyped]

    found: dict[str, dict[str, Any]] = json_format.MessageToDict(pipeline.pipeline_spec)["root"].get(
        "inputDefinitions", {}
    )
    return found.get("parameters", {})


def outputs(pipeline: Any) -> list[str]:
    """Names of what the pipeline returns, in its order."""
    returned = inspect.signature(pipeline.pipeline_func).return_annotation
    declared = pipeline.pipeline_spec.root.output_definitions
    return list(getattr(returned, "_fields", [*declared.parameters, *declared.artifacts]))


@cache
def _module(file: Path, beside: bool = False) -> ModuleType:
    """The file as a module that is no import name; `beside`: it may import what lies in its folder."""
    if not file.is_file():
        raise NotFound(f"{file}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"_seaway_{file.parent.name}_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and KFP look there for what a function was defined in
    if beside:
        sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise InvalidInput(f"{file}: importing it fails: {type(error).__name__}: {error}") from error
    return module
