"""Puts the example that comes with the server into a volume without any model, so that a new server answers at once.

python -m seaway.serve.seed --volume DIR
"""

import argparse
import shutil
from pathlib import Path

from seaway import errors
from seaway.artifacts import atomic, store
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.errors import Unavailable

PROGRAM = "python -m seaway.serve.seed"
EXAMPLE = Path(__file__).resolve().parents[1] / "example" / "characters" / "1"


def seed(volume: Path, example: Path = EXAMPLE) -> bool:
    """Publishes the example, and labels it stable, where the volume holds no model. Returns whether it is there now.

    Of several at once one copies, and the others find it done. Raises CardError for an example that is not whole,
    Unavailable where there is no volume, OSError for one that cannot be written.
    """
    card = cards.check(example, "version", at=store.CARD)
    if not volume.is_dir():
        raise Unavailable(f"{volume}: the volume is not there; is it mounted?")
    with atomic.locked(volume):
        if not store.models(volume):
            store.publish(volume, card.name, lambda folder: _copy(example, folder))
    if not _holds_only(volume, card):
        return False
    if not store.labels(volume, card.name):  # also after one that was killed before it came to this
        store.set_label(volume, card.name, store.STABLE, 1, "the example")
    return True


def _holds_only(volume: Path, card: Card) -> bool:
    only = store.models(volume) == [card.name] and store.versions(volume, card.name) == [1]
    return only and store.read_card(volume, card.name, 1).sha256 == card.sha256


def _copy(example: Path, folder: Path) -> None:
    for path in sorted(example.rglob("*")):  # contents alone: who may read it in the image is of no concern here
        target = folder / path.relative_to(example)
        if path.is_dir():
            target.mkdir()
        else:
            shutil.copyfile(path, target)


def main() -> None:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--volume", type=Path, required=True, metavar="DIR", help="the volume, an existing folder")
    volume = parser.parse_args().volume
    with errors.exit_with_message(PROGRAM):
        there = seed(volume)
    print(f"{volume} holds the example" if there else f"{volume} holds models already: nothing to do")


if __name__ == "__main__":
    main()
