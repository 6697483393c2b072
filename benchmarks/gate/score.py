"""From results to the mutation score: classes, and the share that the gate kills, kind by kind."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.tables import table

KILLED, SURVIVED, BELOW, EQUIVALENT = "killed", "survived", "below tolerance", "equivalent"
NOT_CONVERTED, PASSED, REFUSED = "not converted", "passed", "refused"
CLASSES = (KILLED, SURVIVED, BELOW, EQUIVALENT, NOT_CONVERTED)
OF_NETWORKS = (PASSED, REFUSED)  # unchanged ones
UNCHANGED = "unchanged"  # the kind of such results
WEIGHT_CHECKS = ("weights", "files")  # "files" fails if the test of weights cannot be completed
EQUIVALENTS = Path(__file__).with_name("equivalent.json")
MAX_REASON = 110

Result = dict[str, Any]


def verdict(checks: list[str], ratio: float | None) -> dict[str, str]:
    """The class with the whole gate, and that without the test of weights, from the checks that failed; `ratio`: of
    the search, which is needed where outputs alone do not refuse."""
    outputs = [check for check in checks if check not in WEIGHT_CHECKS]
    if outputs:
        return {"class": KILLED, "without_weights": KILLED}
    assert ratio is not None
    missed = BELOW if ratio <= 1 else SURVIVED
    return {"class": KILLED if checks else missed, "without_weights": missed}


def equivalents() -> dict[str, str]:
    """Mutant → the algebraic reason why it computes the same."""
    reasons: dict[str, str] = json.loads(EQUIVALENTS.read_text(encoding="utf-8"))
    return reasons


def score(classes: list[str]) -> float | None:
    """killed / (killed + survived); None without either."""
    counts = Counter(classes)
    counted = counts[KILLED] + counts[SURVIVED]
    return counts[KILLED] / counted if counted else None


def classified(results: list[Result], reasons: dict[str, str]) -> list[Result]:
    """Results of mutants, those that compute the same in a class of their own. Raises ValueError for one of these that
    differs by more than the tolerance."""
    done = []
    for result in results:
        if result["kind"] == UNCHANGED:
            continue
        if result["id"] in reasons:
            if KILLED in (result["class"], result["without_weights"]):
                raise ValueError(f"{result['id']} is in {EQUIVALENTS.name}, but the gate killed it")
            result = result | {"class": EQUIVALENT, "without_weights": EQUIVALENT}
        done.append(result)
    return done


def summary(results: list[Result], of: int, reasons: dict[str, str]) -> str:
    """The tables; `of`: how many mutants the list has."""
    mutants = classified(results, reasons)
    networks = [result for result in results if result["kind"] == UNCHANGED]
    commits = ", ".join(sorted({result["commit"] for result in results}))
    refused = sum(result["class"] == REFUSED for result in networks)
    text = f"{len(mutants)} of {of} mutants; {len(networks)} unchanged networks, {refused} refused; "
    text += f"{sum(result['cpu_s'] for result in results):.0f} CPU s; commits {commits}\n\n"
    light = [result for result in mutants if not result["weight"]]
    rows = [
        _row("the whole gate, all mutants", [result["class"] for result in mutants]),
        _row("the whole gate, not of weights", [result["class"] for result in light]),
        _row("without the test of weights, not of weights", [result["without_weights"] for result in light]),
        _row("without the test of weights, all mutants", [result["without_weights"] for result in mutants]),
    ]
    text += table(["", "mutants", *CLASSES, "score"], rows) + "\n"
    text += _named(mutants)
    kinds = list(dict.fromkeys(result["kind"] for result in mutants))
    by_kind = []
    for kind in kinds:
        own = [result for result in mutants if result["kind"] == kind]
        without = [result["without_weights"] for result in own if not result["weight"]]
        by_kind.append([*_row(kind, [result["class"] for result in own]), percent(score(without))])
    by_kind.sort(key=lambda row: (row[-2] == "", float(str(row[-2]).rstrip(" %") or 0)))
    text += table(["kind", "mutants", *CLASSES, "score", "not of weights, their test off"], by_kind) + "\n"
    checks = Counter(check for result in mutants for check in result.get("checks", []))
    text += table(["check that refused", "mutants"], checks.most_common()) + "\n"
    missed = [result for result in mutants if SURVIVED in (result["class"], result["without_weights"])]
    survivors = [
        [r["kind"], r["net"], r["operator"], r["id"].split(" ", 2)[2], r["class"], _times(r), r["structure"]]
        for r in missed
    ]
    head = ["kind", "network", "operator", "mutant", "whole gate", "difference ÷ tolerance", "found with"]
    return text + table(head, survivors)


def _named(mutants: list[Result]) -> str:
    """Of the killed mutants, how many refusals name the node that was changed, and those that do not."""
    killed = [each for each in mutants if each["class"] == KILLED and "named" in each]  # not in earlier results
    if not killed:
        return ""
    right = sum(each["named_right"] for each in killed)
    text = f"right node named: {right} of {len(killed)} killed, {percent(right / len(killed))}\n\n"
    wrong = [[each["id"], each["named"] or "none"] for each in killed if not each["named_right"]]
    return text + (table(["mutant", "named instead"], wrong) + "\n" if wrong else "")


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}".replace("%", " %")


def _row(name: str, classes: list[str]) -> list[object]:
    counts = Counter(classes)
    return [name, len(classes), *(counts[each] for each in CLASSES), percent(score(classes))]


def _times(result: Result) -> str:
    return "∞" if result["ratio"] is None else f"{result['ratio']:.3g}"
