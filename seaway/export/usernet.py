"""Builds a user's network with the named function, and loads its weights without running code from the file."""

import pickle
import warnings
from pathlib import Path

import torch
from torch import nn

from seaway.errors import ModelError
from seaway.nets.user import find, user_code

MAX_LISTED = 3  # names of each kind in one message


def load(model: str, weights: Path | None) -> nn.Module:
    """The net that `python:module:function` builds, in eval mode on the CPU, with the file's weights if one is given.

    The current directory is on the path. Raises ModelError.
    """
    function = find(model, "--model")
    torch.manual_seed(0)  # without a weights file, the same command still produces the same bytes
    with user_code(f"--model {model}: the function fails when called without arguments"):
        net = _plain(function())
    problem = _why_not(net)
    if problem or not isinstance(net, nn.Module):
        raise ModelError(f"--model {model}: returned {problem}")
    if weights is not None:
        fill(net, weights, "--weights")
    return net.cpu().eval()


def _plain(net: object) -> object:
    """The network that torch.compile, DataParallel or DistributedDataParallel wraps."""
    parallel = isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel)
    inner = getattr(net, "module" if parallel else "_orig_mod", None)
    return _plain(inner) if isinstance(inner, nn.Module) else net


def _why_not(net: object) -> str:
    """What it is, and what to do, if neither of PyTorch's exporters can read it; else ""."""
    if isinstance(net, torch.jit.ScriptModule):
        return "a TorchScript module: name a function that returns the network before torch.jit.trace or .script"
    if isinstance(net, torch.export.ExportedProgram) or _is_exported(net):
        return "an exported program: name a function that returns the network before torch.export.export"
    if not isinstance(net, nn.Module):
        return f"{type(net).__name__}, not a torch.nn.Module; name a function that builds it"
    quantized = (layer for layer in net.modules() if type(layer).__module__.startswith("torch.ao.nn.quantized"))
    if layer := next(quantized, None):
        return f"a network with a quantized {type(layer).__name__}: name a function that returns the float network"
    return ""


def _is_exported(net: object) -> bool:
    """Whether torch.export made the module; such a module refuses to change its mode."""
    try:
        if isinstance(net, torch.fx.GraphModule):
            net.eval()
    except NotImplementedError:
        return True
    return False


def fill(net: nn.Module, weights: Path, option: str) -> None:
    """Loads a state_dict file into the net; `option` is named in errors. Raises ModelError."""
    state = _read(weights, option)
    expected = net.state_dict()
    differences = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [str(key) for key in state if key not in expected],
        "of another shape": [
            f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(differences.values()):
        listed = "; ".join(f"{len(names)} {kind}: {_brief(names)}" for kind, names in differences.items() if names)
        hint = "give the weights of this model"
        if all(str(key).startswith("module.") for key in state):
            hint = "they were saved from DataParallel: save model.module.state_dict() instead"
        raise ModelError(f"{option} {weights}: they do not fit the model: {listed}; {hint}")
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # sparse or quantized tensors
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{option} {weights}: they do not fit the model: {reason}; save plain dense tensors") from None


def _read(weights: Path, option: str) -> dict[str, torch.Tensor]:
    remedy = "save it with torch.save(model.state_dict(), FILE)"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # the error below says more
            warnings.filterwarnings("ignore", message="Validating sparse tensor")
            # weights_only: a pickle can run any code, but a state_dict needs none
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{option} {weights}: no such file") from None
    except pickle.UnpicklingError:
        raise ModelError(
            f"{option} {weights}: not a plain state_dict, or it has Python objects, which could run code and are "
            f"never loaded; {remedy}"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(f"{option} {weights}: cannot be read ({_first_line(error)}); {remedy}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        content = _brief([str(key) for key in state]) if isinstance(state, dict) else type(state).__name__
        raise ModelError(f"{option} {weights}: not a state_dict (it contains {content}); {remedy}")
    return state


def _brief(names: list[str]) -> str:
    rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + rest


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
