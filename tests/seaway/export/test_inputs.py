"""--input, its binding to forward(), and the examples that go into golden.npz."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput
from seaway.export.inputs import InputSpec, bind, parse, random_examples, read_examples, spread

TENSORS = (Tensor("numeric", "float32", (None, 2)), Tensor("ids", "int64", (None, 3)))


class Two(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return left + right * scale


class Any(nn.Module):
    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        return torch.stack(xs).sum(0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3x224x224", InputSpec(None, (3, 224, 224), "float32")),
        ("6", InputSpec(None, (6,), "float32")),
        ("128:int64", InputSpec(None, (128,), "int64")),
        ("ids:128:int64", InputSpec("ids", (128,), "int64")),
        ("numeric:6", InputSpec("numeric", (6,), "float32")),
        ("age:scalar", InputSpec("age", (), "float32")),
        ("age:scalar:bool", InputSpec("age", (), "bool")),
    ],
)
def test_parse(text: str, expected: InputSpec) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "3x",
        "0x3",
        "x:",
        "x:3:int64:4",
        "3:4",
        "x:-1",
        "a b:3",
        "x:3:complex64",
        "x:3:",
        "99999999999",
        "9999x99999",
    ],
)
def test_parse_names_the_option_for_anything_else(text: str) -> None:
    with pytest.raises(InvalidInput, match="--input"):
        parse(text)


@pytest.mark.parametrize(
    ("net", "texts", "names", "by_keyword"),
    [
        (Two(), ["2", "2"], ["left", "right"], False),
        (Two(), ["right:2", "left:2"], ["right", "left"], True),
        (Two(), ["a:2", "b:2"], ["a", "b"], False),
        (Two(), ["2", "b:2"], ["left", "b"], False),
        (Two(), ["2", "right:2"], ["left", "right"], False),
        (Any(), ["a:2", "b:2", "c:2"], ["a", "b", "c"], False),
    ],
)
def test_bind(net: nn.Module, texts: list[str], names: list[str], by_keyword: bool) -> None:
    binding = bind(net, [parse(text) for text in texts])
    assert [tensor.name for tensor in binding.tensors] == names
    assert binding.tensors[0].shape == (None, 2)
    assert binding.by_keyword is by_keyword


@pytest.mark.parametrize(
    ("net", "texts", "says"),
    [
        (Two(), ["2"], r"given 1 time\(s\).*left.*right"),
        (Two(), ["2"] * 4, r"given 4 time\(s\)"),
        (Two(), ["left:2", "scale:1"], "give one for each"),
        (Two(), ["left:2", "other:2"], "some of which forward"),
        (Two(), ["2", "left:2"], "some of which forward"),
        (Two(), ["scores:2", "b:2"], "'scores' is an output's name"),
        (Two(), ["b:2", "b:2"], "'b' is used twice"),
        (Any(), ["2", "2"], "needs a name"),
    ],
)
def test_bind_refuses_what_forward_cannot_take(net: nn.Module, texts: list[str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        bind(net, [parse(text) for text in texts])


def test_random_examples_are_seeded_and_fit_any_embedding() -> None:
    tensors = (*TENSORS, Tensor("image", "uint8", (None, 9)), Tensor("flag", "bool", (None,)))
    first, second = random_examples(tensors), random_examples(tensors)
    for tensor in tensors:
        assert first[tensor.name].dtype == tensor.dtype
        assert first[tensor.name].shape == (64, *tensor.shape[1:])
        assert np.array_equal(first[tensor.name], second[tensor.name])
    assert set(np.unique(first["ids"])) == {0, 1}
    assert first["image"].max() > 200
    assert first["numeric"].std() == pytest.approx(1, abs=0.3)


def test_random_examples_of_large_inputs_are_fewer_but_at_least_eight() -> None:
    assert len(random_examples((Tensor("x", "float32", (None, 3, 224, 224)),))["x"]) == 13
    assert len(random_examples((Tensor("x", "float32", (None, 3, 1024, 1024)),))["x"]) == 8


def test_own_examples_take_the_inputs_dtype(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", numeric=np.ones((5, 2)), ids=np.full((5, 3), 6, np.int32))
    examples = read_examples(tmp_path / "mine.npz", TENSORS)
    assert list(examples) == ["numeric", "ids"]
    assert (examples["numeric"].dtype, examples["ids"].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"numeric": np.ones((5, 2))}, "contains numeric, needed: numeric float32 .N, 2., ids int64"),
        ({"numeric": np.ones((5, 2)), "ids": np.ones((4, 3), int)}, "same number of examples"),
        ({"numeric": np.ones((0, 2)), "ids": np.ones((0, 3), int)}, "1 to 1024"),
        ({"numeric": np.ones((5, 2)), "ids": np.ones((5, 3))}, "ids float64 .5, 3. does not fit"),
        ({"numeric": np.ones((5, 4)), "ids": np.ones((5, 3), int)}, "numeric float64 .5, 4. does not fit"),
        ({"numeric": np.float32(1), "ids": np.ones((5, 3), int)}, "same number of examples"),
    ],
)
def test_own_examples_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InvalidInput, match=f"--golden .*mine.npz: .*{says}"):
        read_examples(tmp_path / "mine.npz", TENSORS)


def test_own_examples_from_no_npz(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        read_examples(tmp_path / "none.npz", TENSORS)
    (tmp_path / "text.npz").write_text("numeric, ids\n")
    with pytest.raises(InvalidInput, match=r"not an \.npz"):
        read_examples(tmp_path / "text.npz", TENSORS)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InvalidInput, match=r"not an \.npz"):
        read_examples(tmp_path / "one.npy", TENSORS)


def test_spread_takes_turns_over_the_classes() -> None:
    labels = np.array([0] * 50 + [2] * 3 + [1] * 20, np.uint8)
    chosen = spread(labels, 12)
    assert np.bincount(labels[chosen]).tolist() == [5, 4, 3]
    assert len(set(chosen)) == 12
    assert len(spread(labels, 500)) == len(labels)
