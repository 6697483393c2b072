"""Examples as requests ready to send, and the check of what comes back against the output that is expected."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import card as cards
from seaway.artifacts import golden, store
from seaway.artifacts.card import Tolerance
from seaway.artifacts.golden import Golden
from seaway.errors import CardError, DataError, InvalidInput
from seaway.protocols import wire
from seaway.protocols.wire import Protocol

Inputs = Mapping[str, np.ndarray]

MOST = 64  # different requests a protocol; fewer where the examples are fewer
MOST_BYTES = 64 * 2**20  # of bodies a protocol
MOST_SEEN = 16  # answers of a request that are remembered, with what was found of them
UNKNOWN = Tolerance(1e-4, 1e-3)  # where no card says how far an answer may be

PYTORCH, FILE, FIRST = "pytorch", "file", "first"
REFERENCES = {  # what answers are compared with → in a sentence, as a possessive
    PYTORCH: ("PyTorch's recorded output for the same input", "PyTorch's"),
    FILE: ("the output that the file of examples holds for the same input", "the file's output"),
    FIRST: ("the first answer to the same request, because the examples hold no outputs", "the first answer"),
}


class WrongAnswer(Exception):
    """A 2xx answer that is not the expected one. Few fixed messages, so that errors of a kind are counted together."""

    def __init__(self, message: str, max_abs: float = float("inf")) -> None:
        super().__init__(message)
        self.max_abs = max_abs


@dataclass(frozen=True, slots=True)
class Model:
    """What is asked, and PyTorch's answers where they are known (else `examples.outputs` is empty).

    `inputs` names them in the model's order, `output` the one that is compared; `digest` is a version's, else "".
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    tolerance: Tolerance
    examples: Golden
    digest: str = ""
    reference: str = PYTORCH  # where the examples' outputs come from

    @property
    def count(self) -> int:
        return min((len(array) for array in self.examples.inputs.values()), default=0)


@dataclass(slots=True)
class Payload:
    """One encoded request, and the output that is expected: `expected`, `allowed` float64 [batch, …].

    Where none is known they are None until the first answer, which all later ones are compared with. `reference`: where
    the expected output comes from, a key of `REFERENCES`.
    """

    body: bytes
    headers: dict[str, str]
    output: str
    rows: int
    tolerance: Tolerance
    expected: np.ndarray | None = None
    allowed: np.ndarray | None = None
    reference: str = PYTORCH
    seen: dict[bytes, float] = field(default_factory=dict)  # right answers → their largest |Δ|

    def to_message(self) -> dict[str, Any]:
        """What `from_message` makes the request of again: bytes and what JSON has, as msgpack carries them."""
        message = {key: getattr(self, key) for key in ("body", "headers", "output", "rows", "reference")}
        message["tolerance"] = [self.tolerance.abs, self.tolerance.rel]
        if self.expected is not None:
            message["expected"] = [list(self.expected.shape), self.expected.tobytes()]
        return message

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Payload":
        made = cls(**{**message, "tolerance": Tolerance(*message["tolerance"]), "expected": None})
        if "expected" in message:
            shape, raw = message["expected"]
            _expect(made, np.frombuffer(raw, np.float64).reshape(shape))
        return made


def read_model(source: Path) -> Model:
    """A published version's folder, an ONNX artifact, or an .npz file of examples. Raises CardError, DataError.

    The file's arrays are [N, …]: inputs by their names, or "input:<name>", and "output:<name>" where it is known.
    """
    if source.is_file():
        return _read_file(source)
    if (source / store.CARD).exists():
        card, examples = cards.read(source, store.CARD), golden.read(source / store.EXTRA / golden.GOLDEN)
    else:
        card, examples = cards.read(source), golden.read(source / golden.GOLDEN)
    if not card.outputs or card.outputs[0].name not in examples.outputs:
        raise CardError(f"{source}: no golden output for what the card serves; give a version's or an onnx folder")
    output = card.outputs[0].name
    if output not in card.tolerances:
        raise CardError(f"{source}: the card gives no tolerance for {output!r}; export the model again")
    digest = card.sha256 if card.kind == "version" else ""
    return Model(card.name, tuple(t.name for t in card.inputs), output, card.tolerances[output], examples, digest)


def identity(source: Path, name: str = "") -> str:
    """What the answers of this version say: name/version@digest; "" where `source` is no version in a volume. `name`:
    what the server calls the model, where that is not the folder's. Raises as `read_model`."""
    folder, digest = source.absolute(), read_model(source).digest
    number = store.number(folder.name)
    return store.header(f"{name or folder.parent.name}/{number}@{digest}") if digest and number is not None else ""


