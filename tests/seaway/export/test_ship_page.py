"""The examples of docs/ship.md: each network ships as its command says, with the outputs that the page lists."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process

from seaway.artifacts.artifact_metadata import Tensor
from seaway.convert.convert import convert_artifact
from seaway.export.export import export_model
from seaway.validate.validate import validate

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "ship.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
EXAMPLES = re.findall(r"```sh\n(seaway ship [^`]*?)\n```\n\nOutputs: (.*?)\.\n\n", PAGE, re.DOTALL)


def test_every_kind_has_an_example() -> None:
    modules = {module for module in FILES if f"seaway ship python:{module}:" in PAGE}
    assert {"detector", "tagger", "graph", "mixed"} <= modules
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize(("command", "listed"), EXAMPLES)
def test_it_ships_with_the_outputs_that_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, listed: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    words = shlex.split(command.replace("\\\n", " "))[2:]
    module, function = words[0].split(":")[1:]
    (tmp_path / f"{module}.py").write_text(FILES[module], encoding="utf-8")
    values = {option: [v for o, v in itertools.pairwise(words) if o == option] for option in words}
    metadata = export_model(
        f"python:{module}:{function}",
        tmp_path / "onnx",
        weights=None,
        inputs=values["--input"],
        sizes=values.get("--size", []),
        batch="--no-batch" not in words,
        outputs=values.get("--output", []),
    )
    batch = "--no-batch" not in words
    assert ", ".join(described(tensor, batch) for tensor in metadata.outputs) == listed
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model")
    validate(tmp_path / "onnx", tmp_path / "saved_model", None, tmp_path / "parity")


def described(tensor: Tensor, batch: bool) -> str:
    """As on the page: `tags` float32 [N, any, 7]."""
    sizes = ["N" if batch and i == 0 else "any" if size is None else str(size) for i, size in enumerate(tensor.shape)]
    return f"`{tensor.name}` {tensor.dtype} [{', '.join(sizes)}]"
