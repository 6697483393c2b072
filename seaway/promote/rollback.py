"""Stable back to a version that it served before, which needs no evidence: that was stable once.

On a cluster the Deployment and its revisions say what was served, and the volume's labels follow; in a folder without a
cluster the volume's own history does.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaway.artifacts import card as cards
from seaway.artifacts import store
from seaway.errors import InvalidInput, NotFound, Refused
from seaway.kube import kube, rollout
from seaway.promote.promote import BACK, LABEL, NOT_UP, roll_out

FROM = "rolled back from "  # how the reason begins


@dataclass(frozen=True, slots=True)
class _Stable:
    """What stable serves or has served; `version` is 0 where none was named."""

    model: str
    version: int
    serves: str
    because: str


def rollback(
    volume: Path | None,
    name: str = "",
    version: int | None = None,
    namespace: str = "",
    context: str = "",
    timeout: float = rollout.SECONDS,
) -> str:
    """Points stable at the version that it served before, or at `version`. Returns name/version, with the digest where
    that is known.

    With a `namespace` (of the cluster that kubectl's `context` means) the stable Deployment is rolled out to it, and
    then the labels in `volume` follow; a volume that is not here, None, is not changed, as is said. There `name` may be
    "": the model that is served. Without a namespace the labels in `volume` alone move.

    What was rolled back already is not rolled back once more, so that the same call again only completes what was
    interrupted. Raises NotFound where nothing else was stable, Refused for a version that never was, or that does not
    come up, CardError for one that was changed; then stable is as it was.
    """
    if not namespace and not (volume and name):
        raise InvalidInput(
            "neither a volume and a model nor a cluster's namespace is given: add --volume or --namespace"
        )
    api = kube.connect(context) if namespace else None
    now, earlier = _known(api, namespace, volume, name)
    label = store.labels(volume, now.model).get(LABEL) if volume and now.model else None
    target = _again(now, earlier, version) if version else _before(now, earlier, volume)
    serves, because = _checked(volume, target), _because(now, target, label)
    if namespace:
        roll_out(api, namespace, serves, because, timeout)
    if volume:
        store.set_label(volume, target.model, LABEL, target.version, because)
    same = "as it was; further back: --version N" if target.version == now.version else "again"
    print(f"{because or 'nothing is known of why'}: {LABEL} is {target.model}/{target.version} {same}", flush=True)
    if not volume:
        then = ["--name", target.model, "--version", str(target.version), "--namespace", namespace, "--volume", "DIR"]
        print(
            "the labels in the model volume were not changed, since the volume was not given; where it is mounted:\n"
            f"  seaway rollback {shlex.join(then)}"
        )
    return serves


def _known(api: Any, namespace: str, volume: Path | None, name: str) -> tuple[_Stable, list[_Stable]]:
    """What stable serves, and what it has served, the newest first; of the model `name`, or of the one that is served.
    Where the Deployment names no version, its pods serve what the volume's label says."""
    recorded = _recorded(volume, name) if volume and name else []
    if not namespace:
        if not recorded:
            there = store.versions(volume, name) if volume else []
            raise NotFound(
                f"no version of {name} was ever {LABEL} in {volume}, which has {there or 'none'}; is a cluster meant? "
                "add --namespace"
            )
        return recorded[0], recorded
    now = _served(rollout.read(api, namespace, rollout.STABLE))
    revisions = _came_up(rollout.revisions(api, namespace, rollout.STABLE))
    revisions = [one for one in revisions if one.model == (name or now.model or one.model)]
    if volume and not name and (model := now.model or (revisions[0].model if revisions else "")):
        recorded = _recorded(volume, model)
    if recorded and not now.version:
        now = recorded[0]
    return now, revisions + recorded


def _came_up(revisions: Sequence[rollout.Serving]) -> list[_Stable]:
    """Without those that were promoted and did not come up, as the revision that came after them tells. What did not
    come up when it was rolled back to has been stable once, and may be tried again."""
    found: list[_Stable] = []
    for one in map(_served, revisions):
        failed = any(after.because == f"{BACK}{one.serves}{NOT_UP}" for after in found)
        if not failed or one.because.startswith(FROM):
            found.append(one)
    return found


def _served(found: rollout.Serving) -> _Stable:
    return _Stable(found.model, found.version or 0, found.serves, found.cause)


def _recorded(volume: Path, name: str) -> list[_Stable]:
    moves = reversed(store.history(volume, name))
    return [_Stable(name, move.version, f"{name}/{move.version}", move.because) for move in moves]


def _again(now: _Stable, earlier: Sequence[_Stable], version: int) -> _Stable:
    """The version that is asked for. Raises Refused."""
    for one in (now, *earlier):
        if one.version == version:
            return one
    known = sorted({one.version for one in (now, *earlier) if one.version})
    raise Refused(
        f"version {version} was never {LABEL}, as far as is known here ({', '.join(map(str, known)) or 'none'} were): "
        f"promote it on its evidence: seaway promote --version {version}"
    )


def _before(now: _Stable, earlier: Sequence[_Stable], volume: Path | None) -> _Stable:
    """What stable served before, or what it serves where it was taken back already, by us or by `kubectl rollout undo`:
    then the version that is served was stable in the volume, and another is since. Raises NotFound."""
    recorded = [move.version for move in store.history(volume, now.model)] if volume and now.model else []
    undone = now.version in recorded and now.version != recorded[-1]
    if now.version and (now.because.startswith(FROM) or undone):
        return now
    for one in earlier:
        if one.version and (one.model, one.version) != (now.model, now.version):
            if volume and one.version not in store.versions(volume, one.model):
                continue  # removed since
            return one
    more = "" if volume else "; the volume's history may know one: add --volume DIR"
    raise NotFound(f"nothing is known to have been {LABEL} but {now.serves or 'what it serves'}{more}")


def _checked(volume: Path | None, target: _Stable) -> str:
    """name/version@digest, once every byte of it is compared with its card. Raises NotFound, CardError, Refused."""
    if volume is None:
        return target.serves
    digest = cards.check(store.existing(volume, target.model, target.version), "version", at=store.CARD).sha256
    served = target.serves.partition("@")[2]
    if served not in ("", digest):
        raise Refused(
            f"{target.model}/{target.version} in {volume} is @{digest[:12]}, but @{served[:12]} was served: "
            "that is not the volume which the cluster serves; give the right --volume, or none"
        )
    return f"{target.model}/{target.version}@{digest}"


def _because(now: _Stable, target: _Stable, label: int | None) -> str:
    if (target.model, target.version) != (now.model, now.version):
        return FROM + (now.serves or "no named version")
    if label in (None, now.version) or now.because.startswith(FROM):
        return now.because
    return f"{FROM}{target.model}/{label}"
