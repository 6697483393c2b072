"""Imports KFP without its API client; every module that uses KFP's compiler or local runner imports it here first."""

import importlib
import os
import sys
from typing import Any


def import_kfp() -> Any:
    """Loads `kfp` and `kfp.dsl`. `kfp.client`, which loads the Kubernetes client for seconds and which Seaway does not
    use, is loaded only when someone asks for `kfp.Client`."""
    if "kfp" in sys.modules:
        return sys.modules["kfp"]
    before = os.environ.get("_KFP_RUNTIME")
    os.environ["_KFP_RUNTIME"] = "true"  # as in a task's process, where kfp/__init__.py imports nothing (kfp 2.17)
    try:
        kfp: Any = importlib.import_module("kfp")
    finally:
        os.environ.pop("_KFP_RUNTIME")
        if before is not None:
            os.environ["_KFP_RUNTIME"] = before
    kfp.__getattr__ = _load_on_demand
    for module in ("kfp.dsl", "kfp.components"):
        importlib.import_module(module)
    return kfp


def _load_on_demand(name: str) -> Any:
    if name == "Client":
        return importlib.import_module("kfp.client").Client
    raise AttributeError(f"module 'kfp' has no attribute {name!r}")
