"""A sweep's trials as rows of text, for terminal and report alike, and what is to be said of them in words."""

from sweep.results import Sweep, Trial
from sweep.scores import METRICS


def headers(sweep: Sweep) -> list[str]:
    shown = sweep.metric.replace("_", " ")
    return ["trial", *sweep.space, "epochs", shown, "behind the best", "CPU min", "state"]


def rows(sweep: Sweep) -> list[list[str]]:
    """The best first."""
    return [_row(sweep, trial) for trial in sweep.ordered()]


def _row(sweep: Sweep, trial: Trial) -> list[str]:
    value = behind = ""
    if trial.value is not None:
        value = f"{trial.value:.4f} ± {trial.error:.4f}"
    elif trial.curve:
        value = f"({trial.curve[-1]:.4f})"
    best = sweep.best
    if best and trial.number != best.number and trial.behind is not None:
        behind = f"{trial.behind:.4f} ± {trial.behind_error:.4f}"
    settings = [_setting(trial.settings.get(name, "")) for name in sweep.space]
    return [
        str(trial.number),
        *settings,
        str(len(trial.curve)),
        value,
        behind,
        f"{trial.cpu_minutes:.1f}",
        state(sweep, trial),
    ]


def _setting(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def state(sweep: Sweep, trial: Trial) -> str:
    """In words: how it ended, and whether it can be told from the best."""
    said = f"{trial.state}: {trial.reason}" if trial.reason else str(trial.state)
    if sweep.best and trial.number == sweep.best.number:
        return "best"
    return f"{said}, as good as the best" if trial.alike else said


def sentences(sweep: Sweep) -> list[str]:
    """What the figures mean, and what they do not."""
    best, done = sweep.best, len(sweep.done)
    if best is None:
        return ["No trial came to its end, so there is no best one."]
    shown = sweep.metric.replace("_", " ")
    said = [
        f"Trial {best.number} is the best of {done} that came to their end: validation {shown} {best.value:.4f}, with "
        f"a standard error of {best.error:.4f} from {sweep.judged_on:,} pictures."
    ]
    others = [str(trial.number) for trial in sweep.ordered() if trial.alike and trial.number != best.number]
    if others:
        which = f"trial {others[0]}" if len(others) == 1 else f"trials {', '.join(others[:-1])} and {others[-1]}"
        said.append(f"These pictures cannot tell it from {which}: within two standard errors of the difference.")
    elif done > 1:
        said.append("All others are behind it by more than two standard errors of the difference.")
    said += _against_defaults(sweep, best)
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
        return ["It has training's own settings: the search found nothing better."]
    if own.behind is None:
        return [f"Trial {own.number}, with training's own settings, was {own.state}."]
    much = "which is no difference" if own.alike else "which is more than chance"
    return [
        f"Training's own settings, trial {own.number}, are {own.behind:.4f} ± {own.behind_error:.4f} behind it, {much}."
    ]
