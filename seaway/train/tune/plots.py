"""The plots of a sweep: figures in the order of the trials and against each setting, and all learning curves."""

import itertools
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from seaway.reporting import report
from seaway.reporting.report import COLOURS
from seaway.train.tune.results import Sweep, Trial
from seaway.train.tune.scores import METRICS

ACROSS = 3  # panels a row
EDGES = "Triangles at the edge: further away. Ticks at the bottom: not trained to the end."
BEST, DONE, STOPPED, DEFAULTS = COLOURS[1], COLOURS[0], COLOURS[4], COLOURS[2]


def course(sweep: Sweep) -> Markup:
    """Every trial's figure in the order of the trials, and the best so far."""
    drawn = Figure(figsize=(9, 3), layout="constrained")
    axes = drawn.subplots()
    better = max if METRICS[sweep.metric] else min
    so_far = list(itertools.accumulate((trial.value or 0 for trial in sweep.done), better))
    numbers = [trial.number for trial in sweep.done]
    axes.step(
        [*numbers, max(sweep.finished, numbers[-1])], [*so_far, so_far[-1]], where="post", color=BEST, linewidth=1.5
    )
    _points(axes, sweep, {trial.number: trial.number for trial in sweep.trials})
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(sweep.measured)
    _bare(axes)
    handles = [*_handles(sweep), Line2D([], [], color=BEST, linewidth=1.5, label="best so far")]
    drawn.legend(handles=handles, loc="outside upper left", frameon=False, ncols=len(handles), fontsize="small")
    caption = f"Bars: one standard error. {EDGES}"
    return report.figure(drawn, "Each trial's figure, and the best so far", caption)


def settings(sweep: Sweep) -> Markup:
    """A panel for each setting that was searched: its values, and what came of them."""
    names = list(sweep.space)
    high = -(-len(names) // ACROSS)
    drawn = Figure(figsize=(9, 2.6 * high + 0.3), layout="constrained")
    panels = drawn.subplots(high, ACROSS, sharey=True, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        values = {trial.number: trial.settings[name] for trial in sweep.trials if name in trial.settings}
        if "|" in sweep.space[name]:
            choices = sweep.space[name].split("|")
            _points(axes, sweep, {number: choices.index(str(value)) for number, value in values.items()})
            axes.set_xticks(range(len(choices)), choices)
            axes.margins(x=0.2)
        else:
            axes.set_xscale("log" if sweep.space[name].endswith(",log") else "linear")
            _points(axes, sweep, {number: float(value) for number, value in values.items()})
        axes.set_xlabel(name.replace("_", " "))
        _bare(axes)
    for axes in panels[::ACROSS]:
        axes.set_ylabel(sweep.measured)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    handles = _handles(sweep)
    drawn.legend(handles=handles, loc="outside upper left", frameon=False, ncols=len(handles), fontsize="small")
    caption = (
        f"All settings change together, and the search goes where it was good: what slopes is a hint, no proof. {EDGES}"
    )
    return report.figure(drawn, "The figure of each trial against each setting", caption)


def _points(axes: Axes, sweep: Sweep, places: Mapping[int, float]) -> None:
    """Trials by number at their places: done ones with their standard errors, the others as ticks at the bottom."""
    low, high = _limits(sweep)
    for trial in sweep.trials:
        if trial.number not in places:
            continue
        place, order = places[trial.number], 3 if trial.number == _best(sweep) else 2
        style: dict[str, Any] = {"color": _colour(sweep, trial), "zorder": order}
        if trial.value is None:
            axes.plot(place, 0.02, marker="|", transform=axes.get_xaxis_transform(), markersize=7, **style)
        elif low <= trial.value <= high:
            axes.errorbar(place, trial.value, trial.error or 0, fmt="o", markersize=5, linewidth=0.8, **style)
        else:
            marker, edge = ("v", low) if trial.value < low else ("^", high)
            axes.plot(place, edge, marker=marker, markersize=6, clip_on=False, **style)
    axes.set_ylim(low, high)


def _limits(sweep: Sweep) -> tuple[float, float]:
    """What the axis of the figures shows: a trial that learnt nothing is not to press all others into a line."""
    assert sweep.best
    best, sign = sweep.best.value or 0, 1 if METRICS[sweep.metric] else -1
    behind = sorted(abs(best - (trial.value or 0)) for trial in sweep.done)
    error = max(sweep.best.error or 0, 1e-3)
    reach = min(behind[-1] + 2 * error, max(4 * behind[len(behind) // 2], 6 * error))
    low, high = sorted((best - sign * reach, best + sign * 2 * error))
    return low, high


def curves(sweep: Sweep) -> Markup:
    """The figure after each epoch of each trial, the best drawn last."""
    drawn = Figure(figsize=(9, 3.6), layout="constrained")
    axes = drawn.subplots()
    for trial in sorted(sweep.trials, key=lambda trial: (trial.state == "done", trial.number == _best(sweep))):
        epochs = range(1, len(trial.curve) + 1)
        done, best = trial.state == "done", trial.number == _best(sweep)
        axes.plot(
            epochs, trial.curve, color=_colour(sweep, trial), linewidth=2 if best else 1, alpha=0.9 if done else 0.55,
            linestyle="-" if done else ":", marker="" if done else "x", markevery=[-1] if trial.curve else None,
            markersize=5,
        )  # fmt: skip
    low, high = _limits(sweep)
    shown = [value for trial in sweep.done if low <= (trial.value or 0) <= high for value in trial.curve]
    air = 0.05 * (max(shown) - min(shown)) + 1e-3
    axes.set_ylim(min(shown) - air, max(shown) + air)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(sweep.measured)
    _bare(axes)
    handles = _handles(sweep, line=True)
    drawn.legend(handles=handles, loc="outside upper left", frameon=False, ncols=len(handles), fontsize="small")
    caption = "All trials have the same schedule of epochs. Curves that stay far below the others are cut off."
    return report.figure(drawn, "Validation figure after each epoch", caption)


def _best(sweep: Sweep) -> int:
    return sweep.best.number if sweep.best else 0


def _colour(sweep: Sweep, trial: Trial) -> str:
    if trial.number == _best(sweep):
        return BEST
    if sweep.defaults and trial.number == sweep.defaults.number:
        return DEFAULTS
    return DONE if trial.state == "done" else STOPPED


def _handles(sweep: Sweep, line: bool = False) -> list[Line2D]:
    named = [("best", BEST), ("done", DONE)]
    if sweep.defaults and sweep.defaults.state == "done" and sweep.defaults.number != _best(sweep):
        named.append(("training's own settings", DEFAULTS))
    dot = {"linestyle": "-"} if line else {"linestyle": "", "marker": "o"}
    handles = [Line2D([], [], color=colour, label=label, markersize=5, **dot) for label, colour in named]  # type: ignore[arg-type]
    if any(trial.state != "done" for trial in sweep.trials):
        tick = {"linestyle": ":", "marker": "x"} if line else {"linestyle": "", "marker": "|"}
        handles.append(Line2D([], [], color=STOPPED, label="not to the end", markersize=6, **tick))  # type: ignore[arg-type]
    return handles


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
