"""Which protocols a server speaks: those over which it answers one request for the model.

Where no protocol is named, what asks over each (`seaway verify`, the stage `load`) takes all of `spoken`; what asks
over one (`seaway load`, `load capacity`, `evaluate`, the locustfile alone) takes `first`.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from seaway.errors import InvalidInput, NotFound, Unavailable
from seaway.load import payloads
from seaway.load.client import NoAnswer
from seaway.load.run import Plan, name_of, probe
from seaway.protocols import wire

FIRST = ("tfs", "oip", "graphpipe", "oip-binary", "png")  # the first of these that is spoken, where one is enough


def spoken(url: str, source: Path, plan: Plan) -> list[str]:
    """The protocols that answer at `url`, in the order of `wire.PROTOCOLS`. Raises what the first of them met where
    none does, and as `payloads.read_model`."""
    return list(speaking(_probes(url, source, plan), wire.PROTOCOLS))


def first(url: str, source: Path, plan: Plan) -> str:
    """The first of `FIRST` that answers at `url`. Raises as `spoken`."""
    return next(speaking(_probes(url, source, plan), FIRST))


def speaking(ask: Callable[[wire.Protocol], object], keys: Iterable[str]) -> Iterator[str]:
    """Those of `keys` over which `ask` raises none of a client's errors. Raises the first error where there is none,
    and at once where nobody answers at all: each further try might take as long."""
    error, found = None, False
    for key in keys:
        try:
            ask(wire.named(key))
        except NoAnswer:
            if not found:
                raise
        except (InvalidInput, NotFound, Unavailable) as met:
            error = error or met
        else:
            found = True
            yield key
    if error is not None and not found:
        raise error


def _probes(url: str, source: Path, plan: Plan) -> Callable[[wire.Protocol], object]:
    model = payloads.read_model(source)
    name = name_of(plan, model)
    return lambda protocol: probe(url, protocol, name, plan, payloads.encode(model, protocol, 1)[0])
