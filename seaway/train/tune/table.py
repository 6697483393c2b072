"""A sweep's trials as rows of text, for terminal and report alike, and what is to be said of them in words."""

from seaway.train.tune.results import Sweep, Trial
from seaway.train.tune.scores import METRICS


def headers(sweep: Sweep) -> list[str]:
    settings = [name.replace("_", " ") for name in sweep.space]
    return ["trial", "state", sweep.measured, "behind the best", "epochs", "CPU min", *settings]


def rows(sweep: Sweep) -> list[list[str]]:
    """The best first."""
    return [_row(sweep, trial) for trial in sweep.ordered()]


def _row(sweep: Sweep, trial: Trial) -> list[str]:
    value = behind = ""
    if trial.value is not None:
        value = _with_error(trial.value, trial.error)
    elif trial.curve:
        value = f"({trial.curve[-1]:.4f})"
    best = sweep.best
    if best and trial.number != best.number and trial.behind is not None:
        behind = _with_error(trial.behind, trial.behind_error)
    settings = [_setting(trial.settings.get(name, "")) for name in sweep.space]
    epochs = str(len(trial.curve))
    return [str(trial.number), state(sweep, trial), value, behind, epochs, minutes(trial.cpu_minutes), *settings]


def remarks(sweep: Sweep) -> list[tuple[str, str]]:
    """Trials of which more is to be said, and what: why they failed, or which other trial had the same settings."""
    return [(f"trial {trial.number}", trial.reason) for trial in sweep.trials if trial.reason]


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{error or 0:.4f}"


def minutes(cpu: float) -> str:
    return f"{cpu:.1f}" if cpu >= 1 else f"{cpu:.2f}"


def _setting(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def state(sweep: Sweep, trial: Trial) -> str:
    """In words: how it ended, and whether it can be told from the best."""
    if sweep.best and trial.number == sweep.best.number:
        return "best"
    return "as good" if trial.alike else trial.state.replace(" ", "\N{NO-BREAK SPACE}")


def sentences(sweep: Sweep) -> list[str]:
    """What the figures mean, and what they do not."""
    best, done = sweep.best, len(sweep.done)
    if best is None:
        return ["No trial came to its end, so there is no best one."]
    which = f"is the best of {done} that came to their end" if done > 1 else "is the only one that came to its end"
    said = [
        f"Trial {best.number} {which}: validation {sweep.measured} {best.value:.4f}, with "
        f"a standard error of {best.error:.4f} from {sweep.judged_on:,} pictures."
    ]
    others = [str(trial.number) for trial in sweep.ordered() if trial.alike and trial.number != best.number]
    if others:
        which = f"trial {others[0]}" if len(others) == 1 else f"trials {', '.join(others[:-1])} and {others[-1]}"
        said.append(f"These pictures cannot tell it from {which}: within two standard errors of the difference.")
    elif done > 1:
        said.append("All others are behind it by more than two standard errors of the difference.")
    said += _against_defaults(sweep, best)
    stopped = sum(trial.state == "stopped early" for trial in sweep.trials)
    if stopped:
        those = "One was" if stopped == 1 else f"{stopped} were"
        said.append(
            f"{those} stopped early, behind the others at the same epoch: what the last one had come to is not known."
        )
    if done > 1:
        more = "high" if METRICS[sweep.metric] else "low"
        said.append(
            f"The best of {done} figures is by choice a little too {more}; and another seed, which none of this "
            "counts, would move every figure. The fair figure is the test set's."
        )
    return said


def _against_defaults(sweep: Sweep, best: Trial) -> list[str]:
    own = sweep.defaults
    if own is None or own.state == "unfinished":
        return []
    if own.number == best.number:
        return [
            "It has training's own settings" + (": the search found nothing better." if len(sweep.done) > 1 else ".")
        ]
    if own.behind is None:
        return [f"Trial {own.number}, with training's own settings, was {own.state}."]
    much = "which is no difference" if own.alike else "which is more than chance"
    return [
        f"Training's own settings, trial {own.number}, are {own.behind:.4f} ± {own.behind_error:.4f} behind it, {much}."
    ]