def _read_file(path: Path) -> Model:
    try:
        with np.load(path, allow_pickle=False) as opened:
            arrays = dict(opened)
    except (OSError, ValueError, AttributeError, TypeError, EOFError) as error:
        raise DataError(
            f"{path}: no .npz file of arrays ({error}); write one with numpy.savez(path, NAME=ARRAY)"
        ) from None
    outputs = {key.removeprefix("output:"): array for key, array in arrays.items() if key.startswith("output:")}
    inputs = {key.removeprefix("input:"): array for key, array in arrays.items() if not key.startswith("output:")}
    sizes = {len(array) if array.ndim else 0 for array in (*inputs.values(), *outputs.values())}
    if not inputs or len(sizes) != 1:
        raise DataError(
            f"{path}: every array must be [N, …] with the same N, one for each input; found {sorted(arrays)}"
        )
    reference = FILE if outputs else FIRST
    return Model("", tuple(inputs), next(iter(outputs), ""), UNKNOWN, Golden(inputs, outputs), reference=reference)


def encode(model: Model, protocol: Protocol, batch: int) -> list[Payload]:
    """Requests of `batch` examples each, every one starting at another example, so that no two are alike.

    With fewer examples than `batch` they repeat. Raises InvalidInput.
    """
    if batch < 1:
        raise InvalidInput(f"--batch must be at least 1, not {batch}")
    chosen = _pictures(model) if protocol is wire.PNG else np.arange(model.count)
    if not len(chosen):
        raise InvalidInput("there is no example to send; export the model again, or give a file with examples")
    outputs = model.examples.outputs.get(model.output)
    made: list[Payload] = []
    for start in range(0, len(chosen), max(1, len(chosen) // MOST)):
        rows = chosen[(start + np.arange(batch)) % len(chosen)]
        inputs = {name: model.examples.inputs[name][rows] for name in model.inputs}
        body, headers = protocol.write(inputs, model.output)
        payload = Payload(body, headers, model.output, batch, model.tolerance, reference=model.reference)
        if outputs is not None:
            _expect(payload, outputs[rows])
        made.append(payload)
        if len(made) * len(body) > MOST_BYTES:
            break
    return made


def _expect(payload: Payload, output: np.ndarray) -> None:
    payload.expected = output.astype(np.float64)
    payload.allowed = payload.tolerance.allowed(payload.expected)


def _pictures(model: Model) -> np.ndarray:
    """Which examples a PNG of 8 bits holds exactly, with a dark border where they are grey: from_png inverts a light
    one. Raises InvalidInput for a model that takes no pictures."""
    arrays = [model.examples.inputs[name] for name in model.inputs]
    if len(arrays) != 1 or arrays[0].ndim != 4 or arrays[0].shape[-1] not in (1, 3):
        raise InvalidInput(
            "protocol 'png' is for models of one picture, [N, height, width, 1 or 3]; choose another one"
        )
    pixels = arrays[0].astype(np.float64) * 255
    exact = (np.abs(pixels - np.rint(pixels)).max(axis=(1, 2, 3)) < 1e-3) & (pixels.min(axis=(1, 2, 3)) > -0.5)
    exact &= pixels.max(axis=(1, 2, 3)) < 255.5
    if arrays[0].shape[-1] == 1:
        grey = pixels[..., 0]
        border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
        exact &= border.mean(axis=1) <= 127
    found: np.ndarray = np.flatnonzero(exact)
    if not len(found):
        raise InvalidInput("protocol 'png': no example is a picture of 8 bits with a dark border; choose another one")
    return found


def check(body: bytes, headers: wire.Headers, payload: Payload, protocol: Protocol) -> float:
    """The largest |Δ| of a right answer from the expected one. Raises WrongAnswer for any other.

    An answer that is byte for byte one that was right for this request before is right again.
    """
    known = payload.seen.get(body)
    if known is not None:
        return known
    worst = _compare(body, headers, payload, protocol)
    if len(payload.seen) < MOST_SEEN:
        payload.seen[body] = worst
    return worst


def _compare(body: bytes, headers: wire.Headers, payload: Payload, protocol: Protocol) -> float:
    try:
        got = protocol.read(body, headers, payload.output)
    except InvalidInput:
        raise WrongAnswer(f"not a {protocol.title} answer") from None
    if got.dtype.kind not in "fiub":
        raise WrongAnswer("not numbers")
    if payload.expected is None or payload.allowed is None:
        if not got.ndim or len(got) != payload.rows:
            raise WrongAnswer("another number of rows than was sent")
        _expect(payload, got)
        return 0.0
    if got.shape != payload.expected.shape:
        raise WrongAnswer(f"another shape than {REFERENCES[payload.reference][1]}")
    with np.errstate(invalid="ignore"):  # ∞ - ∞
        distance = np.abs(got - payload.expected)
    worst = float(distance.max(initial=0))
    if math.isfinite(worst) and (distance <= payload.allowed).all():
        return worst
    compared = golden.compare(got, payload.expected, payload.tolerance)  # knows about NaN and infinities
    if compared.wrong:
        whose = REFERENCES[payload.reference][1]
        raise WrongAnswer(f"differs from {whose} by more than the tolerance", compared.max_abs)
    return compared.max_abs


def distinct(payloads: list[Payload]) -> bool:
    """Whether the answers differ by more than the tolerance, so that a mixed-up or constant answer would be noticed."""
    first = payloads[0]
    if first.expected is None or first.allowed is None:
        return False
    return any(
        p.expected is not None and (np.abs(p.expected - first.expected) > first.allowed).any() for p in payloads[1:]
    )
