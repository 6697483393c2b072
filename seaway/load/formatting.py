"""Values of results as people read them: loads, latencies, distances, versions."""

from collections.abc import Sequence

from seaway.load import payloads
from seaway.load.result import LoadResult
from seaway.load.schedule import POISSON

NOT_AVAILABLE = "n/a"  # a latency or distance without any response to take it from


def by_name(results: Sequence[LoadResult]) -> dict[str, LoadResult]:
    """Runs by their protocols, numbered if some have the same one."""
    if len({result.title for result in results}) == len(results):
        return {result.title: result for result in results}
    return {f"{result.title}, run {number}": result for number, result in enumerate(results, 1)}


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
    return [f"Every response was compared with {payloads.REFERENCES[reference][0]}." for reference in references]


def shorten_identity(identity: str) -> str:
    """name/version@digest with only the first characters of the digest."""
    name, at, digest = identity.partition("@")
    return name + at + digest[:12]
