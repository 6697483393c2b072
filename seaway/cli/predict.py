"""`seaway predict`: sends images or other inputs to a running server, and prints their labels and scores."""

import io
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import load_options, options

if TYPE_CHECKING:
    import numpy as np

    from seaway.load.client import Client
    from seaway.protocols.calls import Signature
    from seaway.protocols.client_codecs import Protocol

MAX_SIDE_PX = 2048  # the limit of from_png
MAX_VALUES = 8  # of an output of a model without labels
Rows = list[tuple[str, ...]]


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="An image (PNG, JPEG or any other format that Pillow reads), a .json request as for REST, or an .npz "
            "file of arrays by the names of the inputs.",
        ),
    ],
    url: options.Url = options.DEFAULT_URL,
    name: options.Name = "",
    protocol: load_options.Protocol = "",
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
) -> None:
    """Predicts with a running server: label, score and alternatives, or the outputs of a model without labels.

    Images are for image classifiers with labels that Seaway published. The server decodes and preprocesses them
    (signature from_png): it inverts dark ink on light paper, and crops and centres the ink.

    [bold]Examples[/bold]

      seaway predict seven.png letter.jpg

      seaway predict request.json --name churn --protocol oip
    """
    from rich.console import Console
    from rich.table import Table

    from seaway.errors import check_all
    from seaway.load.client import Client
    from seaway.protocols import client_codecs

    check_all(*(partial(_check_file, path, protocol) for path in files))
    default = client_codecs.TFS_GRPC if client_codecs.is_grpc(url) else client_codecs.TFS
    if protocol == "png":  # files over REST
        client_codecs.check_url(url, client_codecs.PNG)
        protocol = ""
    codec = client_codecs.named(protocol) if protocol else default
    tables: dict[tuple[str, ...], Table] = {}  # by header
    with Client(url, tls=options.tls(tls_ca, tls_cert, tls_key, insecure, url)) as client:
        name = options.served_name(client, name)
        signatures = client.signatures(name)
        for path in files:
            header, rows = _predict(client, codec, name, signatures, path)
            table = tables.setdefault(header, Table("input", *header))
            for number, row in enumerate(rows):
                table.add_row(str(path) if len(rows) == 1 else f"{path} {number}", *row)
    for table in tables.values():
        Console().print(table)


def _predict(
    client: "Client", codec: "Protocol", name: str, signatures: "Mapping[str, Signature]", path: Path
) -> tuple[tuple[str, ...], Rows]:
    """Headings, and a row for each example in the file. Raises InvalidInput, and as the client."""
    from seaway.artifacts import interface
    from seaway.errors import InvalidInput
    from seaway.protocols import client_codecs, tensors

    if path.suffix in (".json", ".npz"):
        signature, inputs = _read(path, signatures)
    elif interface.FROM_PNG in signatures:
        signature, inputs = interface.FROM_PNG, {interface.PNG: tensors.strings([_as_png(path)], [1])}
    else:
        raise InvalidInput(
            f"{path}: {name} has no signature from_png, so it takes no images: give a .json or .npz file"
        )
    if signature == interface.FROM_PNG and codec is client_codecs.OIP:
        codec = client_codecs.OIP_BINARY  # its JSON has only UTF-8
    requested = "" if signature == interface.DEFAULT else signature
    if signature in (interface.FROM_PNG, interface.LABEL):
        wanted = ["top_labels", "top_scores"]
        outputs, _ = client.predict_outputs(codec, name, inputs, wanted, signature=requested)
        return ("label", "score", "alternatives"), _labelled(outputs["top_labels"], outputs["top_scores"])
    names = [tensor.name for tensor in signatures[signature].outputs]
    arrays, _ = client.predict_outputs(codec, name, inputs, names, signature=requested)
    return tuple(names), _values([arrays[name] for name in names])


def _check_file(path: Path, protocol: str) -> None:
    from seaway.errors import InvalidInput

    if not path.is_file():
        raise InvalidInput(f"{path}: no such file")
    if protocol == "png" and path.suffix in (".json", ".npz"):
        raise InvalidInput(f"{path}: --protocol png sends images; leave it out, or choose another one")


def _read(path: Path, signatures: "Mapping[str, Signature]") -> "tuple[str, Mapping[str, np.ndarray]]":
    """The signature to call, and the inputs in a .json or .npz file. Raises InvalidInput."""
    from seaway.artifacts import interface
    from seaway.errors import InvalidInput
    from seaway.load import payloads
    from seaway.protocols import tensors, tfserving

    preferred = [name for name in (interface.LABEL, interface.DEFAULT) if name in signatures]
    name = (preferred or sorted(signatures))[0]
    if path.suffix == ".json":
        try:
            request = tfserving.read_predict(path.read_bytes())
            name = request.document.get("signature_name") or name
            if name not in signatures:
                raise InvalidInput(f"it names the signature {name}; the model has {', '.join(signatures)}")
            return name, tfserving.read_inputs(request, signatures[name].inputs)[0]
        except InvalidInput as error:
            raise InvalidInput(f"{path}: {error}") from None
    expected, arrays = signatures[name].inputs, payloads.read_model(path).examples.inputs
    missing = [tensor.name for tensor in expected if tensor.name not in arrays]
    if missing:
        raise InvalidInput(f"{path}: no array named {', '.join(missing)}; it has {', '.join(arrays)}")
    return name, {tensor.name: arrays[tensor.name].astype(tensors.DTYPES[tensor.dtype]) for tensor in expected}


def _labelled(labels: "np.ndarray", scores: "np.ndarray") -> Rows:
    """Label, score and alternatives of each row."""
    from seaway.protocols import tensors

    names = iter(tensors.string_values(labels))
    shown = "{:.1%}" if ((scores >= 0) & (scores <= 1)).all() else "{:.4g}"  # probabilities, or raw scores
    rows: Rows = []
    for row in scores:
        (label, score), *others = [(next(names).decode("utf-8", "replace"), shown.format(score)) for score in row]
        rows.append((label, score, ", ".join(map(" ".join, others))))
    return rows


def _values(outputs: "list[np.ndarray]") -> Rows:
    """Each row's first values of each output; one row if the outputs have no common number of rows."""
    counts = {len(output) if output.ndim else -1 for output in outputs}
    count = counts.pop() if len(counts) == 1 else -1
    columns = [[output.ravel()] if count < 0 else [row.ravel() for row in output] for output in outputs]
    return [tuple(map(_shown, row)) for row in zip(*columns, strict=True)]


def _shown(values: "np.ndarray") -> str:
    return ", ".join(map(str, values[:MAX_VALUES])) + (", …" if len(values) > MAX_VALUES else "")


def _as_png(path: Path) -> bytes:
    """The image as PNG, upright, shrunk if a side is longer than the server accepts. Raises InvalidInput."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    from seaway.errors import InvalidInput

    content = path.read_bytes()
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as opened, io.BytesIO() as png:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened.load()
            if opened.format == "PNG" and max(opened.size) <= MAX_SIDE_PX:
                return content
            image = ImageOps.exif_transpose(opened)
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
            image.save(png, "PNG")
            return png.getvalue()
    except UnidentifiedImageError:
        raise InvalidInput(f"{path}: not an image; give a PNG, a JPEG or any other format that Pillow reads") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
        raise InvalidInput(f"{path}: cannot be read as an image ({error})") from None
