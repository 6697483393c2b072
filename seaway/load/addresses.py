"""The addresses of the stage `load`: the server's, that of its gRPC port, and that of the server to compare with."""

from collections.abc import Sequence

from seaway.errors import InvalidInput
from seaway.protocols import client_codecs


def of(protocol: str, url: str, grpc_url: str) -> str:
    """That of the two at which the server speaks the protocol: `grpc_url`, if there is one, for those over gRPC."""
    return grpc_url if grpc_url and client_codecs.named(protocol) in client_codecs.OVER_GRPC else url


def check(url: str, grpc_url: str = "", baseline: str = "", protocols: Sequence[str] = ()) -> None:
    """Also called before a run is submitted, whose load stage may be hours away. `baseline` "": nothing is compared;
    `protocols`: default all that the server supports.

    Raises InvalidInput for addresses that contradict each other, or do not fit the protocols.
    """
    if client_codecs.is_grpc(url):
        client_codecs.grpc_target(url)
    if grpc_url and client_codecs.is_grpc(url):
        raise InvalidInput(
            f"{url} and {grpc_url} are both of gRPC: give the server's http:// or https:// URL beside its gRPC address"
        )
    if grpc_url:
        client_codecs.grpc_target(grpc_url)
    for key in protocols:
        client_codecs.check_url(of(key, url, grpc_url), client_codecs.named(key))
    tested = [of(key, url, grpc_url) for key in protocols] or [url, *filter(None, [grpc_url])]
    if baseline and client_codecs.is_grpc(baseline) not in map(client_codecs.is_grpc, tested):
        kind = "a gRPC address, like grpc://127.0.0.1:8500"
        if client_codecs.is_grpc(baseline):
            kind = "an http:// or https:// URL"
        raise InvalidInput(
            f"the limit slower compares {tested[0]} with the baseline {baseline}, which does not speak the same "
            f"protocols: give the baseline as {kind}"
        )
