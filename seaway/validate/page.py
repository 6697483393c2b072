"""The parity report: hops, checks, and the distance of the outputs from the reference's."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.reporting import report
from seaway.reporting.report import Section
from seaway.validate.checks import Check
from seaway.validate.divergence import Divergence
from seaway.validate.hops import Hop

KINDS = {"onnx": "ONNX", "saved_model": "SavedModel"}  # artifacts whose names are not their kinds
_MIN_SHOWN = 1e-9  # |Δ| = 0 is drawn here


def render(
    metadata: ArtifactMetadata, hops: list[Hop], checks: list[Check], conversion: Mapping[str, Any],
    divergence: Divergence | None = None,
) -> str:  # fmt: skip
    """The whole HTML page. `conversion`: the convert stage's conversion.json; empty without one. `divergence`: if the
    SavedModel differs."""
    passed = all(check.passed for check in checks)
    reference = metadata.reference
    verdict = report.verdict(f"matches {reference} at every hop" if passed else "failed validation", passed)
    sections = [Section("Verdict", (verdict, *_faults(checks))), Section("Hops", (_hops(metadata, hops),))]
    if divergence:
        sections.append(Section("The operator that differs", _divergence(divergence)))
    if any(hop.distances for hop in hops):
        sections.append(Section(f"Distance from {reference}", _plots(metadata, hops)))
    sections.append(Section("Checks", (_checks(checks),)))
    sections.append(Section("Golden examples", (_golden(metadata),)))
    if conversion:
        sections.append(Section("Conversion", _conversion(conversion)))
    sections.append(Section("Artifacts", (_lineage(metadata),)))
    return report.page(
        f"Parity of {metadata.name}", sections, f"{reference}'s outputs compared with those of every later hop."
    )


def _faults(checks: list[Check]) -> list[str]:
    return [f"{check.name}: {fault}" for check in checks for fault in check.faults]


def _divergence(divergence: Divergence) -> list[Markup | str]:
    """The guilty node: its neighbourhood, and what both sides give; or why none is named."""
    guilty = divergence.guilty
    parts: list[Markup | str] = [f"Compared node by node on the input that failed: {divergence.sentence()}."]
    if not guilty:
        return parts
    before = [(near.operator, near.node, "") for near in guilty.neighbours if near.before]
    after = [(near.operator, near.node, "") for near in guilty.neighbours if not near.before]
    caption = "The nodes before and after it in the ONNX graph; at most three of each are drawn."
    alt = f"{guilty.operator} {guilty.node} and its neighbours"
    parts.append(report.flow(before, (guilty.operator, guilty.node, "differs"), after, alt, caption))
    rows: list[list[object]] = [["node", guilty.node], ["module", guilty.module], ["source", guilty.source]]
    rows += [[f"attribute {name}", value] for name, value in guilty.attributes.items()]
    rows += [["inputs", ", ".join(filter(None, guilty.inputs))], ["output", guilty.output]]
    rows += [["ONNX Runtime", guilty.shapes[0]], [divergence.other, guilty.failed or guilty.shapes[1]]]
    if guilty.expected:
        at = f"at [{', '.join(map(str, guilty.index))}]"
        rows += [[f"ONNX Runtime, {at}", guilty.expected], [f"{divergence.other}, {at}", guilty.actual]]
    rows += [["max |Δ|", guilty.max_abs], ["largest number", guilty.largest]]
    rows += [["values compared before it", divergence.compared]]
    parts.append(report.table(["property", "value"], [row for row in rows if row[1] not in ("", None)]))
    return parts


def _hops(metadata: ArtifactMetadata, hops: list[Hop]) -> Markup:
    names = [t.name for t in metadata.outputs]
    headers = [
        "hop",
        "accuracy",
        *(f"max |Δ| {name}" for name in names),
        "examples",
        "out of tolerance",
        "top-1 mismatch",
    ]
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
    allowed = ", ".join(
        f"{n}: {t.abs:.2g} + {t.rel:.2g} · |{metadata.reference}'s|" for n, t in metadata.tolerances.items()
    )
    return report.table(headers, rows, f"Tolerance of |Δ| per element: {allowed}")


def _checks(checks: list[Check]) -> Markup:
    rows = [[c.name, report.verdict("pass" if c.passed else "fail", c.passed), c.note] for c in checks]
    return report.table(["check", "result", "details"], rows)


def _golden(metadata: ArtifactMetadata) -> Markup:
    """The source of the examples, and the integers tried."""
    source = {"given": "--golden", "random": "seeded random numbers"}.get(
        metadata.settings.get("golden", ""), "the test set"
    )
    rows = [["examples", f"from {source}; ONNX opset {metadata.settings.get('opset', 'unknown')}"]]
    exporter = metadata.settings.get("exporter", f"none: {metadata.settings.get('model')} is an ONNX file")
    rows.append(["exporter", str(exporter)])
    rows += [[f"not by {name}", reason] for name, reason in metadata.settings.get("refused_exporters", {}).items()]
    rows += [[f"second opinion: {name}", said] for name, said in metadata.settings.get("second_opinion", {}).items()]
    for size, (low, high, step) in metadata.settings.get("sizes", {}).items():
        rows.append([f"size {size}", f"{low} to {high}" + (f" in steps of {step}" if step > 1 else "")])
    rows += [[f"not tried: {sizes}", why] for sizes, why in metadata.settings.get("refused_sizes", {}).items()]
    if said := metadata.settings.get("floats"):
        rows.append(["floats", str(said)])
    tried = metadata.settings.get("integers")
    if isinstance(tried, dict):
        rows += [[f"integers of {name}", f"forward() takes {ranges}"] for name, ranges in tried["accepted"].items()]
        rows.append(["trials", f"{tried['trials']}; {tried['examples']} examples contain such integers"])
    return report.table(["property", "value"], rows)


def _conversion(conversion: Mapping[str, Any]) -> tuple[Markup, ...]:
    """All numbers and operator counts of conversion.json."""
    models = [conversion.get("onnx", {}), conversion.get("saved_model", {})]
    operators = [model.get("operators", {}) for model in models]
    numbers = [{key: value for key, value in model.items() if key != "operators"} for model in models]
    if "folded" in conversion:
        numbers[0]["constant-folded nodes"] = conversion["folded"]
    return tuple(
        report.table(
            [name, "ONNX", "SavedModel"],
            [[report.words(key), *(side.get(key, "") for side in sides)] for key in dict.fromkeys(chain(*sides))],
        )
        for name, sides in (("quantity", numbers), ("operator", operators))
    )


def _plots(metadata: ArtifactMetadata, hops: list[Hop]) -> list[Markup]:
    return [_plot(metadata, hops, tensor.name) for tensor in metadata.outputs]


def _plot(metadata: ArtifactMetadata, hops: list[Hop], output: str) -> Markup:
    """A histogram of the examples' largest |Δ| for each hop, on a logarithmic axis, with the absolute tolerance."""
    figure = Figure(figsize=(8, 2.8))  # not layout="constrained", which draws everything twice
    axes = figure.add_axes((0.08, 0.2, 0.9, 0.68))
    distances = {hop.name: np.concatenate(hop.distances[output]) for hop in hops if hop.distances.get(output)}
    finite = {name: np.clip(d[np.isfinite(d)], _MIN_SHOWN, None) for name, d in distances.items()}
    tolerance = metadata.tolerances[output].abs if output in metadata.tolerances else _MIN_SHOWN
    largest = max([tolerance * 3, *(float(d.max(initial=0)) for d in finite.values())])
    bins = np.geomspace(_MIN_SHOWN, largest * 1.1, 40)
    for (name, distances_of_hop), colour in zip(finite.items(), report.COLOURS[1:], strict=False):
        axes.hist(distances_of_hop, bins=bins.tolist(), histtype="step", label=name, color=colour, linewidth=1.5)
    axes.axvline(tolerance, color=report.COLOURS[0], linestyle="--", label="tolerance (absolute part)")
    axes.set_xscale("log")
    axes.set_yscale("symlog")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"largest |Δ| per example, {output}")
    axes.set_ylabel("examples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return report.figure(figure, f"Distribution of the distance from {metadata.reference}, {output}")


def _lineage(metadata: ArtifactMetadata) -> Markup:
    rows: list[tuple[str, str, Markup]] = []

    def walk(artifact: ArtifactMetadata) -> None:
        rows.append((KINDS.get(artifact.kind, artifact.kind), artifact.name, report.code(artifact.sha256)))
        for parent in artifact.parents.values():
            walk(parent)

    walk(metadata)
    return report.table(["artifact", "name", "sha256"], rows)
