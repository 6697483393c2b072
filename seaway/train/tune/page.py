"""The sweep's report: what was found and how sure that is, how the search went, and every trial."""

from pathlib import Path

from markupsafe import Markup

from seaway.reporting import report
from seaway.reporting.report import Section
from seaway.train.tune import plots, results, table
from seaway.train.tune.results import Sweep


def render(sweep: Sweep, folder: Path) -> str:
    """The whole page as HTML."""
    sections = [Section("Result", [_facts(sweep), *table.sentences(sweep), *_final(sweep)])]
    if sweep.best:
        sections += [
            Section(
                "Train with the best settings",
                [Markup("<p><code>{}</code></p>").format(results.command(sweep, folder))],
            ),
            Section("Course of the search", [plots.course(sweep)]),
            Section("Each setting", [plots.settings(sweep)]),
            Section("Learning curves", [plots.curves(sweep)]),
        ]
    sections += [
        Section("All trials", [_trials(sweep), *_remarks(sweep)]),
        Section("How it was searched", [_how(sweep)]),
    ]
    lead = f"{sweep.finished} of {sweep.wanted} trials, {sweep.settings.epochs} epochs each, on {sweep.source}."
    return report.page(f"Sweep of {sweep.settings.net}", sections, lead)


def _facts(sweep: Sweep) -> Markup:
    best = sweep.best
    shown = {f"validation {sweep.measured}": f"{best.value:.4f}", "standard error": f"{best.error:.4f}"} if best else {}
    return report.facts(
        {
            **shown,
            "done": len(sweep.done),
            "stopped early": sum(trial.state == "stopped early" for trial in sweep.trials),
            "failed": sum(trial.state == "failed" for trial in sweep.trials),
            "CPU minutes": table.minutes(sum(trial.cpu_minutes for trial in sweep.trials)),
        }
    )


def _final(sweep: Sweep) -> list[str]:
    if not sweep.final:
        return ["The test set has not been looked at."]
    figures = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in sweep.final.items())
    return [f"The best settings were trained for good, and the test set was looked at once: {figures}."]


def _trials(sweep: Sweep) -> Markup:
    return report.table(table.headers(sweep), table.rows(sweep), _legend(sweep))


def _remarks(sweep: Sweep) -> list[Markup]:
    said = table.remarks(sweep)
    return [report.table(["", "what became of it"], said)] if said else []


def _legend(sweep: Sweep) -> str:
    return (
        f"{sweep.measured.capitalize()} on validation after the last epoch ± standard error; in brackets where a trial "
        "did not come so far. Behind the best: the difference on the same pictures ± its own standard error."
    )


def _how(sweep: Sweep) -> Markup:
    shared = {k: v for k, v in sweep.settings.essential().items() if k not in sweep.space}
    rows = [
        ["dataset", sweep.source],
        ["learnt from", f"{sweep.learnt_from:,} pictures"],
        ["judged on", f"{sweep.judged_on:,} pictures of the training set, the same for all"],
        ["proposed by", "Optuna's TPE"],
        [
            "stopped",
            "more than two standard errors behind the median of the done ones, after a third of the epochs"
            if sweep.pruning
            else "never",
        ],
        *([name, f"searched: {space}"] for name, space in sweep.space.items()),
        *([name, str(value)] for name, value in shared.items()),
    ]
    return report.table(["", ""], rows)
