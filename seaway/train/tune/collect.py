"""From Optuna's trials and the outcomes beside them to the sweep's result."""

import dataclasses
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from seaway.artifacts import card as cards
from seaway.train.tune import folder as places
from seaway.train.tune import scores
from seaway.train.tune.results import State, Sweep, Trial
from seaway.train.tune.space import Plan, Value
from seaway.train.tune.trial import Ground

STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}


def record(frozen: FrozenTrial) -> Trial:
    attributes: dict[str, Any] = frozen.user_attrs
    curve = tuple(frozen.intermediate_values[epoch] for epoch in sorted(frozen.intermediate_values))
    done = frozen.state == TrialState.COMPLETE
    settings: dict[str, Value] = attributes.get("settings", {})
    return Trial(
        number=frozen.number + 1,
        settings=settings,
        state=STATES[frozen.state],
        curve=curve,
        cpu_minutes=attributes.get("cpu_seconds", 0.0) / 60,
        value=frozen.value if done else None,
        error=attributes.get("error") if done else None,
        reason=attributes.get("reason", ""),
    )


def collect(study: optuna.Study, plan: Plan, on: Ground, folder: Path, wanted: int) -> Sweep:
    records = tuple(record(frozen) for frozen in study.trials if frozen.state in STATES)
    result = Sweep(
        dataset=str(plan.dataset),
        source=str(cards.read(plan.dataset).settings.get("source", plan.dataset)),
        metric=plan.metric,
        settings=plan.settings,
        space={dimension.name: str(dimension) for dimension in plan.space},
        pruning=plan.pruning,
        learnt_from=on.learnt_from,
        judged_on=len(on.labels),
        wanted=max(wanted, sum(record.state != "unfinished" for record in records)),
        trials=records,
    )
    if result.best is None:
        return result
    best = scores.read(places.outcome(folder, result.best.number))
    trials = []
    for held in result.trials:
        if held.state == "done":
            outcome = scores.read(places.outcome(folder, held.number))
            distance, error = scores.difference(best, outcome, on.labels, plan.metric)
            held = dataclasses.replace(held, behind=abs(distance), behind_error=error)
        trials.append(held)
    return dataclasses.replace(result, trials=tuple(trials))
