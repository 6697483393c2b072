"""Follows a Kubeflow run to its end: stage changes, what blocks a stage, why it failed; resubmits if a pod was lost."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seaway.arguments import seaway_command

if TYPE_CHECKING:
    from rich.console import Console

    from seaway.kube.run_diagnostics import StageFailure
    from seaway.pipeline.kubeflow import Kubeflow, RunStatus

POLLS_UNTIL_DIAGNOSIS = 6  # without a change; then the pods are checked for what blocks them
UNREACHABLE_TIMEOUT_S = 120  # for a host that responded before
INTERRUPTED = 130  # exit status
MAX_RESUBMISSIONS = 2
_COLOURS = {
    "RUNNING": "cyan", "SUCCEEDED": "green", "CACHED": "green", "FAILED": "bold red", "CANCELED": "bold red",
}  # fmt: skip


@dataclass(frozen=True)
class Watch:
    """How to follow runs. `namespace`: of their pods; `context`: of kubectl's configuration; `poll_interval_s`: between
    requests for the state; `pull_deadline_s`: how long an image may fail to be pulled."""

    api: "Kubeflow"
    namespace: str
    context: str
    poll_interval_s: float
    pull_deadline_s: float
    console: "Console"


def follow(watch: Watch, run: str, resubmit: Callable[[int], str] | None = None) -> None:
    """Prints each change of a stage, and raises SeawayError unless the run succeeds.

    `resubmit` is called with 1, 2, … if a stage lost its pod: it submits the run again and returns the new run's id.
    Without it the run is only observed: nothing is submitted or terminated.
    """
    from seaway.errors import SeawayError

    submitted = 0
    while True:
        ended = _wait_for_end(watch, run, resubmit is not None)
        if ended.state == "SUCCEEDED":
            watch.console.print(f"[green]The run succeeded[/green]: {watch.api.page(run)}")
            return
        failures, unreadable = _diagnose(watch, run)
        message = _end_message(watch, run, ended, failures, unreadable)
        if not _only_lost_pods(ended, failures):
            raise SeawayError(message)
        if resubmit is None:
            raise SeawayError(
                f"{message}\n  the stage failed only because its pod was lost: submit the run again; training resumes"
            )
        if submitted == MAX_RESUBMISSIONS:
            raise SeawayError(
                f"{message}\n  the stage failed only because its pod was lost, but this was resubmission "
                f"{submitted}, the last"
            )
        submitted += 1
        watch.console.print(message[0].upper() + message[1:], style="yellow", markup=False)
        run = resubmit(submitted)
        watch.console.print(f"Resubmitted ({submitted} of {MAX_RESUBMISSIONS}), because the stage only lost its pod")
        watch.console.print(f"Run   {run}\nPage  {watch.api.page(run)}")


def _wait_for_end(watch: Watch, run: str, own: bool) -> "RunStatus":
    """The run's final state. `own`: whether to terminate it if an image cannot be pulled."""
    from seaway.errors import Refused, Unavailable
    from seaway.pipeline.kubeflow import FINAL_STATES

    api = watch.api
    continues = f"the run continues: {api.page(run)}; to follow it again: " + seaway_command(
        "submit", "--host", api.host, "--follow", run
    )
    printed: dict[str, str] = {}
    blockers = _Blockers(watch, run, own)
    started = time.monotonic()
    try:
        while True:
            state = _poll(api, run, watch.poll_interval_s)
            changes = {stage: now for stage, now in state.stages.items() if printed.get(stage) != now}
            for stage, now in sorted(changes.items(), key=lambda change: change[1] == "RUNNING"):  # ended ones first
                _print_change(watch.console, time.monotonic() - started, stage, now)
            printed |= changes
            if state.state in FINAL_STATES:
                return state
            blockers.check(state, bool(changes))
            time.sleep(watch.poll_interval_s)
    except (Refused, Unavailable) as error:
        raise type(error)(f"{error}; {continues}") from None
    except KeyboardInterrupt:
        watch.console.print(f"\nInterrupted; {continues}")
        raise SystemExit(INTERRUPTED) from None


def _poll(api: "Kubeflow", run: str, interval_s: float) -> "RunStatus":
    """The run's state, from a host that may be unreachable for a while."""
    from seaway.errors import Unavailable

    deadline = time.monotonic() + UNREACHABLE_TIMEOUT_S
    while True:
        try:
            return api.run_status(run)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(interval_s)


def _print_change(console: "Console", elapsed_s: float, stage: str, state: str) -> None:
    colour = _COLOURS.get(state, "dim")
    clock = f"{elapsed_s // 60:3.0f}:{elapsed_s % 60:02.0f}"
    console.print(f"[dim]{clock}[/dim]  {stage:<12} [{colour}]{state.lower()}[/{colour}]")


