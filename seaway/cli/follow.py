"""A run of Kubeflow's to its end: each stage's changes, what holds it up, why it failed; again where a pod was lost."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from seaway.kube.runs import Trouble
    from seaway.pipeline.kubeflow import Kubeflow, State

QUIET_LOOKS = 6  # without a change, after which the pods are asked whether something holds them up
PATIENCE = 120  # seconds of a host that answered before and does not now
INTERRUPTED = 130
AGAIN = 2  # times that a run is submitted again
_COLOURS = {
    "RUNNING": "cyan", "SUCCEEDED": "green", "CACHED": "green", "FAILED": "bold red", "CANCELED": "bold red",
}  # fmt: skip


@dataclass(frozen=True)
class Watch:
    """How runs are followed. `namespace`: of their pods; `context`: of kubectl's configuration; `poll`: seconds between
    looks; `pull_deadline`: seconds that an image may not be pulled."""

    api: "Kubeflow"
    namespace: str
    context: str
    poll: float
    pull_deadline: float
    console: "Console"


def follow(watch: Watch, run: str, again: Callable[[int], str] | None = None) -> None:
    """Tells each change of a stage, and raises SeawayError where the run ends otherwise than well.

    `again`: submits it another time (1, 2), where a stage's pod was lost, and returns the new run's id. Without it the
    run is only looked at: nothing is submitted, and nothing ended.
    """
    from seaway.errors import SeawayError

    submitted = 0
    while True:
        ended = _to_the_end(watch, run, again is not None)
        if ended.state == "SUCCEEDED":
            watch.console.print(f"[green]The run succeeded[/green]: {watch.api.page(run)}")
            return
        found, unread = _why(watch, run)
        told = _ending(watch, run, ended, found, unread)
        if not _lost(ended, found):
            raise SeawayError(told)
        if again is None:
            raise SeawayError(f"{told}\n  no fault of the stage's: submit it again; training goes on where it was")
        if submitted == AGAIN:
            raise SeawayError(f"{told}\n  no fault of the stage's, but submitted again {AGAIN} times already")
        submitted += 1
        watch.console.print(told[0].upper() + told[1:], style="yellow", markup=False)
        run = again(submitted)
        watch.console.print(f"Submitted again ({submitted} of {AGAIN}), for a pod was lost and no stage failed itself")
        watch.console.print(f"Run   {run}\nPage  {watch.api.page(run)}")


def _to_the_end(watch: Watch, run: str, own: bool) -> "State":
    """The run's last state. `own`: whether it may be ended, where an image does not come."""
    from seaway.errors import Refused, Unavailable
    from seaway.pipeline.kubeflow import FINAL

    api = watch.api
    goes_on = f"the run goes on: {api.page(run)}; to follow it again: seaway submit --host {api.host} --follow {run}"
    said: dict[str, str] = {}
    waiting = _Waiting(watch, run, own)
    began = time.monotonic()
    try:
        while True:
            state = _look(api, run, watch.poll)
            news = {stage: now for stage, now in state.stages.items() if said.get(stage) != now}
            for stage, now in sorted(news.items(), key=lambda one: one[1] == "RUNNING"):  # first what ended
                _tell(watch.console, time.monotonic() - began, stage, now)
            said |= news
            if state.state in FINAL:
                return state
            waiting.look(state, bool(news))
            time.sleep(watch.poll)
    except (Refused, Unavailable) as error:
        raise type(error)(f"{error}; {goes_on}") from None
    except KeyboardInterrupt:
        watch.console.print(f"\nInterrupted; {goes_on}")
        raise typer.Exit(INTERRUPTED) from None


def _look(api: "Kubeflow", run: str, poll: float) -> "State":
    """The run's state, from a host that may be away for a while."""
    from seaway.errors import Unavailable

    patience = time.monotonic() + PATIENCE
    while True:
        try:
            return api.state(run)
        except Unavailable:
            if time.monotonic() > patience:
                raise
            time.sleep(poll)


def _tell(console: "Console", seconds: float, stage: str, state: str) -> None:
    colour = _COLOURS.get(state, "dim")
    clock = f"{seconds // 60:3.0f}:{seconds % 60:02.0f}"
    console.print(f"[dim]{clock}[/dim]  {stage:<12} [{colour}]{state.lower()}[/{colour}]")


