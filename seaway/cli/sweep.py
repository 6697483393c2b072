"""`seaway sweep`: searches settings of the train stage on this machine."""

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
        str,
        typer.Option(
            "--data", "--source", help="Data source, as for `seaway run`. Default: strokes.", metavar="SOURCE"
        ),
    ] = "",
    dataset: Annotated[Path | None, typer.Option(help="A dataset artifact, instead of --data.")] = None,
    net: Annotated[
        str, typer.Option(help="The network, as for `seaway run`; --search 'net=cnn|mlp' compares several.")
    ] = "cnn",
    trials: Annotated[int, typer.Option(help="Total number of trials, including those of earlier runs.", min=1)] = 20,
    minutes: Annotated[
        float, typer.Option(help="Pause after this many minutes. Default: never.", min=0, show_default=False)
    ] = 0,
    epochs: Annotated[
        int, typer.Option(help="Epochs per trial. Default: the network's own number.", min=0, show_default=False)
    ] = 0,
    search: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting to search, as NAME=LOW..HIGH[,log] or NAME=A|B|C; repeat for more. Default: learning_rate, "
            "weight_decay, label_smoothing, affine and elastic."
        ),
    ] = None,
    shared: Annotated[
        list[str] | None,
        typer.Option("--set", help="A training setting for all trials; repeat for more.", metavar="NAME=VALUE"),
    ] = None,
    metric: Annotated[
        Literal["accuracy", "balanced_accuracy", "loss"], typer.Option(help="The validation metric that ranks trials.")
    ] = "accuracy",
    validation: Annotated[
        float, typer.Option(help="Fraction of the training set used for validation.", min=0, max=0.5)
    ] = 0.1,
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="Stop poor trials early (median pruning).")] = True,
    seed: Annotated[int, typer.Option(help="Random seed of the sweep.", min=0)] = 0,
    final: Annotated[
        bool,
        typer.Option("--final", help="Afterwards, train with the best settings and evaluate once on the test set."),
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder for the sweep's state and results. Default: .seaway/sweeps/NET.", metavar="DIR"),
    ] = None,
) -> None:
    """Searches hyperparameters of the train stage (Optuna TPE): ranks many short trials on validation images; the test
    set is never used.

    After any interruption the same command continues the sweep; with more --trials it extends a finished one.

    [bold]Examples[/bold]

      seaway sweep --net mlp --epochs 4 --trials 12

      seaway sweep --data idx:path/to/emnist --minutes 120 --folder sweeps/emnist

      seaway sweep --search learning_rate=1e-3..1e-2,log --set affine=0
    """
    from seaway.errors import InvalidInput, ModelError
    from seaway.train.settings import Settings
    from seaway.train.tune import folder as sweep_folder
    from seaway.train.tune import results, space

    if data and dataset:
        raise InvalidInput(f"--data {data} and --dataset {dataset}: give one of the two")
    settings = Settings(net=net, epochs=epochs, validation=validation, seed=seed)
    settings, dimensions = space.parse(search or (), shared or (), settings)
    folder = folder or options.DEFAULT_ROOT / "sweeps" / settings.net
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the train stage does, before PyTorch is loaded
    with sweep_folder.locked(folder):
        from seaway.explore.explore import explore
        from seaway.train.tune import study

        if dataset is None:
            source, cache = absolute_source(data or "strokes"), options.DEFAULT_ROOT.absolute() / "data"
            dataset = sweep_folder.dataset(folder, source, cache, explore)
        with _stopping(minutes) as stopping:
            result = study.search(
                space.SweepConfig(dataset, settings, dimensions, metric, prune), folder, trials, stopping
            )
        if final and result.best and result.finished >= trials:
            from seaway.train.tune.trial import train_best

            result = train_best(result, folder)
        _show(result, folder)
    if result.finished < trials:
        typer.echo(f"{result.finished} of {trials} trials are finished. Run the same command again to continue.")
        raise SystemExit(130 if stopping.interrupted else 0)
    if result.best is None:
        raise ModelError(
            "all trials failed (reasons above): try e.g. --search learning_rate=1e-5..1e-3,log in a new --folder"
        )
    typer.echo("To train with the best settings:")
    typer.echo(results.command(result, folder))


class _Stopping:
    """Whether to pause the sweep: its time is up, or the user pressed Ctrl-C."""

    def __init__(self, minutes: float) -> None:
        self._deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.interrupted = False

    def late(self) -> bool:
        return time.monotonic() >= self._deadline

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
    """Prints the table and its interpretation, and writes sweep.json and sweep.html."""
    from rich.console import Console
    from rich.table import Table

    from seaway.artifacts import atomic
    from seaway.train.tune import folder as sweep_folder
    from seaway.train.tune import report, results

    console_table = Table(*results.headers(result))
    for row in results.rows(result):
        console_table.add_row(*row, style="bold" if row[1] == "best" else None)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # lines in a file do not wrap
    console.print(console_table)
    for trial, remark in results.remarks(result):
        typer.echo(f"{trial}: {remark}")
    for sentence in results.sentences(result):
        typer.echo(sentence)
    results.write(result, folder / sweep_folder.JSON)
    with atomic.file(folder / sweep_folder.HTML) as part:
        part.write_text(report.render(result, folder), encoding="utf-8")
    typer.echo(f"Report   {(folder / sweep_folder.HTML).absolute().as_uri()}")
