"""Rolls stable back to a version that it served before. That needs no evidence, because the version was stable once.

On a cluster, the Deployment's revisions show what was served, and the labels of the model repository follow. Without a
cluster, the repository's own history shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seaway.arguments import seaway_command
from seaway.artifacts import artifact_metadata, model_repository
from seaway.errors import InvalidInput, NotFound, Refused
from seaway.kube import api_client, rollout
from seaway.promote.promote import LABEL, RESTORED, ROLLOUT_FAILED, roll_out

ROLLED_BACK = "rolled back from "  # prefix of the recorded cause; earlier versions wrote it too: do not change it


@dataclass(frozen=True, slots=True)
class _StableVersion:
    """A version that stable serves or served. `version`: 0 if the Deployment named none; `cause`: of the change;
    `settings`: of a serving profile, as the Deployment's revision has them."""

    model: str
    version: int
    serves: str
    cause: str
    settings: Mapping[str, str] = field(default_factory=dict)


def rollback(
    repository: Path | None,
    name: str = "",
    version: int | None = None,
    namespace: str = "",
    context: str = "",
    timeout_s: float = rollout.TIMEOUT_S,
) -> str:
    """Points stable at the version that it served before, or at `version`. Returns name/version, with @digest if known.

    With a `namespace` (in the cluster of kubectl's `context`), rolls the stable Deployment out to that version, with
    the settings that its revision had, then moves the label in `repository`; if `repository` is None, a message says
    that the label stays. `name` may then be "": the model that is served. Without a namespace, only the label in
    `repository` moves.

    A rollback is not repeated: the same call again only completes an interrupted one. If it fails, stable stays as it
    was: raises NotFound if nothing else was stable, Refused for a version that never was stable or whose rollout fails,
    MetadataError for one that was changed.
    """
    if not namespace and not (repository and name):
        raise InvalidInput(
            "give a model repository and a model name, or a cluster's namespace: --model-repository or --namespace"
        )
    api = api_client.connect(context) if namespace else None
    current, earlier = _current_and_earlier(api, namespace, repository, name)
    label = model_repository.labels(repository, current.model).get(LABEL) if repository and current.model else None
    target = _requested(current, earlier, version) if version else _previous(current, earlier, repository)
    serves, cause = _checked(repository, target), _cause(current, target, label)
    if namespace:
        roll_out(api, namespace, serves, cause, timeout_s, target.settings)
    if repository:
        model_repository.set_label(repository, target.model, LABEL, target.version, cause)
    stable, reason = f"{target.model}/{target.version}", f" ({cause})" if cause else ""
    same = (target.model, target.version) == (current.model, current.version)
    if same and (not repository or label == target.version):
        print(f"{LABEL} is already {stable}{reason}; for an earlier version: seaway rollback --version N", flush=True)
    else:
        print(f"{LABEL} is {stable} again{reason}", flush=True)
    if not repository:
        options = [
            "--name",
            target.model,
            "--version",
            str(target.version),
            "--namespace",
            namespace,
            "--model-repository",
            "DIR",
        ]
        print(
            "note: the labels were not updated, because no model repository was given; on a machine that mounts it:\n"
            f"  {seaway_command('rollback', *options)}"
        )
    return serves


def _current_and_earlier(
    api: Any, namespace: str, repository: Path | None, name: str
) -> tuple[_StableVersion, list[_StableVersion]]:
    """Returns what stable serves and what it served, newest first: of the model `name`, or of the one that is served.

    If the Deployment names no version, its pods serve the one that the repository labels stable.
    """
    recorded = _recorded(repository, name) if repository and name else []
    if not namespace:
        if not recorded:
            versions = model_repository.versions(repository, name) if repository else []
            raise NotFound(
                f"no version of {name} was ever {LABEL} in {repository}, which has "
                f"{', '.join(map(str, versions)) or 'none'}; for a cluster, add --namespace"
            )
        return recorded[0], recorded
    current = _from_serving(rollout.read(api, namespace, rollout.STABLE))
    revisions = _succeeded(rollout.revisions(api, namespace, rollout.STABLE))
    revisions = [stable for stable in revisions if stable.model == (name or current.model or stable.model)]
    if repository and not name and (model := current.model or (revisions[0].model if revisions else "")):
        recorded = _recorded(repository, model)
    if recorded and not current.version:
        current = recorded[0]
    return current, revisions + recorded


