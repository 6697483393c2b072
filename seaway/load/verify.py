"""Served parity under load: every answer of every replica, over every protocol, against PyTorch's recorded output."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from seaway.artifacts import card as cards
from seaway.artifacts import store
from seaway.load import evidence, payloads, spoken
from seaway.load.results import distance, worst
from seaway.load.run import LoadResult, Plan, Progress, Replica, run

Told = Callable[[str, Progress], None]


def verify(
    url: str, source: Path, plan: Plan, protocols: Sequence[str] = (), told: Told | None = None
) -> list[LoadResult]:
    """A run as planned for each of `protocols`; without them, for each that the server speaks. Raises as `run`.

    Connections are opened anew for every request, so that each replica behind one address gets its share of them.
    """
    plan = replace(plan, new_connections=True)
    chosen = list(protocols) or spoken.spoken(url, source, plan)
    results = []
    for key in chosen:
        results.append(run(url, source, replace(plan, protocol=key), told and (lambda p, key=key: told(key, p))))
    return results


def replicas(results: Sequence[LoadResult]) -> list[Replica]:
    """Who answered, over all runs."""
    found: dict[tuple[str, str], Replica] = {}
    for one in (replica for result in results for replica in result.replicas):
        key = one.pod, one.model
        known = found.get(key, Replica(one.pod, one.model, 0, 0, 0.0))
        farthest = worst([known.max_abs, one.max_abs])
        found[key] = Replica(*key, known.answers + one.answers, known.wrong + one.wrong, farthest)
    return [found[key] for key in sorted(found)]


def faults(results: Sequence[LoadResult], identity: str = "") -> list[str]:
    """What is wrong, in words; empty where every answer was right, and came from `identity` (name/version@digest) where
    that is given and the server says who it is."""
    said = []
    for replica in replicas(results):
        who = replica.pod or "a replica without a name"
        if replica.wrong:
            far = distance(replica.max_abs)
            serves = replica.model or "no version that it names"
            count = f"{replica.wrong:,} of {replica.answers:,}"
            said.append(f"{who} answered {count} wrongly, max |Δ| {far}; it serves {serves}")
        if identity and replica.model and replica.model != identity:
            said.append(f"{who} serves {replica.model}, not {identity}")
    for result in results:
        title = result.title
        said += [
            f"{title}: {count} times {kind}"
            for kind, count in sorted(result.errors.items())
            if not kind.startswith("WrongAnswer")
        ]
        if not result.requests:
            said.append(f"{title}: no request was answered")
    return said


def keep(source: Path, results: Sequence[LoadResult]) -> Path | None:
    """Stores the results as evidence of the version `source` in its volume, and returns where; None where it is no
    version in a volume. Raises OSError where the volume cannot be written, CardError for a version that was changed."""
    folder = source.absolute()
    if not payloads.identity(folder):
        return None
    volume, name, version = folder.parents[1], folder.parent.name, int(folder.name)
    card = cards.check(folder, "version", at=store.CARD)
    with tempfile.TemporaryDirectory() as held:
        made = Path(held, "evidence")
        return evidence.keep(volume, name, made, evidence.write(made, name, version, card, [], results))
