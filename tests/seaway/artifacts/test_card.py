import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import card as cards
from seaway.artifacts.card import Card, Tensor, Tolerance
from seaway.errors import CardError, InvalidInput

CARD = Card(
    kind="onnx",
    name="größe",
    inputs=(Tensor("image", "float32", (None, 28, 28, 1)),),
    outputs=(Tensor("scores", "float32", (None, 2)),),
    labels=("a", "ß"),
    tolerances={"scores": Tolerance(1e-5, 1e-4)},
    metrics={"accuracy": 0.5},
    settings={"opset": 15, "nested": {"list": [1, 2]}},
    weights={"w": "00"},
    parents={"dataset": Card(kind="dataset", name="größe", sha256="ab")},
)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model").write_bytes(b"abc")
    (tmp_path / "sub" / "file").write_bytes(b"def")
    cards.write(tmp_path, CARD)
    return tmp_path


def test_a_card_reads_back_as_written(artifact: Path) -> None:
    found = cards.check(artifact, "onnx")
    assert dataclasses.replace(found, sha256="") == CARD
    assert len(found.sha256) == 64


def test_the_digest_is_the_same_for_the_same_content(artifact: Path) -> None:
    first = cards.read(artifact).sha256
    assert cards.write(artifact, CARD).sha256 == first


def change_byte(artifact: Path) -> None:
    (artifact / "sub" / "file").write_bytes(b"deg")


def rename(artifact: Path) -> None:
    (artifact / "model").rename(artifact / "model2")


def add(artifact: Path) -> None:
    (artifact / "new").touch()


def remove(artifact: Path) -> None:
    (artifact / "model").unlink()


def edit_card(artifact: Path) -> None:
    raw = json.loads((artifact / "card.json").read_text())
    raw["labels"] = ["ß", "a"]
    (artifact / "card.json").write_text(json.dumps(raw))


@pytest.mark.parametrize("tamper", [change_byte, rename, add, remove, edit_card])
def test_any_change_is_found(artifact: Path, tamper) -> None:
    tamper(artifact)
    with pytest.raises(CardError, match=r"was changed after its card was written"):
        cards.check(artifact)


def test_wrong_kind(artifact: Path) -> None:
    with pytest.raises(CardError, match="expected an artifact of kind 'parity', but its card says 'onnx'"):
        cards.check(artifact, "parity")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1]", "schema_version is None"),
        ('{"schema_version": 2}', "schema_version is 2, this Seaway reads 1"),
        ('{"schema_version": 1}', "not a card"),
        ('{"schema_version": 1, "kind": "onnx", "name": 3, "inputs": 7}', "not a card"),
    ],
)
def test_unreadable_cards(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(CardError, match=message):
        cards.read(tmp_path)


def test_only_an_artifact_of_the_same_kind_may_be_replaced(
    artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    cards.check_target(artifact, "onnx")
    cards.check_target(other, "onnx")
    cards.check_target(other / "none", "onnx")
    with pytest.raises(InvalidInput, match="holds onnx, which a new checkpoint would replace"):
        cards.check_target(artifact, "checkpoint")
    (other / "photo.jpg").write_bytes(b"dear to somebody")
    for path in (other, other / "photo.jpg"):
        with pytest.raises(InvalidInput, match=f"{path}: is there already and holds something else"):
            cards.check_target(path, "onnx")


def test_missing_card(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"no such card|there is no card"):
        cards.read(tmp_path)


def test_nan_is_refused_where_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        cards.write(tmp_path, dataclasses.replace(CARD, metrics={"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_checksum_survives_layout_but_no_value() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
    same = cards.checksum(weight)
    assert cards.checksum(weight.transpose(2, 3, 1, 0)) == same
    assert cards.checksum(weight.reshape(12, 25)) == same
    assert cards.checksum(weight * np.float32(1.01)) != same
    one = weight.copy()
    one[0, 0, 0, 0] = np.nextafter(one[0, 0, 0, 0], np.float32(9))
    assert cards.checksum(one) != same
    assert cards.checksum(weight.astype(np.float64)) != same
