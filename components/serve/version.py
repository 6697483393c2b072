"""What lies in a version's folder beside the model: card, golden examples, and the check that they make possible."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.serve.pool import Predict
from seaway import card as cards
from seaway import golden as goldens
from seaway import store
from seaway.card import Card
from seaway.errors import CardError, ModelError
from seaway.golden import Golden


@dataclass(frozen=True, slots=True)
class Contents:
    """`card` and `golden` are None for a plain SavedModel; `digest` then covers its files alone."""

    card: Card | None
    golden: Golden | None
    digest: str


def read(path: Path, name: str) -> Contents:
    """Proves that no file changed since the version was published. Raises CardError."""
    if not (path / "saved_model.pb").is_file():
        raise ModelError(f"{path}: there is no saved_model.pb in it, so it is no version that can be served")
    if not (path / store.CARD).exists():
        return Contents(None, None, cards.digest(path, Card(kind="version", name=name)))
    card = cards.check(path, "version", at=store.CARD)
    file = path / store.EXTRA / goldens.GOLDEN
    return Contents(card, goldens.read(file) if file.exists() else None, card.sha256)


async def check(contents: Contents, described: dict[str, Any], predict: Predict) -> None:
    """Warms a worker up with the golden inputs, in every signature that takes them, and compares each answer.

    Raises ModelError where an answer is out of the card's tolerance, or where no signature takes the golden inputs.
    """
    card, golden = contents.card, contents.golden
    if card is None or golden is None:
        return
    compared = set()
    for name, sides in described["signatures"].items():
        if {tensor[0] for tensor in sides["inputs"]} != golden.inputs.keys():
            continue
        answers = await predict(name, golden.inputs)
        await predict(name, {key: array[:1] for key, array in golden.inputs.items()})  # the size that is asked most
        for output in answers.keys() & golden.outputs.keys():
            _compare(card, name, output, answers[output], golden.outputs[output])
            compared.add(output)
    if not compared:
        raise ModelError(
            f"no signature answers the golden inputs {sorted(golden.inputs)} with {sorted(golden.outputs)}"
        )


def _compare(card: Card, signature: str, output: str, got: np.ndarray, expected: np.ndarray) -> None:
    if output not in card.tolerances:
        raise CardError(f"the card has no tolerance for output {output!r}; export the model again")
    found = goldens.compare(got, expected, card.tolerances[output])
    if found.wrong:
        raise ModelError(
            f"signature {signature!r} answers {found.wrong} of {found.rows} golden examples wrongly: output {output!r} "
            f"is up to {found.max_abs:.3g} from PyTorch's; convert and validate the model again"
        )
