"""The promotion gate: moves `stable` to a version only on evidence that it responded correctly under load."""

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seaway.arguments import seaway_command
from seaway.artifacts import artifact_metadata, model_repository, serving_profile
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.errors import MetadataError, NotFound, Refused, Unavailable
from seaway.kube import api_client, rollout

LABEL = model_repository.STABLE
# The recorded cause of a revision that was restored because a rollout failed, around what that one served. Rollback
# parses it, also in annotations that earlier versions wrote: do not change it.
RESTORED, ROLLOUT_FAILED = "back, since ", " did not come up"


def promote(
    repository: Path,
    name: str,
    version: int,
    evidence: Path | None = None,
    namespace: str = "",
    context: str = "",
    timeout_s: float = rollout.TIMEOUT_S,
) -> int | None:
    """Points `stable` at `version` if the evidence allows it. Returns the version that was stable before, if any.

    With a `namespace` (in the cluster of kubectl's `context`), first rolls the stable Deployment there out to the
    version with the settings of its serving profile, and back if that fails within `timeout_s`. The evidence must be of
    these settings. If the version is the canary, that ends: its label is removed in the same write, and the canary
    Deployment is scaled down. The same call again completes an interrupted one.

    Without `evidence`, the newest in the repository for this version counts, so a version that was stable once can be
    promoted again. Raises NotFound for a missing version or evidence, MetadataError if either was changed, and Refused
    with every reason.
    """
    metadata = artifact_metadata.check(
        model_repository.existing(repository, name, version), "version", at=model_repository.METADATA_FILE
    )
    measured = (
        artifact_metadata.check(evidence, "evidence")
        if evidence
        else _newest_evidence(repository, name, version, metadata)
    )
    reasons = blocking_reasons(metadata, measured)
    settings: dict[str, str] = {}
    if namespace:
        api = api_client.connect(context)
        settings = serving_profile.settings(repository, name, metadata)
        reasons += _profile_reasons(settings, measured, rollout.read(api, namespace, rollout.CANARY), (name, version))
    if reasons:
        listed = "".join(f"\n  - {reason}" for reason in reasons)
        raise Refused(f"{name}/{version} is not promoted; {LABEL} was not moved:{listed}")
    serves = f"{name}/{version}@{metadata.sha256}"
    cause = f"promoted to {LABEL}: {serves}"
    if namespace:
        rollout.check_model(api, namespace, name)
        roll_out(api, namespace, serves, cause, timeout_s, settings)
        print(f"{namespace}/{rollout.STABLE} serves {serves}, with {serving_profile.describe(settings)}", flush=True)
    previous = model_repository.labels(repository, name).get(LABEL)
    model_repository.set_label(repository, name, LABEL, version, cause, model_repository.CANARY)
    if namespace:
        _end_canary(api, namespace, name, version, serves)
    cluster = {"--namespace": namespace, "--context": context}
    print(f"{LABEL} is {name}/{version}, {_undo_hint(repository, name, version, previous, cluster)}", flush=True)
    return previous


def _end_canary(api: Any, namespace: str, name: str, version: int, serves: str) -> None:
    """Scales the canary Deployment down if it serves this version; a canary of another version continues."""
    canary = rollout.read(api, namespace, rollout.CANARY)
    if (canary.model, canary.version) == (name, version):
        rollout.apply(api, namespace, rollout.CANARY, serves, f"{serves} is {LABEL}", 0, canary.settings)


def roll_out(api: Any, namespace: str, serves: str, cause: str, timeout_s: float, settings: Mapping[str, str]) -> None:
    """Rolls stable out to `serves`, with the `settings` of a serving profile, and waits. If that fails, restores what
    it served before and raises Refused."""
    previous = rollout.read(api, namespace, rollout.STABLE)
    if _is_same(previous, serves, settings):  # applied by an interrupted call, and perhaps never ready
        with contextlib.suppress(NotFound):
            previous = rollout.previous_revision(api, namespace, rollout.STABLE)
    rollout.apply(api, namespace, rollout.STABLE, serves, cause, settings=settings)
    try:
        rollout.wait(api, namespace, rollout.STABLE, timeout_s)
    except Unavailable as error:
        if previous.version is None or _is_same(previous, serves, settings):  # none to restore: the old pods serve on
            undo = f"kubectl -n {namespace} rollout undo deployment/{rollout.STABLE}"
            raise Refused(
                f"the rollout of {serves} failed: {error}. The old pods still serve; to restore the Deployment: {undo}"
            ) from None
        restored = f"{RESTORED}{serves}{ROLLOUT_FAILED}"
        rollout.apply(api, namespace, rollout.STABLE, previous.serves, restored, settings=previous.settings)
        raise Refused(f"{LABEL} was not moved: {error}") from None


