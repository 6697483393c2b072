"""Converts an ONNX model to a TensorFlow SavedModel with the signatures that servers and the gate expect.

    python -m seaway.convert --onnx onnx/ --saved-model saved_model/
    python -m seaway.convert model.onnx saved_model/

The interface is the onnx artifact's card; a bare .onnx file without one keeps the names and shapes of its graph.
"""

import importlib.util
import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seaway import quiet
from seaway.artifacts import atomic
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card, Tensor
from seaway.convert import model as models
from seaway.convert import report
from seaway.errors import InvalidInput, ModelError, Unsupported

MODEL = "model.onnx"
LABELS = "labels.txt"
DEFAULT_CONVERTER = "seaway"
ONNX_TF = "onnx-tf"
# onnx-tf is archived: of what it names, PyYAML is not imported, and tensorflow-addons is not to be had for Python 3.12.
INSTALL_ONNX_TF = "pip install --no-deps onnx-tf==1.10.0"

Net = Callable[[dict[str, Any]], dict[str, Any]]  # a tf.Module: {input: tensor} → {output: tensor}


def _seaway(model: Any) -> Net:
    from seaway.convert.native import net

    return net.convert(model)


def _onnx_tf(model: Any) -> Net:
    from seaway.convert import onnx_tf_compat

    return onnx_tf_compat.convert(model)


CONVERTERS: dict[str, Callable[[Any], Net]] = {DEFAULT_CONVERTER: _seaway, ONNX_TF: _onnx_tf}


@dataclass(frozen=True, slots=True)
class _Interface:
    """What the SavedModel will look like: `inputs` maps the graph's name of an input to its tensor."""

    inputs: dict[str, Tensor]
    outputs: tuple[Tensor, ...]
    default: tuple[str, ...]


def convert_artifact(onnx: Path, saved_model: Path, converter: str = DEFAULT_CONVERTER) -> Card:
    """An onnx artifact → a saved_model artifact; returns its card. Raises CardError, ModelError, InvalidInput."""
    return _convert(onnx / MODEL, saved_model, converter, cards.check(onnx, "onnx"))


def convert(onnx_path: Path, saved_model_dir: Path, converter: str = DEFAULT_CONVERTER) -> Card:
    """A bare ONNX file → a SavedModel folder with a card; `serving_default` gives every output of the graph."""
    return _convert(onnx_path, saved_model_dir, converter, None)


def _convert(onnx_path: Path, saved_model: Path, converter: str, card: Card | None) -> Card:
    if converter not in CONVERTERS:
        raise InvalidInput(f"--converter {converter}: there is no such converter; choose from {', '.join(CONVERTERS)}")
    if converter == ONNX_TF and not importlib.util.find_spec("onnx_tf"):
        raise Unsupported(
            f"--converter {ONNX_TF}: onnx-tf is not installed. Install it without the packages that it names, which "
            f"are gone: {INSTALL_ONNX_TF} (or leave --converter out, for Seaway's own)"
        )
    _check_target(saved_model)
    _say(f"reading {onnx_path}")
    model = models.load(onnx_path)
    interface = _promised(model, card) if card else _own(model)
    quiet.import_tensorflow()
    from seaway.convert import signatures

    _say(f"converting {len(model.graph.node)} nodes of opset {models.opset(model)} with {converter}")
    net = CONVERTERS[converter](model)
    labels = card.labels if card else ()
    with atomic.folder(saved_model) as part:
        names = signatures.save(net, interface.inputs, interface.outputs, labels, interface.default, part)
        _say(f"writing signatures {', '.join(names)} to {saved_model}")
        told = report.make(model, onnx_path, part, getattr(net, "folded", None))
        _say(report.line(told))
        report.write(part, told)
        if labels:
            (part / LABELS).write_text("\n".join(labels) + "\n", encoding="utf-8")
        return cards.write(part, _card(onnx_path, converter, models.opset(model), interface, card))


def _card(onnx_path: Path, converter: str, opset: int, interface: _Interface, card: Card | None) -> Card:
    bare = Card(
        kind="saved_model",
        name=onnx_path.stem,
        inputs=tuple(interface.inputs.values()),
        outputs=interface.outputs,
        settings={"converter": converter, "opset": opset},
    )
    if card is None:
        return bare
    return replace(bare, name=card.name, labels=card.labels, tolerances=card.tolerances, parents={"onnx": card})


def _promised(model: Any, card: Card) -> _Interface:
    """The card's interface, which the graph must have. Raises ModelError."""
    for side, promised, found in (
        ("input", card.inputs, models.inputs(model)),
        ("output", card.outputs, models.outputs(model)),
    ):
        graph = {t.name: t for t in found}
        for tensor in promised:
            own = graph.pop(tensor.name, None)
            if own is None or own.dtype != tensor.dtype or not _fits(own.shape, tensor.shape):
                raise ModelError(
                    f"the card promises the {side} {_shown(tensor)}, but the graph has "
                    f"{', '.join(_shown(t) for t in found) or 'none'}; export the model again"
                )
        if side == "input" and graph:
            raise ModelError(f"the graph wants inputs that the card does not name: {', '.join(graph)}; export it again")
    for tensor in card.inputs:
        if _signature_name(tensor.name) != tensor.name:
            raise ModelError(
                f"input {tensor.name!r} cannot be an argument of a TensorFlow signature; export the model with an "
                f"input name of letters, digits and _, e.g. {_signature_name(tensor.name)!r}"
            )
    return _Interface({t.name: t for t in card.inputs}, card.outputs, (card.outputs[0].name,))


def _own(model: Any) -> _Interface:
    """The graph's own interface; names that TensorFlow cannot carry are changed and said."""
    inputs: dict[str, Tensor] = {}
    for tensor in models.inputs(model):
        name = _signature_name(tensor.name)
        while name in {t.name for t in inputs.values()}:
            name += "_"
        inputs[tensor.name] = replace(tensor, name=name)
        if name != tensor.name:
            _say(f"input {tensor.name!r} is called {name!r} in the SavedModel, which cannot carry its name")
    outputs = models.outputs(model)
    return _Interface(inputs, outputs, tuple(t.name for t in outputs))


def _signature_name(name: str) -> str:
    """The name itself where it can be a Python argument, as TensorFlow's signatures need; else the nearest one."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if plain[:1] in "_0123456789":
        plain = f"input{plain}" if plain.startswith("_") else f"input_{plain}"
    return plain + "_" if keyword.iskeyword(plain) else plain


def _fits(graph: tuple[int | None, ...], promised: tuple[int | None, ...]) -> bool:
    """Whether a graph of this shape can keep the promise: what is promised free must be free."""
    return len(graph) == len(promised) and all(g is None or g == p for g, p in zip(graph, promised, strict=True))


def _check_target(folder: Path) -> None:
    """A folder is replaced whole, so one that holds anything but a SavedModel is left alone."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "saved_model.pb").is_file()):
        raise InvalidInput(f"{folder}: already there and not a SavedModel; give a new folder, or remove this one")


def _shown(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}"


def _say(text: str) -> None:
    print(f"convert: {text}", flush=True)
