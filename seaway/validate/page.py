"""The parity report: hops, checks, and how far the answers are from PyTorch's."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from seaway.artifacts.card import Card
from seaway.reporting import report
from seaway.reporting.report import Section
from seaway.validate.checks import Check
from seaway.validate.hops import Hop

_SMALLEST = 1e-9  # where |Δ| = 0 is drawn


def render(card: Card, hops: list[Hop], checks: list[Check], conversion: Mapping[str, Any]) -> str:
    """The whole HTML page. `conversion`: the convert stage's conversion.json, empty without one."""
    passed = all(check.passed for check in checks)
    verdict = report.verdict("equal to PyTorch at every hop" if passed else "refused", passed)
    sections = [Section("Verdict", (verdict, *_faults(checks))), Section("Hops", (_hops(card, hops),))]
    if any(hop.distances for hop in hops):
        sections.append(Section("Distance from PyTorch", _plots(card, hops)))
    sections.append(Section("Checks", (_checks(checks),)))
    sections.append(Section("Golden examples", (_golden(card),)))
    if conversion:
        sections.append(Section("Conversion", _conversion(conversion)))
    sections.append(Section("Artifacts", (_lineage(card),)))
    return report.page(f"Parity of {card.name}", sections, "What PyTorch answered, and what every later hop answers.")


def _faults(checks: list[Check]) -> list[str]:
    return [f"{check.name}: {fault}" for check in checks for fault in check.faults]


def _hops(card: Card, hops: list[Hop]) -> Markup:
    names = [t.name for t in card.outputs]
    headers = ["hop", "accuracy", *(f"max |Δ| {name}" for name in names), "examples", "out of tolerance", "other class"]
    rows = [
        [
            hop.name,
            "n/a" if hop.accuracy is None else f"{hop.accuracy:.2%}",
            *(f"{hop.max_abs[name]:.2g}" if name in hop.max_abs else "n/a" for name in names),
            hop.examples,
            hop.wrong,
            hop.flipped,
        ]
        for hop in hops
    ]
    allowed = ", ".join(f"{n}: {t.abs:.2g} + {t.rel:.2g} · |PyTorch's|" for n, t in card.tolerances.items())
    return report.table(headers, rows, f"Tolerance of |Δ|, element by element: {allowed}")


def _checks(checks: list[Check]) -> Markup:
    rows = [[c.name, report.verdict("passed" if c.passed else "failed", c.passed), c.note] for c in checks]
    return report.table(["check", "result", "looked at"], rows)


def _golden(card: Card) -> Markup:
    """Where the examples come from, and which integers were tried."""
    source = {"given": "--golden", "random": "seeded random numbers"}.get(
        card.settings.get("golden", ""), "the test set"
    )
    rows = [["examples", f"from {source}; ONNX opset {card.settings.get('opset', 'unknown')}"]]
    tried = card.settings.get("integers")
    if isinstance(tried, dict):
        rows += [[f"integers of {name}", f"forward() takes {ranges}"] for name, ranges in tried["accepted"].items()]
        rows.append(["integers tried", f"{tried['trials']} times in all; {tried['examples']} examples have such"])
    return report.table(["what", "which"], rows)


def _conversion(conversion: Mapping[str, Any]) -> tuple[Markup, ...]:
    """Its numbers and counts, whichever they are."""
    numbers, counts = [], []
    for side, found in conversion.items():
        for name, value in found.items() if isinstance(found, dict) else [("nodes", found)]:
            if isinstance(value, dict):
                counts += [[side, operator, count] for operator, count in value.items()]
            else:
                numbers.append([side, name, value])
    return (
        report.table(["of", "what", "number"], numbers),
        report.table(["of", "operator", "nodes"], counts),
    )


def _plots(card: Card, hops: list[Hop]) -> list[Markup]:
    return [_plot(card, hops, tensor.name) for tensor in card.outputs]


def _plot(card: Card, hops: list[Hop], output: str) -> Markup:
    """One histogram a hop over the examples' largest |Δ|, on a logarithmic axis, with the absolute tolerance."""
    figure = Figure(figsize=(8, 2.8))  # not layout="constrained", which draws all of it twice
    axes = figure.add_axes((0.08, 0.2, 0.9, 0.68))
    distances = {hop.name: np.concatenate(hop.distances[output]) for hop in hops if hop.distances.get(output)}
    finite = {name: np.clip(d[np.isfinite(d)], _SMALLEST, None) for name, d in distances.items()}
    tolerance = card.tolerances[output].abs if output in card.tolerances else _SMALLEST
    largest = max([tolerance * 3, *(float(d.max(initial=0)) for d in finite.values())])
    bins = np.geomspace(_SMALLEST, largest * 1.1, 40)
    for (name, found), colour in zip(finite.items(), report.COLOURS[1:], strict=False):
        axes.hist(found, bins=bins.tolist(), histtype="step", label=name, color=colour, linewidth=1.5)
    axes.axvline(tolerance, color=report.COLOURS[0], linestyle="--", label="tolerance (absolute part)")
    axes.set_xscale("log")
    axes.set_yscale("symlog")
    axes.set_xlabel(f"largest |Δ| of an example, {output}")
    axes.set_ylabel("examples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return report.figure(figure, f"Distribution of the distance from PyTorch, {output}")


def _lineage(card: Card) -> Markup:
    rows: list[tuple[str, str, str]] = []

    def walk(at: Card) -> None:
        rows.append((at.kind, at.name, at.sha256))
        for parent in at.parents.values():
            walk(parent)

    walk(card)
    return report.table(["artifact", "name", "sha256"], rows)
