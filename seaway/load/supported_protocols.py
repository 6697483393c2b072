"""The protocols that a server supports: those over which it responds to one request for the model.

Without `--protocol`, `seaway verify` and the stage `load` use all of `supported_protocols`; `seaway load`,
`load capacity`, `evaluate` and the locustfile alone use `preferred_protocol`.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from seaway.errors import InvalidInput, NotFound, Unavailable
from seaway.load import payloads
from seaway.load.client import NoResponse
from seaway.load.config import LoadConfig
from seaway.load.run import probe
from seaway.protocols import client_codecs

# The first of these that the server supports
PREFERENCE = ("tfs", "oip", "graphpipe", "oip-binary", "png", "tfs-grpc", "oip-grpc")


def supported_protocols(url: str, source: Path, config: LoadConfig) -> list[str]:
    """The protocols that the server at `url` supports, in the order of `client_codecs.PROTOCOLS`. Raises the first
    protocol's error if it supports none, and as `payloads.read_model`."""
    return list(filter_supported(_prober(url, source, config), of_transport(url, client_codecs.PROTOCOLS)))


def preferred_protocol(url: str, source: Path, config: LoadConfig) -> str:
    """The first of `PREFERENCE` that the server at `url` supports. Raises as `supported_protocols`."""
    return next(filter_supported(_prober(url, source, config), of_transport(url, PREFERENCE)))


def of_transport(url: str, keys: Iterable[str]) -> list[str]:
    """Those over gRPC for grpc:// and grpcs://, the others for http:// and https://."""
    own = client_codecs.OVER_GRPC if client_codecs.is_grpc(url) else client_codecs.OVER_HTTP
    return [key for key in keys if client_codecs.named(key) in own]


def filter_supported(send: Callable[[client_codecs.Protocol], object], keys: Iterable[str]) -> Iterator[str]:
    """Yields those of `keys` over which `send` raises none of a client's errors. If there are none, raises the first
    error; if nothing responds at all, raises at once, because each further attempt might take as long."""
    error, supported = None, False
    for key in keys:
        try:
            send(client_codecs.named(key))
        except NoResponse:
            if not supported:
                raise
        except (InvalidInput, NotFound, Unavailable) as raised:
            error = error or raised
        else:
            supported = True
            yield key
    if error is not None and not supported:
        raise error


def _prober(url: str, source: Path, config: LoadConfig) -> Callable[[client_codecs.Protocol], object]:
    model = payloads.read_model(source)
    name = config.model_name(model)
    return lambda protocol: probe(url, protocol, name, config, payloads.encode(model, protocol, 1)[0])
