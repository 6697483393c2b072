"""Summarises a finished run: which stage failed, why, and the end of its log.

Kubeflow tells an exit handler only that something failed, not what or why. The run's pods show both.
"""

from collections.abc import Sequence
from pathlib import Path

from seaway.artifacts import atomic
from seaway.errors import SeawayError
from seaway.kube import api_client, run_diagnostics
from seaway.kube.run_diagnostics import StageFailure

# Kubeflow's driver passes the metadata store's states; kfp.local and the API have their own.
_SUCCEEDED = ("SUCCEEDED", "COMPLETE", "CACHED")
_ENDED = (*_SUCCEEDED, "FAILED", "CANCELED", "CANCELLED")


def run_summary(run: str, state: str, report: Path | None = None, namespace: str = "") -> None:
    """Prints the run's summary and writes it to `report`, as Markdown. `namespace`: the run's; "" for this pod's own.

    A cluster that cannot be read raises no error: the summary must not fail the run.
    """
    namespace = namespace or api_client.own_namespace()
    failures: list[StageFailure] = []
    note = ""
    try:
        if namespace:
            failures = run_diagnostics.stage_failures(api_client.connect(), namespace, run)
        else:
            note = "The run was not on a cluster, so there are no pods to read."
    except SeawayError as error:
        note = f"The run's pods cannot be read: {error}"
    text = page(run, state, failures, note)
    print(text, flush=True)
    if report:
        with atomic.file(report) as part:
            part.write_text(text, encoding="utf-8")


def page(run: str, state: str, failures: Sequence[StageFailure], note: str = "") -> str:
    """Returns the summary as Markdown. `state`: as Kubeflow's driver or kfp.local reports it."""
    succeeded = state in _SUCCEEDED
    if state not in _ENDED:  # the store misses the end of a run whose stage lost its pod
        state = "FAILED" if any(failure.failed for failure in failures) else "UNKNOWN"
    parts = [f"# Run {run}: {'succeeded' if succeeded else state.lower()}"]
    for failure in failures:
        parts.append(f"## {failure.stage}")
        parts.append("\n".join(f"- {reason}" for reason in failure.reasons))
        if failure.lost:
            parts.append("The stage lost its pod and is not at fault itself: submit the run again.")
        if failure.log_tail:
            parts.append("\n".join(f"    {line}" for line in failure.log_tail))
    if not failures and not note:
        note = "No pod of the run failed." if succeeded else "No pod of the run failed, or its pods are gone."
    return "\n\n".join(part for part in (*parts, note) if part) + "\n"
