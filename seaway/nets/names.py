"""The names of networks, and which of them can exist: checked before any work, without PyTorch."""

import re
from collections.abc import Mapping
from pathlib import Path

from seaway import extras
from seaway.errors import InvalidInput, ModelError

OWN = ("cnn", "cnn-large", "linear", "mlp")
VISION, PYTHON = "torchvision:", "python:"
ONNX = ".onnx"  # the end of a file's name
CHOICES = f"{', '.join(OWN)}, {VISION}NAME or {PYTHON}MODULE:FUNCTION"


def check_net(net: str) -> None:
    """Raises ModelError for a `--net` that is no name, or names a module that does not exist."""
    if net.startswith(PYTHON):
        check_function(net, "--net", "python:mynets:small")
    elif net not in OWN and not net.startswith(VISION):
        raise ModelError(f"{net!r} is not a network that Seaway knows: choose from {CHOICES}")


def check_function(model: str, option: str, example: str) -> None:
    """Raises ModelError unless `model` is python:MODULE:FUNCTION and the module exists; it is not imported."""
    module, _, function = model.removeprefix(PYTHON).partition(":")
    if not model.startswith(PYTHON) or not module or not function:
        raise ModelError(f"{option} {model}: write python:MODULE:FUNCTION, for example {example}")
    if not extras.is_installed(module, Path.cwd()):
        raise ModelError(
            f"{option} {model}: there is no module {module!r} in {Path.cwd()} or on the Python path; "
            "run from the folder that holds it or set PYTHONPATH"
        )


def of_python(
    *, inputs: object, batch: bool, weights: object, activation: object, exporter: object, second_opinion: bool
) -> dict[str, object]:
    """Option → value, for those that are of networks alone."""
    return {
        "--input": inputs, "--no-batch": not batch, "--weights": weights, "--activation": activation,
        "--exporter": exporter, "--second-opinion": second_opinion,
    }  # fmt: skip


def check_file(model: str, of_python: Mapping[str, object]) -> None:
    """Raises ModelError unless the ONNX file exists, InvalidInput for options of networks alone (option → value)."""
    given = [option for option, value in of_python.items() if value]
    if given:
        raise InvalidInput(f"{', '.join(given)}: only for python:MODULE:FUNCTION; an ONNX file has its own")
    if not Path(model).is_file():
        raise ModelError(f"{model}: no such file")


def of_file(model: str) -> str:
    """The name in a model repository of a file: its own, without its end and without other characters."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(model).stem)
