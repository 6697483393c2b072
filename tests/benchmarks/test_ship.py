"""The benchmark of shipped networks: one from end to end, and what it calls exact, wrong or constant."""

import numpy as np
import pytest

from benchmarks.ship import exactness, lists
from benchmarks.ship.__main__ import compact, read, ship, summary

ENTRY = {"inputs": ["x:3"]}


@pytest.mark.slow
def test_a_network_of_the_list_is_shipped_and_compared():
    result = ship("nets", "wide_deep", inputs=40, budget_s=20, rest=True)
    assert result["class"] == "exact", result
    assert result["inputs"] >= 40
    assert result["outputs"].keys() == {"output_0"}
    for output in result["outputs"].values():
        assert output["state"] == "exact"
        assert output["share"].keys() == {"saved_model", "onnx", "rest"}
    assert "1 of 1 exact, 1 not run" in summary({"wide_deep": compact(result) | {"commit": "abc"}}, 2)


def test_results_are_kept_without_this_machines_folders(tmp_path):
    refused = {
        "name": "net",
        "class": "refused",
        "reason": "forward() fails\n(\x1b[96m/home/one/nets.py:84\x1b[0m)",
        "outputs": {"a": {"share": {"onnx": 0.1}}, "b": {"share": {"onnx": 0.2, "saved_model": 0.3}}},
        "trace": ["/home/one/nets.py"],
    }
    kept = compact(refused)
    assert kept.pop("compared") == ["onnx", "saved_model"]
    assert kept == {"name": "net", "class": "refused", "reason": "forward() fails (nets.py:84)", "share": 0.3}
    file = tmp_path / "list.jsonl"
    file.write_text('{"name": "net", "class": "exact"}\n{"name": "net", "class": "limit"}\n')
    assert read(file) == {"net": {"name": "net", "class": "limit"}}


def _figures(published):
    def pytorch(inputs):
        return {"y": inputs["x"] * 2}

    return exactness.compare(ENTRY, pytorch, {"saved_model": published}, 36, 60)


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (lambda i: {"y": i["x"] * 2}, "exact"),
        (lambda i: {"y": i["x"] * np.float32(2.000001)}, "exact"),
        (lambda i: {"y": i["x"] * np.float32(2.01)}, "wrong"),
        (lambda i: {"y": i["x"][:, :2] * 2}, "wrong"),
        (lambda i: {"y": i["x"] * np.nan}, "wrong"),
        (lambda i: {"y": i["x"] * 2 + (len(i["x"]) == 8)}, "wrong"),  # one of the batches only
    ],
)
def test_a_published_output_is_exact_within_a_share_of_its_range(published, expected):
    assert exactness.verdict(_figures(published)) == expected


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_outputs_that_do_not_depend_on_the_input_prove_nothing(value):
    def constant(inputs):
        return {"y": np.full_like(inputs["x"], value)}

    figures = exactness.compare(ENTRY, constant, {"saved_model": constant}, 36, 60)
    assert exactness.verdict(figures) == "constant"


def test_inputs_follow_the_entry():
    entry = {
        "inputs": ["ids:L:int64", "mask:L:int64", "edges:Ex2:int64", "lengths:scalar:int64", "image:1x4", "wave:T"],
        "sizes": ["L=2..5", "E=1..3", "T=8..18:4"],
        "high": {"ids": 7, "edges": "L", "lengths": "L"},
        "low": {"lengths": 1},
        "masks": ["mask"],
    }
    stream = exactness.batches(entry)
    drawn = [next(stream) for _ in range(80)]
    assert {len(arrays["ids"]) for arrays in drawn} == set(range(1, 9))
    assert {arrays["ids"].shape[1] for arrays in drawn} == {2, 3, 4, 5}
    assert {arrays["wave"].shape[1] for arrays in drawn} == {8, 12, 16}
    assert max(int(arrays["ids"].max()) for arrays in drawn) == 6
    for arrays in drawn:
        length = arrays["ids"].shape[1]
        assert arrays["mask"].shape == arrays["ids"].shape
        assert (np.diff(arrays["mask"]) <= 0).all()
        assert (arrays["mask"][:, 0] == 1).all()
        assert arrays["edges"].max() < length
        assert 1 <= arrays["lengths"].min() <= arrays["lengths"].max() <= length
        assert arrays["image"].shape == (len(arrays["ids"]), 1, 4)


@pytest.mark.parametrize("name", ["torchvision", "timm", "transformers", "nets"])
def test_lists_have_inputs_for_every_network(name):
    entries = lists.read(name)
    assert len({entry["name"] for entry in entries}) == len(entries)
    for entry in entries:
        arrays = next(exactness.batches(entry | {"inputs": _named(entry)}))
        assert len(arrays) == len(entry["inputs"]), entry


def _named(entry):
    return [text if ":" in text else f"x{i}:{text}" for i, text in enumerate(entry["inputs"])]


def test_the_lists_are_as_large_as_their_rules_make_them():
    assert sum(entry["kind"] == "classification" for entry in lists.read("torchvision")) == 80
    assert len(lists.read("timm")) == 98
    assert len(lists.read("nets")) == 30
