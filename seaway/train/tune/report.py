"""The report of a sweep: the result and its uncertainty, the search, and every trial."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from seaway.reporting import report
from seaway.reporting.report import COLOURS, Section
from seaway.train.tune import results
from seaway.train.tune.results import Sweep, Trial
from seaway.train.tune.scores import METRICS

COLUMNS = 3  # panels in a row
OFF_SCALE = "Triangles at the edge are off the scale. Ticks at the bottom are trials that did not complete."
BEST, DONE, INCOMPLETE, DEFAULTS = COLOURS[1], COLOURS[0], COLOURS[4], COLOURS[2]


def render(sweep: Sweep, folder: Path) -> str:
    """The whole page as HTML."""
    sections = [Section("Result", [_facts(sweep), *results.sentences(sweep), *_final(sweep)])]
    if sweep.best:
        command = report.paragraph(report.code(results.command(sweep, folder)))
        sections += [
            Section("Train with the best settings", [command]),
            Section("Search history", [_history(sweep)]),
            Section("Each setting", [_settings(sweep)]),
            *([Section("Learning curves", [_curves(sweep)])] if _has_curves(sweep) else []),
        ]
    sections += [
        Section("All trials", [_trials(sweep), *_remarks(sweep)]),
        Section("Search configuration", [_configuration(sweep)]),
    ]
    epochs = "1 epoch" if sweep.settings.epochs == 1 else f"{sweep.settings.epochs} epochs"
    lead = f"{sweep.finished} of {sweep.wanted} trials, {epochs} each, on {sweep.source}."
    return report.page(f"Sweep of {sweep.settings.net}", sections, lead)


def _facts(sweep: Sweep) -> Markup:
    best = sweep.best
    scores = (
        {f"validation {sweep.metric_name}": f"{best.value:.4f}", "standard error": f"{best.error:.4f}"} if best else {}
    )
    return report.facts(
        {
            **scores,
            "done": len(sweep.done),
            "pruned": sum(trial.state == "pruned" for trial in sweep.trials),
            "failed": sum(trial.state == "failed" for trial in sweep.trials),
            "CPU minutes": results.minutes(sum(trial.cpu_minutes for trial in sweep.trials)),
        }
    )


def _final(sweep: Sweep) -> list[str]:
    if not sweep.final:
        return ["The test set has not been used."]
    metrics = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in sweep.final.items())
    return [f"The best settings were then trained on the training set and evaluated once on the test set: {metrics}."]


def _trials(sweep: Sweep) -> Markup:
    caption = (
        f"Validation {sweep.metric_name} after the last epoch ± standard error; in brackets if the trial did not "
        "complete. Gap to best: the difference on the same images ± its standard error."
    )
    return report.table(results.headers(sweep), results.rows(sweep), caption)


def _remarks(sweep: Sweep) -> list[Markup]:
    remarks = results.remarks(sweep)
    return [report.table(["", "remark"], remarks)] if remarks else []


def _configuration(sweep: Sweep) -> Markup:
    shared = {k: v for k, v in sweep.settings.essential().items() if k not in sweep.space}
    rows: list[list[str]] = [
        ["dataset", sweep.source],
        ["training images", f"{sweep.train_size:,}"],
        ["validation images", f"{sweep.validation_size:,} of the training set, the same for all trials"],
        ["sampler", "Optuna's TPE"],
        [
            "pruning",
            "after a third of the epochs, if more than two standard errors behind the median of the completed trials"
            if sweep.pruning
            else "off",
        ],
        *([report.words(name), f"searched: {_describe(space)}"] for name, space in sweep.space.items()),
    ]
    return report.settings(shared, *rows)


def _describe(space: str) -> str:
    """A searched range or choice, as written on the command line, in words."""
    return space.replace("..", " to ").replace("|", ", ").replace(",log", ", log scale")


# ---- plots


def _history(sweep: Sweep) -> Markup:
    """Every trial's score in the order of the trials, and the best so far."""
    plot = Figure(figsize=(9, 3), layout="constrained")
    axes = plot.subplots()
    better = max if METRICS[sweep.metric] else min
    so_far = list(itertools.accumulate((trial.value or 0 for trial in sweep.done), better))
    numbers = [trial.number for trial in sweep.done]
    axes.step(
        [*numbers, max(sweep.finished, numbers[-1])], [*so_far, so_far[-1]], where="post", color=BEST, linewidth=1.5
    )
    _points(axes, sweep, {trial.number: trial.number for trial in sweep.trials})
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(sweep.metric_name)
    _hide_frame(axes)
    handles = [*_handles(sweep), Line2D([], [], color=BEST, linewidth=1.5, label="best so far")]
    plot.legend(handles=handles, loc="outside upper left", frameon=False, ncols=len(handles), fontsize="small")
    caption = f"Error bars are one standard error. {OFF_SCALE}"
    return report.figure(plot, f"{sweep.metric_name.capitalize()} of each trial, and the best so far", caption)