class _Waiting:
    """What keeps stages from beginning, which no state of Kubeflow's shows, and images that do not come."""

    def __init__(self, watch: Watch, run: str, own: bool) -> None:
        self._watch, self._run, self._own = watch, run, own
        self._quiet = 0
        self._unread = ""  # why the pods cannot be read: a cluster that does not answer is not waited for twice
        self._said: set[str] = set()
        self._since: dict[str, float] = {}  # stage → when its image was first seen not to come

    def look(self, state: "State", news: bool) -> None:
        """Tells it after some looks without news, each line once. Raises SeawayError for an image beyond its time."""
        self._quiet = 0 if news and not state.pending else self._quiet + 1
        if not self._quiet or self._quiet % QUIET_LOOKS:
            return
        every, unread = _why(self._watch, self._run, self._unread)
        self._unread = self._unread or unread
        found = [one for one in every if not one.failed]
        for line in (f"        {one.stage}: {reason}" for one in found for reason in one.reasons):
            if line not in self._said:
                self._watch.console.print(line, markup=False)
                self._said.add(line)
        now = time.monotonic()
        self._since = {one.stage: self._since.get(one.stage, now) for one in found if one.image}
        for one in found:
            if one.image and now - self._since[one.stage] > self._watch.pull_deadline:
                self._end(one)

    def _end(self, trouble: "Trouble") -> None:
        from seaway.errors import SeawayError

        api, seconds = self._watch.api, self._watch.pull_deadline
        became = "the run goes on"
        if self._own:
            try:
                api.terminate(self._run)
                became = "the run was terminated"
            except SeawayError as error:
                became = f"the run could not be terminated ({error})"
        reasons = "".join(f"\n  {reason}" for reason in trouble.reasons)
        raise SeawayError(
            f"{trouble.stage} waited {seconds:g} s for an image that cannot be pulled: {trouble.image}; {became}: "
            f"{api.page(self._run)}{reasons}\n  push the image, or name another --registry"
        )


# ---- why


def _why(watch: Watch, run: str, unread: str = "") -> tuple[list["Trouble"], str]:
    """What holds stages up or made them fail, by Kubeflow's API and, where kubectl's configuration leads there, by the
    run's pods; and why these cannot be read, "" where they can. `unread`: it is known already."""
    from seaway.errors import SeawayError
    from seaway.kube import kube, runs

    workflow = watch.api.workflow(run)
    if workflow and unread:
        return runs.of_nodes(workflow), unread
    try:
        return runs.troubles(kube.connect(watch.context), watch.namespace, run, workflow), ""
    except SeawayError as error:
        return runs.of_nodes(workflow), str(error)


def _lost(ended: "State", found: list["Trouble"]) -> bool:
    """Whether each stage that failed lost its pod: one that failed by its own fault would fail again."""
    failed = {one.stage.removesuffix(" (its driver)"): one.lost for one in found if one.failed}
    stages = {stage for stage, now in ended.stages.items() if now == "FAILED"}
    return ended.state == "FAILED" and bool(failed) and stages <= failed.keys() and all(failed.values())


def _ending(watch: Watch, run: str, ended: "State", found: list["Trouble"], unread: str) -> str:
    """How the run ended, why, and the last words of what failed; else how to see them."""
    from seaway.kube import runs

    hint = f"kubectl -n {watch.namespace} logs -l {runs.RUN}={run} -c {runs.MAIN} --tail=20 --prefix"
    failed = [one for one in found if one.failed]
    reasons = list(ended.messages)
    for one in failed:
        reasons += [f"{one.stage}:", *(f"  {reason}" for reason in one.reasons), *(f"  | {said}" for said in one.said)]
    if unread:
        what = "what its pods said" if failed else "why"
        reasons.append(f"{what} cannot be read from here ({unread}); where the cluster is at hand: {hint}")
    elif not failed:
        reasons.append(
            f"no failed pod of it is in {watch.namespace} of kubectl's context; where the run's pods are: {hint}"
        )
    stages = [stage for stage, now in ended.stages.items() if now == "FAILED"]
    where = f" in {', '.join(stages)}" if stages else ""
    return f"the run {ended.state.lower()}{where}: {watch.api.page(run)}" + "".join(f"\n  {one}" for one in reasons)
