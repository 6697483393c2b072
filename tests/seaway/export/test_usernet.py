"""Finding a user's net and filling it with weights."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from seaway.errors import ModelError
from seaway.export.usernet import load


class Code:
    """Something that a pickle would have to run code to rebuild."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save({"linear.weight": torch.full((3, 4), 2.0), "linear.bias": torch.zeros(3)}, tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_the_net_has_the_weights_and_is_in_eval_mode(weights: Path) -> None:
    net = load("python:shipped_nets:Small", weights)
    assert not net.training
    assert net(torch.ones(1, 4)).tolist() == [[8, 8, 8]]


def test_without_weights_the_function_builds_the_same_net_every_time() -> None:
    first, second = (load("python:torch.nn:Identity", None) for _ in range(2))
    assert isinstance(first, nn.Identity)
    assert isinstance(second, nn.Identity)
    torch.manual_seed(99)
    one = load("python:shipped_nets:tiny_vit", None).state_dict()
    torch.manual_seed(98)
    two = load("python:shipped_nets:tiny_vit", None).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("shipped_nets:Small", "write python:MODULE:FUNCTION"),
        ("python:shipped_nets", "write python:MODULE:FUNCTION"),
        ("python:no_such_module:net", "no module 'no_such_module'.*PYTHONPATH"),
        ("python:shipped_nets.inner:net", "no module 'shipped_nets.inner'|is not a package"),
        ("python:shipped_nets:no_such_net", "'no_such_net' does not exist in"),
        ("python:shipped_nets:NUMBER", "'NUMBER' is not callable"),
        ("python:shipped_nets:needs_an_argument", "fails when called without arguments.*width"),
        ("python:shipped_nets:fails", r"no configuration found \(.*shipped_nets.py:\d+\)"),
        ("python:shipped_nets:not_a_net", "returned dict, not a torch.nn.Module"),
    ],
)
def test_no_net_there(model: str, says: str) -> None:
    with pytest.raises(ModelError, match=f"--model .*{says}"):
        load(model, None)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_library\n", "No module named 'no_such_library'.*install"),
        ("1 / 0\n", r"ZeroDivisionError.*broken_net.py:1"),
        ("def net(:\n", "SyntaxError"),
        ("import sys\nsys.exit(0)\n", r"SystemExit: 0.*broken_net.py:2"),
    ],
)
def test_a_module_that_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str) -> None:
    (tmp_path / "broken_net.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=says):
        load("python:broken_net:net", None)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"linear.weight": torch.ones(3, 4)}, "1 missing: linear.bias; give"),
        (
            {"linear.weight": torch.ones(3, 4), "linear.bias": torch.ones(3), **dict.fromkeys("abcde", torch.ones(1))},
            "5 unexpected: a, b, c and 2 more",
        ),
        (
            {"linear.weight": torch.ones(4, 3), "linear.bias": torch.ones(3)},
            r"1 of another shape: linear.weight \[4, 3\] instead of \[3, 4\]",
        ),
        ({"module.linear.weight": torch.ones(3, 4), "module.linear.bias": torch.ones(3)}, "DataParallel"),
        ({1: torch.ones(3)}, "2 missing: .*1 unexpected: 1; give"),
        (
            {"linear.weight": torch.ones(3, 4).to_sparse(), "linear.bias": torch.ones(3)},
            "they do not fit the model: .*sparse.*save plain dense tensors",
        ),
        ({"epoch": 3, "state_dict": {"linear.bias": torch.ones(3)}}, "not a state_dict .it contains epoch, state_dict"),
        (torch.ones(3), "not a state_dict .it contains Tensor"),
        (Code(), "Python objects.*never loaded.*state_dict"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, state: object, says: str) -> None:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=f"--weights .*w.pt: .*{says}"):
        load("python:shipped_nets:Small", tmp_path / "w.pt")


def test_weights_that_cannot_be_read(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load("python:shipped_nets:Small", tmp_path / "none.pt")
    broken = tmp_path / "broken.pt"
    for content in (b"", b"PK\x03\x04", b"not weights", weights.read_bytes()[:-200], pickle.dumps(Code())):
        broken.write_bytes(content)
        with pytest.raises(ModelError, match=r"--weights .*broken\.pt"):
            load("python:shipped_nets:Small", broken)
