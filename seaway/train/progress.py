"""A run's progress: a bar on a terminal, and a line for each epoch everywhere."""

from types import TracebackType

from rich import progress
from rich.console import Console

from seaway.train.loop import Epoch


class Progress:
    def __init__(self, console: Console, epochs: int, steps_per_epoch: int, done: int) -> None:
        self._console, self._epochs = console, epochs
        self._bar = progress.Progress(
            progress.TextColumn("training"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("loss {task.fields[loss]:.3f}"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=epochs * steps_per_epoch, completed=done, loss=float("nan"))

    def step(self, loss: float) -> None:
        self._bar.update(self._task, advance=1, loss=loss)

    def epoch(self, row: Epoch) -> None:
        validation = f", validation accuracy {row['validation_accuracy']:.4f}" if "validation_accuracy" in row else ""
        self._console.print(f"epoch {row['epoch']:.0f}/{self._epochs}: loss {row['loss']:.4f}{validation}")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
