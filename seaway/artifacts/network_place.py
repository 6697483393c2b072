"""Where a node of an ONNX graph comes from in the user's network, as far as the file says."""

import ast
import re
from collections.abc import Collection
from typing import Any

SCOPES, TRACE = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"  # notes of PyTorch's torch.export exporter
WRAPPER = "net"  # the user's network in seaway/export/wrap.py
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')
_NOT_THE_USERS = re.compile(r"[/\\](site-packages[/\\]torch|seaway[/\\]export)[/\\]")


def module(node: Any, weights: Collection[str]) -> str:
    """The module's path, as "layer1.0.conv"; "" if it is not known.

    It is in the torch.export exporter's notes, in the names that the tracing exporter gives
    (/net/layer1/layer1.0/conv/Conv), or else in the name of a weight that the node takes.
    """
    path = _of_scopes(_note(node, SCOPES)) or _of_name(node.name)
    if not path:
        paths = (name.rpartition(".")[0] for name in node.input if name in weights)
        path = next((each for each in paths if each), "")
    return path.removeprefix(f"{WRAPPER}.") if path != WRAPPER else ""


def source(node: Any) -> str:
    """The innermost line of the user's code, as "net.py, line 12, in forward"; "" if it is not known."""
    frame = _frame(node)
    return "{}, line {}, in {}".format(*frame) if frame else ""


def shorten_notes(node: Any) -> None:
    """Leaves those of the module and of that line, without paths of this machine; removes all other notes."""
    scopes, frame = _note(node, SCOPES), _frame(node)
    del node.metadata_props[:]
    if scopes:
        node.metadata_props.add(key=SCOPES, value=scopes)
    if frame:
        node.metadata_props.add(key=TRACE, value='File "{}", line {}, in {}'.format(*frame))


def _frame(node: Any) -> tuple[str, str, str] | None:
    """The user's innermost line: the file's name without its folders, the line, the function."""
    frames = [frame for frame in _FRAME.findall(_note(node, TRACE)) if not _NOT_THE_USERS.search(frame[0])]
    return (re.split(r"[/\\]", frames[-1][0])[-1], *frames[-1][1:]) if frames else None


def _note(node: Any, key: str) -> str:
    return next((str(each.value) for each in node.metadata_props if each.key == key), "")


def _of_scopes(note: str) -> str:
    """['', 'net', 'net.down.0', 'conv2d'] → "net.down.0": the last is the operation's name."""
    try:
        scopes = ast.literal_eval(note) if note else []
    except (SyntaxError, ValueError):
        return ""
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""


def _of_name(name: str) -> str:
    """/net/down/down.0/Conv → "net.down.0": in a list or Sequential each part repeats the one before."""
    if not name.startswith("/"):
        return ""
    parts: list[str] = []
    for part in name.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)