def _settings(sweep: Sweep) -> Markup:
    """A panel for each searched setting: the scores of the trials against its values."""
    names = list(sweep.space)
    rows = -(-len(names) // COLUMNS)
    plot = Figure(figsize=(9, 2.6 * rows + 0.3), layout="constrained")
    panels = plot.subplots(rows, COLUMNS, sharey=True, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        values = {trial.number: trial.settings[name] for trial in sweep.trials if name in trial.settings}
        if "|" in sweep.space[name]:
            choices = sweep.space[name].split("|")
            _points(axes, sweep, {number: choices.index(str(value)) for number, value in values.items()})
            axes.set_xticks(range(len(choices)), choices)
            axes.margins(x=0.2)
        else:
            _points(axes, sweep, {number: float(value) for number, value in values.items()})
            if sweep.space[name].endswith(",log"):
                report.log_scale(axes, "x", map(float, values.values()))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(report.words(name))
        _hide_frame(axes)
    for axes in panels[::COLUMNS]:
        axes.set_ylabel(sweep.metric_name)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    handles = _handles(sweep)
    plot.legend(handles=handles, loc="outside upper left", frameon=False, ncols=len(handles), fontsize="small")
    caption = (
        "All settings change together, and the search concentrates where results were good, so a slope is a hint, not "
        f"proof. {OFF_SCALE}"
    )
    return report.figure(plot, f"{sweep.metric_name.capitalize()} of each trial against each setting", caption)


def _points(axes: Axes, sweep: Sweep, positions: Mapping[int, float]) -> None:
    """Trials at the x positions given by number: completed ones with error bars, others as ticks at the bottom."""
    low, high = _limits(sweep)
    for trial in sweep.trials:
        if trial.number not in positions:
            continue
        x, order = positions[trial.number], 3 if trial.number == _best(sweep) else 2
        style: dict[str, Any] = {"color": _colour(sweep, trial), "zorder": order}
        if trial.value is None:
            axes.plot(x, 0.02, marker="|", transform=axes.get_xaxis_transform(), markersize=7, **style)
        elif low <= trial.value <= high:
            axes.errorbar(x, trial.value, trial.error or 0, fmt="o", markersize=5, linewidth=0.8, **style)
        else:
            marker, edge = ("v", low) if trial.value < low else ("^", high)
            axes.plot(x, edge, marker=marker, markersize=6, clip_on=False, **style)
    axes.set_ylim(low, high)


def _limits(sweep: Sweep) -> tuple[float, float]:
    """The range of the score axis: a trial that learned nothing must not squeeze all others into a line."""
    assert sweep.best
    best, sign = sweep.best.value or 0, 1 if METRICS[sweep.metric] else -1
    behind = sorted(abs(best - (trial.value or 0)) for trial in sweep.done)
    error = max(sweep.best.error or 0, 1e-3)
    reach = min(behind[-1] + 2 * error, max(4 * behind[len(behind) // 2], 6 * error))
    low, high = sorted((best - sign * reach, best + sign * 2 * error))
    return low, high


def _curves(sweep: Sweep) -> Markup:
    """The score after each epoch of each trial, the best drawn last."""
    plot = Figure(figsize=(9, 3.6), layout="constrained")
    axes = plot.subplots()
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
    margin = 0.05 * (max(shown) - min(shown)) + 1e-3
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(sweep.metric_name)
    _hide_frame(axes)
    handles = _handles(sweep, line=True)
    plot.legend(handles=handles, loc="outside upper left", frameon=False, ncols=len(handles), fontsize="small")
    caption = "All trials have a learning-rate schedule of the same length. Curves far from the others are cut off."
    return report.figure(plot, f"Validation {sweep.metric_name} after each epoch", caption)


def _has_curves(sweep: Sweep) -> bool:
    return any(len(trial.curve) > 1 for trial in sweep.trials)


def _best(sweep: Sweep) -> int:
    return sweep.best.number if sweep.best else 0


def _colour(sweep: Sweep, trial: Trial) -> str:
    if trial.number == _best(sweep):
        return BEST
    if sweep.defaults and trial.number == sweep.defaults.number:
        return DEFAULTS
    return DONE if trial.state == "done" else INCOMPLETE


def _handles(sweep: Sweep, line: bool = False) -> list[Line2D]:
    entries = [("best", BEST), ("done", DONE)]
    if sweep.defaults and sweep.defaults.state == "done" and sweep.defaults.number != _best(sweep):
        entries.append(("default settings", DEFAULTS))
    dot = {"linestyle": "-"} if line else {"linestyle": "", "marker": "o"}
    handles = [Line2D([], [], color=colour, label=label, markersize=5, **dot) for label, colour in entries]  # type: ignore[arg-type]
    if any(trial.state != "done" for trial in sweep.trials):
        tick = {"linestyle": ":", "marker": "x"} if line else {"linestyle": "", "marker": "|"}
        handles.append(Line2D([], [], color=INCOMPLETE, label="not completed", markersize=6, **tick))  # type: ignore[arg-type]
    return handles


def _hide_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