def _succeeded(revisions: Sequence[rollout.Serving]) -> list[_StableVersion]:
    """Returns the revisions without failed promotions, which the cause of the next revision names.

    A failed rollback stays: its version was stable once, and may be tried again.
    """
    succeeded: list[_StableVersion] = []
    for revision in map(_from_serving, revisions):
        failed = any(later.cause == f"{RESTORED}{revision.serves}{ROLLOUT_FAILED}" for later in succeeded)
        if not failed or revision.cause.startswith(ROLLED_BACK):
            succeeded.append(revision)
    return succeeded


def _from_serving(serving: rollout.Serving) -> _StableVersion:
    return _StableVersion(serving.model, serving.version or 0, serving.serves, serving.cause, serving.settings)


def _recorded(repository: Path, name: str) -> list[_StableVersion]:
    moves = reversed(model_repository.history(repository, name))
    return [_StableVersion(name, move.version, f"{name}/{move.version}", move.because) for move in moves]


def _requested(current: _StableVersion, earlier: Sequence[_StableVersion], version: int) -> _StableVersion:
    """Returns the requested version. Raises Refused if it was never stable."""
    for stable in (current, *earlier):
        if stable.version == version:
            return stable
    known = sorted({stable.version for stable in (current, *earlier) if stable.version})
    raise Refused(
        f"version {version} was never {LABEL} (on record: {', '.join(map(str, known)) or 'none'}); "
        f"to promote it on its evidence: seaway promote --version {version}"
    )


def _previous(current: _StableVersion, earlier: Sequence[_StableVersion], repository: Path | None) -> _StableVersion:
    """Returns what stable served before, or what it serves if a rollback or `kubectl rollout undo` already happened.

    After an undo, the served version is in the repository's history, and another is labelled stable. Raises NotFound.
    """
    recorded = (
        [move.version for move in model_repository.history(repository, current.model)]
        if repository and current.model
        else []
    )
    undone = current.version in recorded and current.version != recorded[-1]
    if current.version and (current.cause.startswith(ROLLED_BACK) or undone):
        return current
    for stable in earlier:
        if stable.version and (stable.model, stable.version) != (current.model, current.version):
            if repository and stable.version not in model_repository.versions(repository, stable.model):
                continue  # deleted from the repository
            return stable
    more = "" if repository else "; the model repository's history may have one: add --model-repository DIR"
    raise NotFound(f"no earlier {LABEL} version is known besides {current.serves or 'the one it serves'}{more}")


def _checked(repository: Path | None, target: _StableVersion) -> str:
    """Returns name/version@digest, after checking every byte against the metadata.

    Raises NotFound, MetadataError, Refused.
    """
    if repository is None:
        return target.serves
    digest = artifact_metadata.check(
        model_repository.existing(repository, target.model, target.version),
        "version",
        at=model_repository.METADATA_FILE,
    ).sha256
    served = target.serves.partition("@")[2]
    if served not in ("", digest):
        raise Refused(
            f"{target.model}/{target.version} in {repository} is @{digest[:12]}, but @{served[:12]} was served: "
            "the cluster serves another model repository; give that one as --model-repository, or none"
        )
    return f"{target.model}/{target.version}@{digest}"


def _cause(current: _StableVersion, target: _StableVersion, label: int | None) -> str:
    if (target.model, target.version) != (current.model, current.version):
        return ROLLED_BACK + (current.serves or "no named version")
    if label in (None, current.version) or current.cause.startswith(ROLLED_BACK):
        return current.cause
    return f"{ROLLED_BACK}{target.model}/{label}"