def _is_same(serving: rollout.Serving, serves: str, settings: Mapping[str, str]) -> bool:
    return (serving.serves, serving.settings) == (serves, settings)


def _undo_hint(repository: Path, name: str, version: int, previous: int | None, cluster: dict[str, str]) -> str:
    if previous is None:
        return "the first stable version"
    if previous == version:
        return "as before"
    undo = ["--model-repository", str(repository), "--name", name, "--version", str(previous)]
    undo += [word for option, value in cluster.items() if value for word in (option, value)]
    return f"was {previous}; to undo: {seaway_command('rollback', *undo)}"


def blocking_reasons(version: ArtifactMetadata, evidence: ArtifactMetadata) -> list[str]:
    """Returns why this evidence does not allow this version to be promoted; [] if it does."""
    measured = evidence.parents.get("version")
    if measured is None or measured.sha256 != version.sha256:
        subject = f"{measured.name}@{measured.sha256[:12]}" if measured else "no version"
        own = f"{version.name}@{version.sha256[:12]}"
        return [f"the evidence is for {subject}, but this version is {own}: load-test this version"]
    metrics = evidence.metrics
    reasons = [
        f"{metrics[key]:.0f} {fault}" if key in metrics else f"the evidence lacks a count: how many {fault}"
        for key, fault in _must_be_zero(version.reference).items()
        if metrics.get(key) != 0
    ]
    if not metrics.get("requests", 0) > 0:
        reasons.append("no request got a response: is the server up, and was the load test long enough?")
    reasons += [str(limit) for limit in evidence.settings.get("not_kept", ())]
    if len(engines := evidence.settings.get("backends", ())) > 1:
        reasons.append(f"the responses came from different engines, {' and '.join(engines)}: roll the canary out again")
    return reasons


def _profile_reasons(
    settings: Mapping[str, str], evidence: ArtifactMetadata, canary: rollout.Serving, target: tuple[str, int]
) -> list[str]:
    """Why this evidence, or the canary if it serves the target, is not of the settings that stable would get."""
    again = "deploy the version again, then load-test it"
    wanted, measured = serving_profile.describe(settings), evidence.settings.get("profile", {})
    engine, engines = settings.get(serving_profile.BACKEND), evidence.settings.get("backends", [])
    reasons = []
    if engine and engines != [engine]:
        seen = " and ".join(engines) or "an engine that it does not name"
        reasons.append(f"the evidence was measured with {seen}, but stable would get {engine}: {again}")
    elif measured != settings:
        told = serving_profile.describe(measured)
        reasons.append(f"the evidence was measured with {told}, but stable would get {wanted}: {again}")
    if (canary.model, canary.version) == target and settings and canary.settings != settings:
        told = serving_profile.describe(canary.settings)
        reasons.append(f"the canary runs with {told}, but stable would get {wanted}: {again}")
    return reasons


def _must_be_zero(reference: str) -> dict[str, str]:
    return {
        "wrong": f"responses differed from {reference}'s by more than the tolerance",
        "failed": "requests failed",
        "foreign": "responses came from another version, or did not name one",
    }


def _newest_evidence(repository: Path, name: str, version: int, metadata: ArtifactMetadata) -> ArtifactMetadata:
    folder = model_repository.evidence(repository, name, metadata.sha256)
    stored = [_checked(path.parent) for path in sorted(folder.glob(f"*/{artifact_metadata.METADATA_FILE}"))]
    if not stored:
        options = shlex.join(["--name", name, "--version", str(version), "--model-repository", str(repository)])
        raise NotFound(f"no evidence for {name}/{version} in {folder}: run `seaway verify URL {options}` first")
    return max(stored, key=lambda evidence: str(evidence.settings.get("measured_at", "")))


def _checked(folder: Path) -> ArtifactMetadata:
    try:
        return artifact_metadata.check(folder, "evidence")
    except MetadataError as error:
        raise MetadataError(f"{error}, or remove {folder}") from None
