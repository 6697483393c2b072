"""The gate: `stable` moves to a version only on evidence that this very version answered rightly under load."""

import contextlib
import shlex
from pathlib import Path
from typing import Any

from seaway.artifacts import card as cards
from seaway.artifacts import store
from seaway.artifacts.card import Card
from seaway.errors import CardError, NotFound, Refused, Unavailable
from seaway.kube import kube, rollout

LABEL = store.STABLE
BACK, NOT_UP = "back, since ", " did not come up"  # the reason of who stays stable, around what was to be


def promote(
    volume: Path,
    name: str,
    version: int,
    evidence: Path | None = None,
    namespace: str = "",
    context: str = "",
    timeout: float = rollout.SECONDS,
) -> int | None:
    """Points `stable` at `version` if the evidence allows it. Returns the version that was stable before, if any.

    With a `namespace` (of the cluster that kubectl's `context` means) the stable Deployment there is rolled out to the
    version first, and back to what it served where that does not succeed within `timeout` seconds; at last the canary's
    pods end. What was interrupted is completed by the same call again. Without `evidence` the newest that the volume
    holds for this version counts, so a version that was stable once can be promoted again. Raises NotFound for a
    missing version or evidence, CardError where either was changed, and Refused with every reason.
    """
    card = cards.check(store.existing(volume, name, version), "version", at=store.CARD)
    measured = cards.check(evidence, "evidence") if evidence else _newest_evidence(volume, name, version, card)
    reasons = objections(card, measured)
    if reasons:
        listed = "".join(f"\n  - {reason}" for reason in reasons)
        raise Refused(f"{name}/{version} stays where it is, {LABEL} was not moved:{listed}")
    serves = f"{name}/{version}@{card.sha256}"
    because = f"promoted to {LABEL}: {serves}"
    if namespace:
        api = kube.connect(context)
        roll_out(api, namespace, serves, because, timeout)
    before = store.labels(volume, name).get(LABEL)
    store.set_label(volume, name, LABEL, version, because)
    if namespace:
        rollout.apply(api, namespace, rollout.CANARY, serves, f"{serves} is {LABEL}", replicas=0)
    cluster = {"--namespace": namespace, "--context": context}
    print(f"{LABEL} is {name}/{version}, {_was(volume, name, version, before, cluster)}", flush=True)
    return before


def roll_out(api: Any, namespace: str, serves: str, cause: str, timeout: float) -> None:
    """Has stable serve `serves` and waits until it does. Raises Refused, once it is told to serve what it served
    before, where that does not come about."""
    was = rollout.read(api, namespace, rollout.STABLE)
    if was.serves == serves:  # an interrupted call's, which may not have come up
        with contextlib.suppress(NotFound):
            was = rollout.before(api, namespace, rollout.STABLE)
    rollout.apply(api, namespace, rollout.STABLE, serves, cause)
    try:
        rollout.wait(api, namespace, rollout.STABLE, timeout)
    except Unavailable as error:
        if was.version is None or was.serves == serves:  # no version to name: the pods that were there serve on
            undo = f"kubectl -n {namespace} rollout undo deployment/{rollout.STABLE}"
            raise Refused(f"{LABEL} goes on as it was, but its template names {serves}; {undo}: {error}") from None
        rollout.apply(api, namespace, rollout.STABLE, was.serves, f"{BACK}{serves}{NOT_UP}")
        raise Refused(f"{LABEL} was not moved: {error}") from None


def _was(volume: Path, name: str, version: int, before: int | None, cluster: dict[str, str]) -> str:
    if before is None:
        return "the first one"
    if before == version:
        return "as it was before"
    undo = ["--rollback", "--volume", str(volume), "--name", name, "--version", str(before)]
    undo += [word for option, value in cluster.items() if value for word in (option, value)]
    return f"was {before}; to undo: python -m seaway.promote {shlex.join(undo)}"


def objections(version: Card, evidence: Card) -> list[str]:
    """Why this evidence does not allow this version to be promoted; empty when it does."""
    measured = evidence.parents.get("version")
    if measured is None or measured.sha256 != version.sha256:
        of = f"{measured.name}@{measured.sha256[:12]}" if measured else "no version"
        return [f"the evidence is of {of}, this version is {version.name}@{version.sha256[:12]}: load-test this one"]
    found = evidence.metrics
    reasons = [
        f"{found[key]:.0f} {what}" if key in found else f"the evidence does not say how many there were of: {what}"
        for key, what in _MUST_BE_ZERO.items()
        if found.get(key) != 0
    ]
    if not found.get("requests", 0) > 0:
        reasons.append("no request was answered at all: is the server up, and was the load test long enough?")
    reasons += [str(limit) for limit in evidence.settings.get("not_kept", ())]
    return reasons


_MUST_BE_ZERO = {
    "wrong": "answers differed from PyTorch's by more than the tolerance",
    "failed": "requests failed",
    "foreign": "answers came from another version, or did not say from which",
}


def _newest_evidence(volume: Path, name: str, version: int, card: Card) -> Card:
    folder = store.evidence(volume, name, card.sha256)
    found = [_checked(path.parent) for path in sorted(folder.glob(f"*/{cards.CARD}"))]
    if not found:
        raise NotFound(
            f"{folder}: there is no evidence of {name}/{version} yet; run `python -m seaway.load` against it first"
        )
    return max(found, key=lambda c: str(c.settings.get("measured_at", "")))


def _checked(folder: Path) -> Card:
    try:
        return cards.check(folder, "evidence")
    except CardError as error:
        raise CardError(f"{error}; or remove {folder} and load-test the version again") from None
