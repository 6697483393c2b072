"""Served parity under load: compares every response of every replica, over every protocol, with recorded outputs."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seaway.artifacts import artifact_metadata, model_repository, serving_profile
from seaway.errors import Refused, Unavailable
from seaway.load import evidence, payloads, supported_protocols
from seaway.load.config import LoadConfig
from seaway.load.formatting import format_distance, max_distance
from seaway.load.progress import TitledProgressCallback, with_title
from seaway.load.result import LoadResult, Replica
from seaway.load.run import complete, run


def verify(
    url: str,
    source: Path,
    config: LoadConfig,
    protocols: Sequence[str] = (),
    on_progress: TitledProgressCallback | None = None,
) -> list[LoadResult]:
    """One run for each of `protocols`; without them, for each that the server supports. Raises as `run`.

    Every request opens a new connection, so that each replica behind one address gets its share of them.
    """
    config = replace(config, new_connections=True)
    results = []
    for key in list(protocols) or supported_protocols.supported_protocols(url, source, config):
        results.append(complete(run(url, source, replace(config, protocol=key), with_title(on_progress, key))))
    return results


def replicas(results: Sequence[LoadResult]) -> list[Replica]:
    """The replicas that responded, summed over all runs."""
    merged: dict[tuple[str, str, str], Replica] = {}
    for one in (replica for result in results for replica in result.replicas):
        key = one.pod, one.model, one.backend
        known = merged.get(key, replace(one, responses=0, wrong=0, max_abs=0.0))
        responses, wrong = known.responses + one.responses, known.wrong + one.wrong
        merged[key] = replace(one, responses=responses, wrong=wrong, max_abs=max_distance([known.max_abs, one.max_abs]))
    return [merged[key] for key in sorted(merged)]


def problems(results: Sequence[LoadResult], identity: str = "") -> list[str]:
    """A sentence for each problem; none if every response was correct, all replicas that name their engine have the
    same one and, where `identity` (name/version@digest) is given, no replica reports another one."""
    sentences = []
    for result in results:
        for replica in replicas([result]):
            name = f"{result.title}, {replica.pod or 'a replica without a name'}"
            if replica.wrong:
                serves = replica.model or "a version that it does not name"
                count = f"{replica.wrong:,} of {replica.responses:,}"
                max_abs = format_distance(replica.max_abs)
                sentences.append(f"{name}: {count} responses were wrong, max |Δ| {max_abs}; it serves {serves}")
            if identity and replica.model and replica.model != identity:
                sentences.append(f"{name}: it serves {replica.model}, not {identity}")
        sentences += [f"{result.title}: {kind} ({count:,} times)" for kind, count in sorted(result.errors.items())]
        if not result.requests:
            sentences.append(f"{result.title}: no request got a response")
    by_backend: dict[str, list[str]] = {}
    for replica in replicas(results):
        by_backend.setdefault(replica.backend, []).append(replica.pod or "a replica without a name")
    by_backend.pop("", None)
    if len(by_backend) > 1:
        engines = " and ".join(f"{backend} ({', '.join(pods)})" for backend, pods in sorted(by_backend.items()))
        sentences.append(f"the replicas use different engines: {engines}; a track must use one: roll it out again")
    return sentences


def check_evidence(source: Path) -> None:
    """Raises Unavailable, before any request, if `source` is a version whose evidence this user cannot store."""
    folder = source.absolute().parent / model_repository.EVIDENCE
    existing = folder if folder.exists() else folder.parent
    if payloads.identity(source.absolute()) and not os.access(existing, os.W_OK):
        raise Unavailable(f"{existing}: not writable, so no evidence can be stored: make it so, or give --no-evidence")


def store_evidence(source: Path, results: Sequence[LoadResult]) -> Path | None:
    """Stores the results as evidence of the version `source` in its model repository and returns the folder; None if
    `source` is no version in a model repository.

    Raises Refused if every response came from something else: from other versions, or from a server that names none.
    Raises OSError if the repository is not writable, MetadataError for a version that was changed.
    """
    folder = source.absolute()
    identity = payloads.identity(folder)
    if not identity:
        return None
    served = {replica.model for result in results for replica in result.replicas}
    if served and identity not in served:
        others = ", ".join(sorted(model or "a version that the server does not name" for model in served))
        raise Refused(f"no evidence was stored for {identity}, because the responses came from {others}")
    repository, name, version = folder.parents[1], folder.parent.name, int(folder.name)
    metadata = artifact_metadata.check(folder, "version", at=model_repository.METADATA_FILE)
    profile = serving_profile.settings(repository, name, metadata)
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch, "evidence")
        evidence_metadata = evidence.write(written, name, version, metadata, [], results, profile=profile)
        return evidence.store(repository, name, written, evidence_metadata)
