"""A sweep's progress: a bar on a terminal, and a line for each trial everywhere."""

from types import TracebackType

from rich import progress
from rich.console import Console

from seaway.train.tune.results import Trial, minutes
from seaway.train.tune.scores import METRICS
from seaway.train.tune.space import Value


class Progress:
    """A trial is one unit of the bar, however many steps it has; what pruning saves is subtracted from the total."""

    def __init__(self, metric: str, epochs: int, trials: int, finished: int) -> None:
        self._metric, self._epochs, self._trials = metric.replace("_", " "), epochs, trials
        self._better = max if METRICS[metric] else min
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._best: float | None = None
        self._number, self._steps, self._remaining = 0, 1, 0.0
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[best]}"),
            progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("sweep", total=trials, completed=finished, best="")

    def completed(self, values: list[float]) -> None:
        """Takes the scores of the trials that completed earlier."""
        for value in values:
            self._compare(value)

    def begin(self, number: int, settings: dict[str, Value]) -> None:
        self._number, self._remaining = number, 1.0
        values = ", ".join(f"{name} {value}" for name, value in settings.items())
        self._console.print(f"trial {number}/{self._trials}: {values}")

    def resume(self, step: int, steps: int) -> None:
        self._steps = steps
        self._remaining = 1 - step / steps
        if step:
            self._console.print(f"trial {self._number}/{self._trials}: resumes after {step:,} of {steps:,} steps")
        self._bar.update(self._task, advance=step / steps, description=self._title(step * self._epochs // steps + 1))

    def step(self) -> None:
        self._remaining -= 1 / self._steps
        self._bar.update(self._task, advance=1 / self._steps)

    def epoch(self, epoch: int, value: float) -> None:
        if not self._console.is_terminal:
            self._console.print(f"  epoch {epoch}/{self._epochs}: validation {self._metric} {value:.4f}")
        self._bar.update(self._task, description=self._title(min(epoch + 1, self._epochs)))

    def end(self, trial: Trial) -> None:
        if trial.value is not None:
            outcome = f"validation {self._metric} {trial.value:.4f} ± {trial.error:.4f}"
            self._compare(trial.value)
        elif trial.state == "pruned":
            outcome = f"pruned after epoch {len(trial.curve)}, at {trial.curve[-1]:.4f}"
        else:
            outcome = f"failed: {trial.reason}"
        self._console.print(f"trial {trial.number}/{self._trials}: {outcome}, {minutes(trial.cpu_minutes)} CPU minutes")
        total = self._bar.tasks[0].total or 0
        self._bar.update(self._task, total=total - self._remaining)

    def _compare(self, value: float) -> None:
        self._best = value if self._best is None else self._better(self._best, value)
        self._bar.update(self._task, best=f"best {self._best:.4f}")

    def _title(self, epoch: int) -> str:
        return f"trial {self._number}/{self._trials}, epoch {epoch}/{self._epochs}"

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