class _Blockers:
    """Reports what keeps stages from starting, which Kubeflow's states do not show, and images that are not pulled."""

    def __init__(self, watch: Watch, run: str, own: bool) -> None:
        self._watch, self._run, self._own = watch, run, own
        self._polls_without_change = 0
        self._unreadable = ""  # why the pods cannot be read: an unreachable cluster is not tried twice
        self._printed: set[str] = set()
        self._not_pulled_since: dict[str, float] = {}  # stage → when its image was first seen not to be pulled

    def check(self, state: "RunStatus", changed: bool) -> None:
        """Prints blockers after some polls without a change, each line once. Raises SeawayError after the deadline for
        an image."""
        self._polls_without_change = 0 if changed and not state.pending else self._polls_without_change + 1
        if not self._polls_without_change or self._polls_without_change % POLLS_UNTIL_DIAGNOSIS:
            return
        failures, unreadable = _diagnose(self._watch, self._run, self._unreadable)
        self._unreadable = self._unreadable or unreadable
        blocked = [failure for failure in failures if not failure.failed]
        for line in (f"        {failure.stage}: {reason}" for failure in blocked for reason in failure.reasons):
            if line not in self._printed:
                self._watch.console.print(line, markup=False)
                self._printed.add(line)
        now = time.monotonic()
        not_pulled = [failure for failure in blocked if failure.image]
        self._not_pulled_since = {each.stage: self._not_pulled_since.get(each.stage, now) for each in not_pulled}
        for failure in not_pulled:
            if now - self._not_pulled_since[failure.stage] > self._watch.pull_deadline_s:
                self._give_up(failure)

    def _give_up(self, failure: "StageFailure") -> None:
        from seaway.errors import SeawayError

        api, deadline_s = self._watch.api, self._watch.pull_deadline_s
        outcome = "the run continues"
        if self._own:
            try:
                api.terminate(self._run)
                outcome = "the run was terminated"
            except SeawayError as error:
                outcome = f"the run could not be terminated ({error})"
        reasons = "".join(f"\n  {reason}" for reason in failure.reasons)
        raise SeawayError(
            f"{failure.stage} waited {deadline_s:g} s for an image that cannot be pulled: {failure.image}; {outcome}: "
            f"{api.page(self._run)}{reasons}\n  push the image, or give another --registry"
        )


# ---- diagnosis


def _diagnose(watch: Watch, run: str, unreadable: str = "") -> tuple[list["StageFailure"], str]:
    """What blocks stages or made them fail, from Kubeflow's API and, if kubectl's configuration has the cluster, from
    the run's pods; and why these cannot be read, or "". `unreadable`: that reason, if it is known already."""
    from seaway.errors import SeawayError
    from seaway.kube import api_client, run_diagnostics

    workflow = watch.api.workflow(run)
    if workflow and unreadable:
        return run_diagnostics.workflow_failures(workflow), unreadable
    try:
        return run_diagnostics.stage_failures(api_client.connect(watch.context), watch.namespace, run, workflow), ""
    except SeawayError as error:
        return run_diagnostics.workflow_failures(workflow), str(error)


def _only_lost_pods(ended: "RunStatus", failures: list["StageFailure"]) -> bool:
    """Whether every failed stage lost its pod: a stage that failed for any other reason would fail again."""
    failed = {each.stage.removesuffix(" (its driver)"): each.lost for each in failures if each.failed}
    stages = {stage for stage, now in ended.stages.items() if now == "FAILED"}
    return ended.state == "FAILED" and bool(failed) and stages <= failed.keys() and all(failed.values())


def _end_message(watch: Watch, run: str, ended: "RunStatus", failures: list["StageFailure"], unreadable: str) -> str:
    """How the run ended, why, and the logs of what failed, or how to see them."""
    from seaway.kube import run_diagnostics

    selector, container = f"{run_diagnostics.RUN_LABEL}={run}", run_diagnostics.MAIN_CONTAINER
    hint = f"kubectl -n {watch.namespace} logs -l {selector} -c {container} --tail=20 --prefix"
    failed = [one for one in failures if one.failed]
    reasons = list(ended.messages)
    for one in failed:
        reasons += [f"{one.stage}:", *(f"  {reason}" for reason in one.reasons)]
        reasons += [f"  | {line}" for line in one.log_tail]
    if unreadable:
        subject = "the pods' logs" if failed else "the reasons"
        reasons.append(f"{subject} cannot be read from here ({unreadable}); with access to the cluster: {hint}")
    elif not failed:
        reasons.append(f"kubectl's context has no failed pod of the run in {watch.namespace}; in its cluster: {hint}")
    stages = [stage for stage, now in ended.stages.items() if now == "FAILED"]
    where = f" in {', '.join(stages)}" if stages else ""
    return f"the run {ended.state.lower()}{where}: {watch.api.page(run)}" + "".join(f"\n  {one}" for one in reasons)
