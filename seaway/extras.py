"""The modules of each of the package's extras, and the hint of a verb whose extra is not installed.

pyproject.toml has the same extras with their packages; tests/packaging compares the two.
"""

import re
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

TENSORFLOW = ("tensorflow", "absl")
CONVERT = (*TENSORFLOW, "onnx", "google.protobuf")
REPORTS = ("jinja2", "markupsafe", "matplotlib")
TORCH = ("torch", "torchvision")
KFP = ("kfp", "kfp_server_api", "google.protobuf", "urllib3", "yaml")
CLUSTER = ("kubernetes", "urllib3", "yaml")
OTEL = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", "opentelemetry.trace", "opentelemetry.context")
# Extra → those of its modules that Seaway or PyTorch's exporter imports; the smallest extra first.
EXTRAS: dict[str, tuple[str, ...]] = {
    "tensorflow": TENSORFLOW,
    "convert": CONVERT,
    "cluster": CLUSTER,
    "otel": OTEL,
    "load": ("locust", "gevent", *REPORTS, "yaml"),
    "pipelines": ("kfp", "kfp.kubernetes", *KFP[1:], "kubernetes", "docker"),
    "train": (*TORCH, *REPORTS, "optuna", "sqlalchemy", "yaml"),
    "ship": (*TORCH, *CONVERT, *REPORTS, *KFP, "onnxscript"),
}
EXTRAS["all"] = tuple(dict.fromkeys(module for extra in reversed(EXTRAS) for module in EXTRAS[extra]))
# Verb or stage → its extra, preferred to the smallest extra that has the module.
VERB_EXTRAS = {
    "run": "all", "sweep": "train", "train": "train", "explore": "train", "export": "ship", "validate": "ship",
    "ship": "ship", "convert": "convert", "diff": "convert", "load": "load", "verify": "load",
    "submit": "pipelines", "compile": "pipelines", "tune-serving": "tensorflow",
}  # fmt: skip


def install_hint(command: str, module: str) -> str:
    """The line for a missing module; "" if it is installed, or in no extra.

    `command`: the verb or stage that needs it, e.g. "seaway ship".
    """
    owner = module
    while owner and owner not in EXTRAS["all"]:
        owner = owner.rpartition(".")[0]
    if not owner or is_installed(owner):
        return ""
    preferred = VERB_EXTRAS.get(re.split(r"[ .]", command.partition(" (")[0])[-1], "")
    extra = preferred if owner in EXTRAS.get(preferred, ()) else next(name for name in EXTRAS if owner in EXTRAS[name])
    return f'{command} needs {owner}, which is not installed: pip install "seaway[{extra}]"'


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not installed. Imports none of them."""
    return [module for module in EXTRAS[extra] if not is_installed(module)]


def require(*modules: str) -> None:
    """Raises ModuleNotFoundError for the first that is not installed, before work begins that would fail without it."""
    for module in modules:
        if not is_installed(module):
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def is_installed(module: str, folder: Path | None = None) -> bool:
    """Whether the module is there, or in `folder`. Imports nothing; `find_spec` would import a submodule's package."""
    package, *names = module.split(".")
    spec = PathFinder.find_spec(package, [str(folder), *sys.path]) if folder else find_spec(package)
    for name in names:
        if spec is None or spec.submodule_search_locations is None:
            return False
        # By its last name alone: by the whole one, packages without __init__.py would have to be imported.
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None
