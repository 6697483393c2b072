"""Which extra of the package brings what, and the one line that a verb says whose extra is not installed.

pyproject.toml has the same extras with their packages; tests/packaging compares the two.
"""

import re
from importlib.util import find_spec

TENSORFLOW = ("tensorflow", "absl")
CONVERT = (*TENSORFLOW, "onnx", "google.protobuf")
REPORTS = ("jinja2", "markupsafe", "matplotlib")
TORCH = ("torch", "torchvision")
KFP = ("kfp", "kfp_server_api", "google.protobuf", "urllib3", "yaml")
CLUSTER = ("kubernetes", "urllib3", "yaml")
# Extra → the modules that come with it, of those that Seaway or PyTorch's exporter imports; the least extra first.
EXTRAS: dict[str, tuple[str, ...]] = {
    "tensorflow": TENSORFLOW,
    "convert": CONVERT,
    "cluster": CLUSTER,
    "load": ("locust", "gevent", *REPORTS, "HersheyFonts", "yaml"),
    "pipelines": ("kfp", "kfp.kubernetes", *KFP[1:], "kubernetes", "docker"),
    "train": (*TORCH, *REPORTS, "optuna", "sqlalchemy", "HersheyFonts", "yaml"),
    "ship": (*TORCH, *CONVERT, *REPORTS, *KFP, "onnxscript"),
}
EXTRAS["all"] = tuple(dict.fromkeys(module for extra in reversed(EXTRAS) for module in EXTRAS[extra]))
# Verb, or stage → its extra; in place of the least extra that has the module.
OWN = {
    "run": "all", "sweep": "train", "train": "train", "explore": "train", "export": "ship", "validate": "ship",
    "ship": "ship", "convert": "convert", "load": "load", "verify": "load", "evaluate": "load", "submit": "pipelines",
    "compile": "pipelines",
}  # fmt: skip


def advice(who: str, module: str) -> str:
    """The line for a module that is missing; "" for one that is there, or that no extra brings.

    `who`: the verb or stage that wants it, e.g. "seaway ship".
    """
    owner = module
    while owner and owner not in EXTRAS["all"]:
        owner = owner.rpartition(".")[0]
    if not owner or _there(owner):
        return ""
    own = OWN.get(re.split(r"[ .]", who.partition(" (")[0])[-1], "")
    extra = own if owner in EXTRAS.get(own, ()) else next(name for name in EXTRAS if owner in EXTRAS[name])
    return f'{who} needs {owner}, which is not installed: pip install "seaway[{extra}]"'


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not there. Imports none of them, but the packages of submodules."""
    return [module for module in EXTRAS[extra] if not _there(module)]


def require(*modules: str) -> None:
    """Raises ModuleNotFoundError for the first that is not there: before work begins that would end for want of it."""
    for module in modules:
        if not _there(module):
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package of a submodule
        return False
