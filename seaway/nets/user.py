"""A user's own code: finds a function by its name, and turns whatever it raises into a one-line message."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from seaway.errors import ModelError
from seaway.nets.names import PYTHON

EXAMPLE = "python:torchvision.models:resnet18"


def find(model: str, option: str, example: str = EXAMPLE) -> Callable[..., Any]:
    """The function that `python:module:function` names; also looks in the current directory. Raises ModelError."""
    module_name, _, function_name = model.removeprefix(PYTHON).partition(":")
    if not model.startswith(PYTHON) or not module_name or not function_name:
        raise ModelError(f"{option} {model}: write python:MODULE:FUNCTION, for example {example}")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ModelError(
                f"{option} {model}: importing it fails: {summary(error)}; install what it imports"
            ) from error
        raise ModelError(
            f"{option} {model}: there is no module {error.name!r} in {Path.cwd()} or on the Python path; "
            "run from the folder that holds it or set PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # a script that parses the command line may exit
        raise ModelError(f"{option} {model}: importing it fails: {summary(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        problem = "does not exist" if function is None else "is not callable"
        raise ModelError(f"{option} {model}: {function_name!r} {problem} in {module_name} ({module.__file__})")
    return function  # type: ignore[no-any-return]


@contextmanager
def user_code(message: str) -> Iterator[None]:
    """Turns whatever the user's code raises into a ModelError that names the line of their code."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ModelError(f"{message}: {summary(error)}") from error


def summary(error: BaseException) -> str:
    """An error in one line, with the innermost source line outside PyTorch, Python and Seaway."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {first.strip()}{where}"


def is_library(filename: str) -> bool:
    """Whether a source file belongs to PyTorch, Python or Seaway, and so not to the user."""
    path = Path(filename)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    ours = any(path.is_relative_to(folder) for folder in (_OURS, Path(torch.__file__).parent))
    standard = path.is_relative_to(Path(inspect.__file__).parent) and not installed
    return ours or standard or filename.startswith("<")


_OURS = Path(__file__).parents[1]
