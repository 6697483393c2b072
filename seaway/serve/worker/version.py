"""One version in a worker's memory: read and proven to be what was published, warmed up, checked, and then asked.

The golden examples do three things as it is loaded: they warm the backend up, they prove that it answers as PyTorch
did, and they show which signatures may answer several callers' rows in one run (`batching.proven`).
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import card as cards
from seaway.artifacts import golden as goldens
from seaway.artifacts import store
from seaway.artifacts.card import Card, Tensor
from seaway.artifacts.golden import Golden
from seaway.errors import CardError, ModelError, explain
from seaway.protocols.calls import Call, Served, Signature
from seaway.serve.backends.backend import Backend, Load
from seaway.serve.worker import batching
from seaway.serve.worker.readings import Readings


@dataclass(slots=True)
class Version:
    """`batchable` names the signatures whose rows do not depend on each other; `refused` holds the shapes (`shapes`)
    that once ended a process, and are not run again."""

    served: Served
    backend: Backend
    batchable: frozenset[str]
    fingerprint: str = ""  # of the files it was loaded from (`store.fingerprint`)
    refused: set[str] = field(default_factory=set)
    readings: Readings = field(default_factory=Readings)
    _conforming: dict[Any, bool] = field(default_factory=dict)

    def conforms(self, call: Call) -> bool:
        """Whether ranks and sizes are those that the signature declares."""
        key = (call.signature, *((name, array.shape[1:], array.ndim) for name, array in call.inputs.items()))
        found = self._conforming.get(key)
        if found is None:
            found = _conforms(self.served.signatures.get(call.signature), call.inputs)
            if len(self._conforming) < 4096:
                self._conforming[key] = found
        return found


def _conforms(signature: Signature | None, inputs: dict[str, np.ndarray]) -> bool:
    declared = {tensor.name: tensor.shape for tensor in signature.inputs} if signature else {}
    for name, array in inputs.items():
        shape = declared.get(name)
        if shape is None or (signature and name in signature.unranked):
            continue
        rest = zip(shape[1:], array.shape[1:], strict=False)
        if len(shape) != array.ndim or any(want not in (None, size) for want, size in rest):
            return False
    return True


def shapes(call: Call) -> str:
    """A call's signature and shapes, but for the batch, in words."""
    inputs = (f"{name} {a.dtype.name} {['N', *a.shape[1:]] if a.ndim else []}" for name, a in call.inputs.items())
    return f"{call.signature}: {', '.join(inputs)}"


def load(
    name: str,
    number: int,
    path: Path,
    digest: str,
    fingerprint: str,
    load_backend: Load,
    threads: int,
    ops: Iterable[str],
) -> Version:
    """Reads, loads, warms up and checks. Where `digest` is given, only files that have it are loaded; those that have
    the `fingerprint` were proven to.

    Raises CardError where a file changed since the version was published, ModelError where it cannot be loaded, is not
    what it was, changes meanwhile, or does not answer the golden examples as PyTorch did.
    """
    found = store.fingerprint(path)
    if not found:
        raise ModelError(f"{path}: the version's folder is gone; put it back")
    try:
        card = cards.read(path, store.CARD) if (path / store.CARD).exists() else None
        if not digest or found != fingerprint:
            digest = _proven(path, card, name, digest)
        version = _loaded(name, number, path, card, digest, load_backend, threads, ops)
    except OSError as error:
        raise ModelError(f"{path}: its files cannot be read: {explain(error)}") from None
    version.fingerprint = found
    if store.fingerprint(path) != found:
        version.backend.close()
        raise ModelError(f"{path}: its files changed while they were loaded")
    return version


def _proven(path: Path, card: Card | None, name: str, expected: str) -> str:
    """The digest of the files. Raises CardError where it is not the card's, ModelError where it is not `expected`."""
    card = cards.check(path, "version", at=store.CARD) if card else None
    digest = card.sha256 if card else cards.digest(path, Card(kind="version", name=name))
    if expected and digest != expected:
        raise ModelError(
            f"{path}: its files are not those that were served (digest {digest[:12]}, not {expected[:12]}): put them "
            "back, or publish the new ones under a new number"
        )
    return digest


def _loaded(
    name: str,
    number: int,
    path: Path,
    card: Card | None,
    digest: str,
    load_backend: Load,
    threads: int,
    ops: Iterable[str],
) -> Version:
    backend = load_backend(path, card, threads, frozenset(ops))
    try:
        signatures = {key: _ordered(signature, card) for key, signature in backend.signatures.items()}
        labels = card.labels if card else ()
        identity = f"{name}/{number}@{digest}"
        served = Served(name, number, identity, signatures, backend.definitions, labels, backend.platform)
        file = path / store.EXTRA / goldens.GOLDEN
        batchable = _check(served, backend, card, goldens.read(file)) if card and file.exists() else frozenset()
    except BaseException:
        backend.close()
        raise
    return Version(served, backend, batchable)


def _check(served: Served, backend: Backend, card: Card, golden: Golden) -> frozenset[str]:
    """The signatures that take the golden inputs and whose rows are independent. Raises ModelError."""
    compared, batchable = set(), set()
    for name, signature in served.signatures.items():
        if {tensor.name for tensor in signature.inputs} != golden.inputs.keys():
            continue
        answers = backend.predict(name, golden.inputs)
        for output in answers.keys() & golden.outputs.keys():
            _compare(card, name, output, answers[output], golden.outputs[output])
            compared.add(output)
        if batching.proven(backend.predict, name, signature, golden.inputs, answers, card.tolerances):
            batchable.add(name)
    if not compared:
        raise ModelError(
            f"no signature answers the golden inputs {sorted(golden.inputs)} with {sorted(golden.outputs)}"
        )
    return frozenset(batchable)


def _compare(card: Card, signature: str, output: str, got: np.ndarray, expected: np.ndarray) -> None:
    if output not in card.tolerances:
        raise CardError(f"the card has no tolerance for output {output!r}; export the model again")
    found = goldens.compare(got, expected, card.tolerances[output])
    if found.wrong:
        raise ModelError(
            f"signature {signature!r} answers {found.wrong} of {found.rows} golden examples wrongly: output {output!r} "
            f"is up to {found.max_abs:.3g} from PyTorch's; convert and validate the model again"
        )


def _ordered(signature: Signature, card: Card | None) -> Signature:
    """Its tensors in the card's order where the card names them."""
    order = {t.name: i for i, t in enumerate((*card.inputs, *card.outputs))} if card else {}

    def sort(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(sorted(tensors, key=lambda t: (order.get(t.name, len(order)), t.name)))

    return dataclasses.replace(signature, inputs=sort(signature.inputs), outputs=sort(signature.outputs))


# ---- as JSON, for the supervisor, which holds no model


def describe(version: Version) -> dict[str, Any]:
    served = dataclasses.asdict(version.served)
    for signature in served["signatures"].values():
        signature["unranked"] = sorted(signature["unranked"])
    return {"served": served, "batchable": sorted(version.batchable), "fingerprint": version.fingerprint}


def read_description(described: dict[str, Any]) -> Served:
    def tensors(rows: list[dict[str, Any]]) -> tuple[Tensor, ...]:
        return tuple(Tensor(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)

    served = described["served"]
    signatures = {
        name: Signature(tensors(s["inputs"]), tensors(s["outputs"]), s["method"], frozenset(s["unranked"]))
        for name, s in served["signatures"].items()
    }
    return Served(**{**served, "signatures": signatures, "labels": tuple(served["labels"])})
