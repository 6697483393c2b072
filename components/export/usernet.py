"""A user's own network: found by name, built by its function, its weights loaded without running any code in them."""

import importlib
import inspect
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seaway.errors import ModelError

PREFIX = "python:"
MENTIONED = 3  # names listed of each sort in one message


def load(model: str, weights: Path | None) -> nn.Module:
    """The net that `python:module:function` builds, in eval mode on the CPU, with the file's weights if one is given.

    The current directory is on the path. Raises ModelError.
    """
    function = _find(model)
    torch.manual_seed(0)  # without a weights file, the same command still gives the same bytes
    with user_code(f"--model {model}: the function fails when called without arguments"):
        net = function()
    if not isinstance(net, nn.Module):
        raise ModelError(
            f"--model {model}: returned {type(net).__name__}, not a torch.nn.Module; name a function that builds it"
        )
    if weights is not None:
        fill(net, weights, "--weights")
    return net.cpu().eval()


def fill(net: nn.Module, weights: Path, option: str) -> None:
    """Loads a state_dict file into the net; `option` is named in errors. Raises ModelError."""
    state = _read(weights, option)
    have = net.state_dict()
    differences = {
        "missing": [key for key in have if key not in state],
        "unexpected": [str(key) for key in state if key not in have],
        "of another shape": [
            f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
            for key, value in have.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(differences.values()):
        found = "; ".join(f"{len(names)} {what}: {_brief(names)}" for what, names in differences.items() if names)
        hint = "give the weights of this very net"
        if all(str(key).startswith("module.") for key in state):
            hint = "they were saved from DataParallel: save net.module.state_dict() instead"
        raise ModelError(f"{option} {weights}: they do not fit the net: {found}; {hint}")
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # sparse or quantised tensors
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{option} {weights}: they do not fit the net: {reason}; save plain dense tensors") from None


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Whatever the user's code raises becomes a ModelError that says where in their code."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ModelError(f"{what}: {summary(error)}") from error


def summary(error: BaseException) -> str:
    """An error in one line, with the innermost source line that is not PyTorch's or Python's own."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {first.strip()}{where}"


def is_library(filename: str) -> bool:
    """Whether a source file is PyTorch's, Python's or this stage's own, so not the place where a user should look."""
    path = Path(filename)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    ours = path.is_relative_to(Path(__file__).parent) or path.is_relative_to(Path(torch.__file__).parent)
    standard = path.is_relative_to(Path(inspect.__file__).parent) and not installed
    return ours or standard or filename.startswith("<")


def _find(model: str) -> Callable[[], Any]:
    module_name, _, function_name = model.removeprefix(PREFIX).partition(":")
    if not model.startswith(PREFIX) or not module_name or not function_name:
        raise ModelError(
            f"--model {model}: write python:MODULE:FUNCTION, for example python:torchvision.models:resnet18"
        )
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ModelError(
                f"--model {model}: importing it fails: {summary(error)}; install what it imports"
            ) from error
        raise ModelError(
            f"--model {model}: there is no module {error.name!r} in {Path.cwd()} or on the Python path; "
            "run from the folder that holds it or set PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # a script that reads the command line ends the program
        raise ModelError(f"--model {model}: importing it fails: {summary(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        what = "has no" if function is None else "has something not callable named"
        raise ModelError(f"--model {model}: {module_name} ({module.__file__}) {what} {function_name!r}")
    return function  # type: ignore[no-any-return]


def _read(weights: Path, option: str) -> dict[str, torch.Tensor]:
    remedy = "save it with torch.save(net.state_dict(), ...)"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # the error below says more
            warnings.filterwarnings("ignore", message="Validating sparse tensor")
            # weights_only: a pickle can run any code, a state_dict needs none
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{option} {weights}: there is no such file") from None
    except pickle.UnpicklingError:
        raise ModelError(
            f"{option} {weights}: not a plain state_dict, or it holds Python objects, which could run any code and are "
            f"not loaded; {remedy}"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(f"{option} {weights}: cannot be read ({_first_line(error)}); {remedy}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        holds = _brief([str(key) for key in state]) if isinstance(state, dict) else type(state).__name__
        raise ModelError(f"{option} {weights}: not a state_dict (it holds {holds}); {remedy}")
    return state


def _brief(names: list[str]) -> str:
    rest = f" and {len(names) - MENTIONED} more" if len(names) > MENTIONED else ""
    return ", ".join(names[:MENTIONED]) + rest


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
