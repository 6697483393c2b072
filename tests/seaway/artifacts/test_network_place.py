"""Where a node comes from in the user's network."""

import onnx
import pytest

from seaway.artifacts import network_place

TRACE = """File "/lib/python3.11/site-packages/seaway/export/wrap.py", line 61, in forward
    return tuple(self.named(*inputs).values())
  File "/home/me/mine.py", line 12, in forward
    first = self.down[0](image)
  File "/lib/python3.11/site-packages/torch/nn/modules/conv.py", line 565, in forward
    return self._conv_forward(input, self.weight, self.bias)"""
SCOPES = "['', 'net', 'net.down.0', 'conv2d']"
NOTES = {"namespace": "x", network_place.SCOPES: SCOPES, network_place.TRACE: TRACE}


@pytest.mark.parametrize(
    ("name", "notes", "weights", "module", "source"),
    [
        ("/net/layer1/layer1.0/conv1/Conv", {}, [], "layer1.0.conv1", ""),
        ("node_conv", {}, ["down.0.weight"], "down.0", ""),
        ("node_add", {}, [], "", ""),
        ("node_add", {network_place.SCOPES: "['', 'net', 'add']"}, [], "", ""),
        ("node_conv2d", NOTES, [], "down.0", "mine.py, line 12, in forward"),
    ],
)
def test_the_module_and_the_line(
    name: str, notes: dict[str, str], weights: list[str], module: str, source: str
) -> None:
    node = onnx.helper.make_node("Conv", ["x", *weights], ["y"], name)
    for key, value in notes.items():
        node.metadata_props.add(key=key, value=value)
    for _ in range(2):
        assert network_place.module(node, weights) == module
        assert network_place.source(node) == source
        network_place.shorten_notes(node)


def test_shortened_notes_have_no_folder_of_this_machine() -> None:
    node = onnx.helper.make_node("Conv", ["x"], ["y"])
    for key, value in NOTES.items():
        node.metadata_props.add(key=key, value=value)
    network_place.shorten_notes(node)
    assert {note.key: note.value for note in node.metadata_props} == {
        network_place.SCOPES: SCOPES,
        network_place.TRACE: 'File "mine.py", line 12, in forward',
    }
