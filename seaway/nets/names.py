"""The names of networks, and which of them can exist: checked before any work, without PyTorch."""

from pathlib import Path

from seaway import extras
from seaway.errors import ModelError

OWN = ("cnn", "cnn-large", "linear", "mlp")
VISION, PYTHON = "torchvision:", "python:"
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
