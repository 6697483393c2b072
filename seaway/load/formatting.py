"""Values of results as people read them: loads, latencies, distances, versions."""

from collections.abc import Sequence

from seaway.load import payloads
from seaway.load.result import LoadResult, merge_rounds
from seaway.load.schedule import POISSON

NOT_AVAILABLE = "n/a"  # a latency or distance without any response to take it from

Pair = tuple[LoadResult, LoadResult]  # a round's baseline and candidate


def by_name(results: Sequence[LoadResult]) -> dict[str, LoadResult]:
    """Runs by their protocols, numbered if some have the same one."""
    if len({result.title for result in results}) == len(results):
        return {result.title: result for result in results}
    return {f"{result.title}, run {number}": result for number, result in enumerate(results, 1)}


def rounds_by_protocol(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The rounds of each protocol, by its title."""
    titles = dict.fromkeys(candidate.title for _, candidate in pairs)
    return {title: [pair for pair in pairs if pair[1].title == title] for title in titles}


def shown_runs(results: Sequence[LoadResult], pairs: Sequence[Pair] = ()) -> dict[str, LoadResult]:
    """The runs of a report by name; of a comparison, the baseline beside the candidate, each over all of its rounds."""
    if not pairs:
        return by_name(results)
    rounds = rounds_by_protocol(pairs)
    return {
        f"{title}, {name}" if len(rounds) > 1 else name: merge_rounds(side)
        for title, own in rounds.items()
        for name, side in zip(("baseline", "candidate"), zip(*own, strict=True), strict=True)
    }


def notes(results: Sequence[LoadResult]) -> list[str]:
    """What distorted the measurement of some runs, or why they have no latency: a sentence for each kind, of the worst
    run."""
    groups = (
        sorted((r for r in results if r.generator.starved), key=lambda r: r.generator.lag_p99_ms or 0.0),
        sorted((r for r in results if r.generator.busy), key=lambda r: r.generator.backlog + r.generator.unsent),
    )
    texts = [(group[-1].generator.bottleneck, len(group)) for group in groups if group]
    missing = [result.no_latency for result in results if result.no_latency]
    texts += [(f"no latency could be measured: {text}", missing.count(text)) for text in dict.fromkeys(missing)]
    if len(results) == 1:
        return [text for text, _ in texts]
    return [f"in {count} of {len(results)} runs, at worst: {text}" for text, count in texts]


def describe_load(result: LoadResult) -> str:
    """The load in words: users in a closed loop, or requests per second and their arrivals."""
    text = f"{result.users} users"
    if result.rate:
        seed = f", seed {result.seed}" if result.arrivals == POISSON else ""
        text = f"{result.rate:g}/s {result.arrivals}{seed}"
    return text if result.shape == "constant" else f"{text}, {result.shape}"


def format_latency(milliseconds: float | None, unit: str = "") -> str:
    """`NOT_AVAILABLE` for None: there was no correct response."""
    return NOT_AVAILABLE if milliseconds is None else f"{milliseconds:.1f}{unit}"


def format_distance(max_abs: float | None) -> str:
    return "infinite" if max_abs is None else f"{max_abs:.2g}"


def format_max_abs(result: LoadResult) -> str:
    """The largest distance of a run's responses; `NOT_AVAILABLE` if none could be compared."""
    return format_distance(result.max_abs) if result.requests > result.failed else NOT_AVAILABLE


def max_distance(distances: Sequence[float | None]) -> float | None:
    """The largest; None, infinite, if one is."""
    finite = [distance for distance in distances if distance is not None]
    return max(finite, default=0.0) if len(finite) == len(distances) else None


def describe_references(results: Sequence[LoadResult]) -> list[str]:
    """A sentence for each reference that responses were compared with; none if there was no response."""
    references = dict.fromkeys(result.reference for result in results if result.requests > result.failed)
    return [f"Every response was compared with {payloads.describe_reference(reference)}." for reference in references]


def shorten_identity(identity: str) -> str:
    """name/version@digest with only the first characters of the digest."""
    name, at, digest = identity.partition("@")
    return name + at + digest[:12]
