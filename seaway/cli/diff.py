"""`seaway diff`: two models on the same inputs, and the first operator at which they differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import load_options, options

if TYPE_CHECKING:
    import numpy as np

    from seaway.client_tls import ClientTls
    from seaway.load.client import Client
    from seaway.validate.diff import Difference, Files, Run

MODEL_HELP = "An ONNX file, a SavedModel, a version's folder, or the URL of a running server."


def diff(
    first: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="A")],
    second: Annotated[str, typer.Argument(help="The other; the same choices.", metavar="B")],
    golden: load_options.Golden = None,
    seed: Annotated[int, typer.Option(help="Of random inputs, without --golden.", min=0)] = 0,
    name: options.Name = "",
    repository: options.Repository = options.DEFAULT_REPOSITORY,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
) -> None:
    """Runs two models on the same inputs, prints each output's largest difference, and names the first operator that
    gives another result on the same inputs.

    Operators are compared where one side has an ONNX file and the other a SavedModel that Seaway converted, or an ONNX
    file with the same names. A server is compared by its outputs, and its operators in the files of the version that
    answered, if the model repository has it. The exit status is 1 if anything differs, else 0.

    [bold]Examples[/bold]

      seaway diff model.onnx saved_model/

      seaway diff before.onnx after.onnx --golden examples.npz

      seaway diff onnx/ http://127.0.0.1:8501 --golden onnx/
    """
    from seaway.errors import InvalidInput
    from seaway.validate import diff as compare

    tls = options.tls(tls_ca, tls_cert, tls_key, insecure, *filter(_is_url, (first, second)))
    sides = [_Side(text, name, repository, tls) for text in (first, second)]
    local = next((side.files for side in sides if side.files), None)
    if golden:
        from seaway.load import payloads

        calls = [call.inputs for call in payloads.read_model(golden).examples.whole()]
    elif local:
        calls = list(compare.random_inputs(local.inputs, seed))
    else:
        raise InvalidInput("two servers are compared on given inputs: add --golden")
    found, worst = _compared(sides, calls)
    for output, difference in found.items():
        said = "differs" if difference.differs else "agrees"
        typer.echo(f"{output}: {said}; max |Δ| {difference.max_abs:.2g}, for values up to {difference.largest:.2g}")
    files = [side.files_that_answered() for side in sides]
    guilty = None
    if files[0] and files[1]:
        searched = compare.node(files[0], files[1], worst)
        typer.echo(f"{searched.sentence()}.")
        guilty = searched.guilty
    else:
        without = sides[0] if files[0] is None else sides[1]
        typer.echo(
            f"no operator can be named: {repository} has no version with the digest that {without.text} answers."
        )
    if guilty or any(difference.differs for difference in found.values()):
        raise typer.Exit(1)


def _compared(
    sides: "list[_Side]", calls: "list[dict[str, np.ndarray]]"
) -> "tuple[dict[str, Difference], dict[str, np.ndarray]]":
    """Each output's largest difference, and the inputs at which that of any is largest. Raises ModelError if a side
    fails on all inputs."""
    from seaway.errors import ModelError
    from seaway.validate import diff as compare

    found: dict[str, Difference] = {}
    worst, largest, failures = calls[0], 0.0, []
    for inputs in calls:
        try:
            first, second = (side.run(inputs) for side in sides)
        except ModelError as error:
            failures.append(error)
            continue
        for output, difference in compare.outputs(first, second).items():
            if output not in found or difference.max_abs > found[output].max_abs:
                found[output] = difference
            if difference.max_abs > largest:
                worst, largest = inputs, difference.max_abs
    if not found:
        raise ModelError(f"{failures[0]}; give inputs that both models take, with --golden")
    return found, worst


def _is_url(text: str) -> bool:
    return "://" in text


class _Side:
    """A or B: files, or a server."""

    def __init__(self, text: str, name: str, repository: Path, tls: "ClientTls") -> None:
        from seaway.errors import Unsupported
        from seaway.load import client
        from seaway.validate import diff as compare

        self.text, self._name, self._repository = text, name, repository
        self.files: Files | None = None
        self._client: Client | None = None
        self._runner: Run | None = None
        self._served_by = ""
        if text.startswith("python:"):
            raise Unsupported(
                f"{text}: a PyTorch network cannot be compared directly; export it with `python -m seaway.export`, and "
                "give the ONNX folder, with --golden of the same folder for PyTorch's own inputs"
            )
        if _is_url(text):
            self._client = client.Client(text, tls=tls)
        else:
            self.files = compare.files(Path(text))

    def run(self, inputs: "dict[str, np.ndarray]") -> "Mapping[str, np.ndarray]":
        from seaway.validate import diff as compare

        if self.files:
            self._runner = self._runner or self.files.runner()
            return self._runner(compare.named(inputs, self.files))
        return self._respond(inputs)

    def _respond(self, inputs: "dict[str, np.ndarray]") -> "Mapping[str, np.ndarray]":
        from seaway.protocols import client_codecs

        assert self._client
        codec = client_codecs.TFS_GRPC if client_codecs.is_grpc(self.text) else client_codecs.TFS
        model = options.served_name(self._client, self._name)
        signature = self._client.signatures(model)["serving_default"]
        names = [tensor.name for tensor in signature.outputs]
        outputs, self._served_by = self._client.predict_outputs(codec, model, inputs, names)
        return outputs

    def files_that_answered(self) -> "Files | None":
        """Of a server: those of the version that answered, if the model repository has it, with its digest."""
        from seaway.artifacts import model_repository
        from seaway.errors import SeawayError
        from seaway.validate import diff as compare

        if self.files:
            return self.files
        model, _, rest = self._served_by.partition("/")
        version, _, digest = rest.partition("@")
        if not version.isdigit():
            return None
        folder = model_repository.path(self._repository, model, int(version))
        try:
            known = model_repository.read_metadata(self._repository, model, int(version)).sha256
            return compare.files(folder) if known.startswith(digest) else None
        except SeawayError:
            return None
