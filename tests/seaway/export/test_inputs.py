"""--input, its binding to forward(), and the examples that go into golden.npz."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput
from seaway.export.inputs import (
    InputSpec,
    Size,
    at_sizes,
    bind,
    fixed,
    parse,
    parse_size,
    random_examples,
    read_examples,
    sizes_to_try,
    spread,
)

TENSORS = (Tensor("numeric", "float32", (None, 2)), Tensor("ids", "int64", (None, 3)))
INPUTS = fixed(*TENSORS)


class Two(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return left + right * scale


class KeywordOnly(nn.Module):
    def forward(self, x: torch.Tensor, *, scale: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        return x * scale + more["shift"]


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
        ("ids:L:int64", InputSpec("ids", ("L",), "int64")),
        ("L:int64", InputSpec(None, ("L",), "int64")),
        ("image:3xHxW", InputSpec("image", (3, "H", "W"), "float32")),
        ("x:4:bfloat16", InputSpec("x", (4,), "bfloat16")),
    ],
)
def test_parse(text: str, expected: InputSpec) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
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
        (KeywordOnly(), ["scale:2", "x:2", "shift:2"], ["scale", "x", "shift"], True),
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
        (Two(), ["b:2", "b:2"], "'b' is used twice"),
        (Any(), ["2", "2"], "needs a name"),
        (KeywordOnly(), ["2", "2"], "needs forward\\(\\)'s own names"),
    ],
)
def test_bind_refuses_what_forward_cannot_take(net: nn.Module, texts: list[str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        bind(net, [parse(text) for text in texts])


def test_random_examples_are_seeded_and_fit_any_embedding() -> None:
    tensors = (*TENSORS, Tensor("image", "uint8", (None, 9)), Tensor("flag", "bool", (None,)))
    first, second = random_examples(fixed(*tensors)), random_examples(fixed(*tensors))
    for tensor in tensors:
        assert first[tensor.name].dtype == tensor.dtype
        assert first[tensor.name].shape == (64, *tensor.shape[1:])
        assert np.array_equal(first[tensor.name], second[tensor.name])
    assert set(np.unique(first["ids"])) == {0, 1}
    assert first["image"].max() > 200
    assert first["numeric"].std() == pytest.approx(1, abs=0.3)


def test_random_examples_of_large_inputs_are_fewer_but_at_least_eight() -> None:
    assert len(random_examples(fixed(Tensor("x", "float32", (None, 3, 224, 224))))["x"]) == 13
    assert len(random_examples(fixed(Tensor("x", "float32", (None, 3, 1024, 1024))))["x"]) == 8


def test_own_examples_take_the_inputs_dtype(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", numeric=np.ones((5, 2)), ids=np.full((5, 3), 6, np.int32))
    examples = read_examples(tmp_path / "mine.npz", INPUTS)
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
        read_examples(tmp_path / "mine.npz", INPUTS)


def test_own_examples_from_no_npz(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        read_examples(tmp_path / "none.npz", INPUTS)
    (tmp_path / "text.npz").write_text("numeric, ids\n")
    with pytest.raises(InvalidInput, match=r"not an \.npz"):
        read_examples(tmp_path / "text.npz", INPUTS)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InvalidInput, match=r"not an \.npz"):
        read_examples(tmp_path / "one.npy", INPUTS)


def test_spread_takes_turns_over_the_classes() -> None:
    labels = np.array([0] * 50 + [2] * 3 + [1] * 20, np.uint8)
    chosen = spread(labels, 12)
    assert np.bincount(labels[chosen]).tolist() == [5, 4, 3]
    assert len(set(chosen)) == 12
    assert len(spread(labels, 500)) == len(labels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("L=1..512", Size("L", 1, 512)), ("side=64..256:32", Size("side", 64, 256, 32)), ("n=3..3", Size("n", 3, 3))],
)
def test_parse_size(text: str, expected: Size) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "L", "L=", "L=5", "L=0..5", "L=6..5", "L=1-5", "L=1..5:0", "1=1..5", "L=1..x"])
def test_parse_size_names_the_option_for_anything_else(text: str) -> None:
    with pytest.raises(InvalidInput, match="--size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("texts", "sizes", "says"),
    [
        (["L", "2"], [], "axis named 'L': add its range, for example --size L=1..512"),
        (["L", "2"], ["L=1..5", "M=1..5"], "'M' is no axis"),
        (["L", "L"], ["L=1..5", "L=1..6"], "'L' is given twice"),
        (["LxM", "2"], ["L=1..9000", "M=1..9000"], "81,000,000 numbers at the highest"),
    ],
)
def test_open_sizes_need_one_range_each(texts: list[str], sizes: list[str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        bind(Two(), [parse(text) for text in texts], [parse_size(size) for size in sizes])


def test_open_sizes_are_open_in_the_metadata_and_shared_by_inputs() -> None:
    inputs = bind(Two(), [parse("ids:L:int64"), parse("mask:Lx3")], [parse_size("L=2..40")])
    assert [tensor.shape for tensor in inputs.tensors] == [(None, None), (None, None, 3)]
    examples = random_examples(inputs)
    assert (examples["ids"].shape[1:], examples["mask"].shape[1:]) == ((12,), (12, 3))
    lengths = [sizes["L"] for sizes in sizes_to_try(inputs)]
    assert lengths[:3] == [2, 40, 7]
    assert len(lengths) >= 5
    assert all(2 <= length <= 40 for length in lengths)


def test_sizes_in_steps_are_multiples_of_the_step() -> None:
    inputs = bind(Two(), [parse("3xHxW"), parse("2")], [parse_size("H=64..250:32"), parse_size("W=8..8")])
    tried = [{"H": 64, "W": 8}, *sizes_to_try(inputs)]
    assert {sizes["H"] for sizes in tried} >= {64, 224}
    assert all((sizes["H"] % 32, sizes["W"]) == (0, 8) for sizes in tried)


def test_real_examples_are_cut_or_repeated_and_random_ones_drawn_again() -> None:
    inputs = bind(Two(), [parse("ids:L:int64"), parse("2")], [parse_size("L=1..9")])
    examples = {"ids": np.arange(8).reshape(2, 4), "right": np.float32([[1, 2], [3, 4]])}
    assert at_sizes(inputs, examples, {"L": 2}, 2, real=True)["ids"].tolist() == [[0, 1], [4, 5]]
    assert at_sizes(inputs, examples, {"L": 6}, 1, real=True)["ids"].tolist() == [[0, 1, 2, 3, 0, 1]]
    drawn = at_sizes(inputs, examples, {"L": 200}, 3, real=False)["ids"]
    assert drawn.shape == (3, 200)
    assert set(drawn.flat) == set(range(8))


def test_inputs_without_a_batch_have_the_axes_that_are_given() -> None:
    inputs = bind(Two(), [parse("left:Nx2"), parse("right:scalar")], [parse_size("N=1..5")], batch=False)
    assert [tensor.shape for tensor in inputs.tensors] == [(None, 2), ()]
    assert [array.shape for array in random_examples(inputs).values()] == [(5, 2), ()]


def test_own_examples_of_open_sizes_agree_with_each_other(tmp_path: Path) -> None:
    inputs = bind(Two(), [parse("ids:L:int64"), parse("mask:L")], [parse_size("L=1..9")])
    np.savez(tmp_path / "mine.npz", ids=np.ones((5, 7), int), mask=np.ones((5, 7)))
    assert read_examples(tmp_path / "mine.npz", inputs)["mask"].shape == (5, 7)
    for ids, mask in ((7, 6), (10, 10)):
        np.savez(tmp_path / "mine.npz", ids=np.ones((5, ids), int), mask=np.ones((5, mask)))
        with pytest.raises(InvalidInput, match=r"does not fit, needed: ids int64 \[N, L \(1 to 9\)\]"):
            read_examples(tmp_path / "mine.npz", inputs)


def test_own_examples_that_were_cut_off_or_damaged(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez_compressed(file, numeric=np.random.default_rng(0).normal(size=(50, 2)), ids=np.ones((50, 3), int))
    whole = file.read_bytes()
    for damaged in (b"", whole[:20], whole[: len(whole) // 2], whole[:60] + b"\xff" * 60 + whole[120:]):
        file.write_bytes(damaged)
        with pytest.raises(InvalidInput, match=r"not an \.npz"):
            read_examples(file, INPUTS)
