"""`seaway evaluate`: the accuracy of a running server on a test set."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import load_options, options

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

CONFUSIONS = 10  # the most frequent ones are printed


def evaluate(
    url: Annotated[str, typer.Argument(help="URL of a running server.", metavar="URL")] = options.DEFAULT_URL,
    data: options.Data = "strokes",
    url_option: Annotated[str, typer.Option("--url", hidden=True, help="The same as the argument URL.")] = "",
    name: options.Name = "",
    protocol: load_options.Protocol = "",
    batch: Annotated[int, typer.Option(help="Images per request.", min=1)] = 128,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
) -> None:
    """Measures a running server on a test set: accuracy, balanced accuracy and the most frequent confusions.

    The merged accuracy, where the classes have them, counts 0, O and o as one class, and 1, I and l.

    [bold]Examples[/bold]

      seaway evaluate --data idx:path/to/emnist

      seaway evaluate http://127.0.0.1:30080 --data strokes --protocol tfs
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from seaway.data import datasets as sources
    from seaway.errors import InvalidInput
    from seaway.load import supported_protocols
    from seaway.load.client import Client
    from seaway.load.served_parity import predict_batches
    from seaway.protocols import client_codecs
    from seaway.protocols.calls import DEFAULT_SIGNATURE

    url = url_option or url
    cache = options.DEFAULT_ROOT.absolute() / "data"
    tls = options.tls(tls_ca, tls_cert, tls_key, insecure, url)
    with Client(url, tls=tls) as client:
        name = options.served_name(client, name)  # before the data is read
    with tempfile.TemporaryDirectory(prefix="seaway-") as folder:
        labels = sources.read(data, Path(folder), cache)
        images = np.load(Path(folder) / "test_images.npy", mmap_mode="r")
        true_classes = np.load(Path(folder) / "test_labels.npy")
        predicted = np.zeros(len(true_classes), np.int64)
        with Client(url, tls=tls) as client:
            signatures = client.signatures(name)
            # Servers choose serving_default themselves; another one has to be named
            chosen = "" if DEFAULT_SIGNATURE in signatures else min(signatures)
            signature = signatures[chosen or DEFAULT_SIGNATURE]
            if len(signature.inputs) != 1:
                names = sorted(tensor.name for tensor in signature.inputs)
                raise InvalidInput(f"{name} has the inputs {names}; only a model with one image input can be scored")
            outputs = [tensor.name for tensor in signature.outputs]
            output = "scores" if "scores" in outputs else outputs[0]

            def read_inputs(part: slice) -> "dict[str, np.ndarray]":
                return {signature.inputs[0].name: sources.model_input(images[part])}

            def send(candidate: client_codecs.Protocol) -> object:
                return client.predict(candidate, name, read_inputs(slice(1)), output, signature=chosen)

            candidates = supported_protocols.of_transport(url, supported_protocols.PREFERENCE)
            supported = supported_protocols.filter_supported(send, candidates)
            codec = client_codecs.named(protocol or next(supported))
            count = len(true_classes)
            batches = predict_batches(client, codec, name, None, read_inputs, count, [output], batch, chosen)
            for part, arrays, served_by in track(batches, "evaluating", total=-(-count // batch), transient=True):
                scores = arrays[output]
                if scores.ndim != 2 or scores.shape[1] != len(labels):
                    raise InvalidInput(
                        f"{served_by or url} returns scores of shape {scores.shape[1:]}, but {data} has "
                        f"{len(labels)} classes"
                    )
                predicted[part] = scores.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (true_classes, predicted), 1)
    _print(Console(), confusion, labels, served_by)


def _print(console: "Console", confusion: "np.ndarray", labels: tuple[str, ...], served_by: str) -> None:
    """`confusion`: counts [true class, predicted class]."""
    import numpy as np
    from rich.table import Table

    from seaway.data import merged

    per_class = confusion.sum(axis=1)
    recall = np.diag(confusion)[per_class > 0] / per_class[per_class > 0]
    console.print(f"{confusion.sum():,} images, served by {served_by or 'a server that does not report its model'}")
    console.print(f"accuracy           {np.trace(confusion) / confusion.sum():.2%}")
    alike = merged.accuracy(confusion, merged.look_alikes(labels))
    if alike is not None:
        console.print(f"accuracy, merged   {alike:.2%} (0, O and o as one class, and 1, I and l)")
    console.print(f"balanced accuracy  {recall.mean():.2%}")
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    table = Table("true label", "predicted as", "errors", "of", title="Most frequent confusions")
    for index in np.argsort(wrong, axis=None)[::-1][:CONFUSIONS]:
        true, predicted = np.unravel_index(index, wrong.shape)
        if wrong[true, predicted]:
            table.add_row(labels[true], labels[predicted], f"{wrong[true, predicted]:,}", f"{per_class[true]:,}")
    console.print(table)
