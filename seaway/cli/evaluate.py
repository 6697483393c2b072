"""`seaway evaluate`: the score of a running server on a test set."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import options, plans

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

WORST = 10


def evaluate(
    data: options.Data = "strokes",
    url: options.Url = options.DEFAULT_URL,
    name: options.Name = options.DEFAULT_NAME,
    protocol: plans.Protocol = "",
    batch: Annotated[int, typer.Option(help="Pictures a request.", min=1)] = 128,
) -> None:
    """Scores a running server on a test set: accuracy, balanced accuracy and its worst confusions.

    [bold]Examples[/bold]

      seaway evaluate --data idx:path/to/emnist

      seaway evaluate --data strokes --url http://127.0.0.1:30080 --protocol tfs
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from seaway.data import data as sources
    from seaway.errors import InvalidInput
    from seaway.load import served, spoken
    from seaway.load.client import Client
    from seaway.protocols import wire

    cache = options.DEFAULT_ROOT.absolute() / "data"
    with tempfile.TemporaryDirectory(prefix="seaway-") as folder:
        labels = sources.read(data, Path(folder), cache)
        images = np.load(Path(folder) / "test_images.npy", mmap_mode="r")
        truth = np.load(Path(folder) / "test_labels.npy")
        guesses = np.zeros(len(truth), np.int64)
        with Client(url) as client:
            inputs = client.metadata(name)["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
            if len(inputs) != 1:
                raise InvalidInput(f"{name} takes {sorted(inputs)}, and only a model of pictures alone can be scored")
            (given,) = inputs

            def take(part: slice) -> "dict[str, np.ndarray]":
                return {given: sources.model_input(images[part])}

            def ask(tried: wire.Protocol) -> object:
                return client.predict(tried, name, take(slice(1)), "scores")

            chosen = wire.named(protocol or next(spoken.speaking(ask, spoken.FIRST)))
            answers = served.scores(client, chosen, name, None, take, len(truth), "scores", batch)
            for part, scores, by in track(answers, "evaluating", total=-(-len(truth) // batch), transient=True):
                if scores.ndim != 2 or scores.shape[1] != len(labels):
                    raise InvalidInput(
                        f"{by or url} answers {scores.shape[1:]} scores, {data} has {len(labels)} classes"
                    )
                guesses[part] = scores.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, guesses), 1)
    _print(Console(), confusion, labels, by)


def _print(console: "Console", confusion: "np.ndarray", labels: tuple[str, ...], served_by: str) -> None:
    """`confusion` [true class, answered class] of counts."""
    import numpy as np
    from rich.table import Table

    per_class = confusion.sum(axis=1)
    recall = np.diag(confusion)[per_class > 0] / per_class[per_class > 0]
    console.print(f"{confusion.sum():,} pictures, answered by {served_by}")
    console.print(f"accuracy           {np.trace(confusion) / confusion.sum():.2%}")
    console.print(f"balanced accuracy  {recall.mean():.2%}")
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    table = Table("is", "taken for", "times", "of", title="worst confusions")
    for index in np.argsort(wrong, axis=None)[::-1][:WORST]:
        true, answered = np.unravel_index(index, wrong.shape)
        if wrong[true, answered]:
            table.add_row(labels[true], labels[answered], f"{wrong[true, answered]:,}", f"{per_class[true]:,}")
    console.print(table)
