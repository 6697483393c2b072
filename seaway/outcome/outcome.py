"""The last word of a run, whatever became of it: which stage failed, why, and what it said itself.

Kubeflow tells an exit handler that something failed, and neither what nor why; the pods of the run do.
"""

from collections.abc import Sequence
from pathlib import Path

from seaway.artifacts import atomic
from seaway.errors import SeawayError
from seaway.kube import kube, runs
from seaway.kube.runs import Trouble

# Kubeflow's driver gives the metadata store's states, kfp.local and the API their own.
_SUCCEEDED = ("SUCCEEDED", "COMPLETE", "CACHED")
_ENDED = (*_SUCCEEDED, "FAILED", "CANCELED", "CANCELLED")


def outcome(run: str, state: str, report: Path | None = None, namespace: str = "") -> None:
    """Prints how the run ended, and writes it to `report` as Markdown. `namespace`: the run's; "" for this pod's own.

    Raises nothing for a cluster that will not tell: a run is not to fail for its last word.
    """
    namespace = namespace or kube.own_namespace()
    found: list[Trouble] = []
    note = ""
    try:
        if namespace:
            found = runs.troubles(kube.connect(), namespace, run)
        else:
            note = "These stages have no pods, so they cannot be asked."
    except SeawayError as error:
        note = f"What the pods say cannot be told: {error}"
    text = page(run, state, found, note)
    print(text, flush=True)
    if report:
        with atomic.file(report) as part:
            part.write_text(text, encoding="utf-8")


def page(run: str, state: str, found: Sequence[Trouble], note: str = "") -> str:
    """As Markdown. `state`: as Kubeflow's driver or kfp.local give it."""
    succeeded = state in _SUCCEEDED
    if state not in _ENDED:  # the store was not told the end, as of a stage whose pod was lost
        state = "FAILED" if any(one.failed for one in found) else "UNKNOWN"
    parts = [f"# Run {run}: {'succeeded' if succeeded else state.lower()}"]
    for one in found:
        parts.append(f"## {one.stage}")
        parts.append("\n".join(f"- {reason}" for reason in one.reasons))
        if one.lost:
            parts.append("Its pod was taken from it, by no fault of its own: submit the run again.")
        if one.said:
            parts.append("\n".join(f"    {line}" for line in one.said))
    if not found and not note:
        note = "No pod of the run failed." if succeeded else "No pod of the run failed, or none is left."
    return "\n\n".join(part for part in (*parts, note) if part) + "\n"
