"""`seaway sweep`: a search for good settings of the train stage, on this machine."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seaway.cli import options
from seaway.cli.run import absolute_source

if TYPE_CHECKING:
    from seaway.train.tune.results import Sweep


def sweep(
    data: Annotated[
        str, typer.Option("--data", "--source", help="Where pictures come from, as for 'seaway run'. Default: strokes.")
    ] = "",
    dataset: Annotated[Path | None, typer.Option(help="A dataset artifact, instead of --data.")] = None,
    net: Annotated[str, typer.Option(help="As for 'seaway run'; searched by --search 'net=cnn|mlp'.")] = "cnn",
    trials: Annotated[int, typer.Option(help="Trials in all, those of earlier runs included.", min=1)] = 20,
    minutes: Annotated[float, typer.Option(help="Pauses after so long; 0: never.", min=0)] = 0,
    epochs: Annotated[int, typer.Option(help="Epochs of each trial; 0 for the net's own default.", min=0)] = 0,
    search: Annotated[
        list[str] | None,
        typer.Option(help="NAME=LOW..HIGH[,log] or NAME=A|B|C; repeat for more. Default: five settings."),
    ] = None,
    shared: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, for all trials alike; repeat for more.")
    ] = None,
    metric: Annotated[
        Literal["accuracy", "balanced_accuracy", "loss"], typer.Option(help="What a trial is judged by, on validation.")
    ] = "accuracy",
    validation: Annotated[float, typer.Option(help="Share of the training set that judges.", min=0, max=0.5)] = 0.1,
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="Stop trials early that fall behind.")] = True,
    seed: Annotated[int, typer.Option(help="Makes the sweep repeatable.", min=0)] = 0,
    final: Annotated[
        bool, typer.Option("--final", help="At the end train the best, and look at the test set once.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where the sweep is kept, to go on from. Default: .seaway/sweeps/NET.")
    ] = None,
) -> None:
    """Searches settings of the train stage: many short trainings, judged on validation pictures, never on the test set.

    Ended in whatever way, the same command goes on where it stood. More --trials go on with a sweep that is done.

    [bold]Examples[/bold]

      seaway sweep --net mlp --epochs 4 --trials 12

      seaway sweep --data idx:path/to/emnist --minutes 120 --folder sweeps/emnist

      seaway sweep --search learning_rate=1e-3..1e-2,log --set affine=0
    """
    from seaway.errors import InvalidInput, ModelError
    from seaway.train.settings import Settings
    from seaway.train.tune import folder as places
    from seaway.train.tune import results, space

    if data and dataset:
        raise InvalidInput(f"--data {data} and --dataset {dataset}: give one of the two")
    settings = Settings(net=net, epochs=epochs, validation=validation, seed=seed)
    settings, dimensions = space.parse(search or (), shared or (), settings)
    folder = folder or options.DEFAULT_ROOT / "sweeps" / settings.net
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the train stage does, before PyTorch is loaded
    with places.alone(folder):
        from seaway.explore.explore import explore
        from seaway.train.tune import study

        if dataset is None:
            source, cache = absolute_source(data or "strokes"), options.DEFAULT_ROOT.absolute() / "data"
            dataset = places.dataset(folder, source, cache, explore)
        with _stopping(minutes) as stopping:
            result = study.search(space.Plan(dataset, settings, dimensions, metric, prune), folder, trials, stopping)
        if final and result.best and result.finished >= trials:
            from seaway.train.tune.final import train_best

            result = train_best(result, folder)
        _show(result, folder)
    if result.finished < trials:
        typer.echo(f"{result.finished} of {trials} trials are finished. Nothing is lost: run the same again to go on.")
        raise typer.Exit(130 if stopping.interrupted else 0)
    if result.best is None:
        raise ModelError("all trials failed, and the table says why; search lower learning rates, in another --folder")
    typer.echo("To train with the best settings:")
    typer.echo(results.command(result, folder))


class _Stopping:
    """Whether the sweep is to pause: time is up, or somebody pressed Ctrl-C."""

    def __init__(self, minutes: float) -> None:
        self._until = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.interrupted = False

    def late(self) -> bool:
        return time.monotonic() >= self._until

    def __call__(self) -> bool:
        return self.interrupted or self.late()


@contextmanager
def _stopping(minutes: float) -> Iterator[_Stopping]:
    """The first Ctrl-C lets a trial save its state; a second one ends the process at once."""
    stopping = _Stopping(minutes)

    def interrupt(*_: object) -> None:
        stopping.interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)


def _show(result: "Sweep", folder: Path) -> None:
    """The table and its meaning on the terminal, sweep.json and sweep.html in the folder."""
    from rich.console import Console
    from rich.table import Table

    from seaway.artifacts import atomic
    from seaway.train.tune import folder as places
    from seaway.train.tune import page, results, table

    shown = Table(*table.headers(result))
    for row in table.rows(result):
        shown.add_row(*row, style="bold" if row[1] == "best" else None)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file's lines do not wrap
    console.print(shown)
    for trial, remark in table.remarks(result):
        typer.echo(f"{trial}: {remark}")
    for sentence in table.sentences(result):
        typer.echo(sentence)
    results.write(result, folder / places.JSON)
    with atomic.file(folder / places.HTML) as part:
        part.write_text(page.render(result, folder), encoding="utf-8")
    typer.echo(f"Report   {(folder / places.HTML).absolute().as_uri()}")
