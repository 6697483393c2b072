"""Calls over gRPC, for clients: a channel, a call, and its errors."""

from collections.abc import Mapping
from typing import Any

import grpc

from seaway.client_tls import ClientTls, system_ca
from seaway.load.payloads import CallFailed
from seaway.protocols import client_codecs

# A channel of its own, not one that is shared with others to the same address; messages of any size
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
# What an HTTP server would have answered
STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 413,
}


def credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """For channels to grpcs://. Raises InvalidInput, which names the file that cannot be used."""
    tls.ssl_context()  # gRPC itself would not say which file is wrong, or why
    ca = tls.read_ca()
    return grpc.ssl_channel_credentials(ca.encode() if ca else system_ca(), *(tls.read_pair() or ()))


def open_channel(url: str, channel_credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """A channel to grpc://HOST:PORT, or with credentials to grpcs://HOST:PORT, which connects with its first call.
    Raises InvalidInput."""
    target = client_codecs.grpc_target(url)
    if channel_credentials is not None:
        return grpc.secure_channel(target, channel_credentials, options=_OPTIONS)
    return grpc.insecure_channel(target, options=_OPTIONS)


def call(
    method: Any, request: bytes, timeout_s: float, tls: ClientTls | None = None
) -> tuple[bytes, Mapping[str, str]]:
    """A response, and `headers` of it. Raises CallFailed; `tls`: that of the channel, for a failed handshake."""
    try:
        response, ended = method.with_call(request, timeout=timeout_s)
    except grpc.RpcError as error:
        advice = handshake_advice(error, tls) if tls else ""
        raise CallFailed(f"gRPC {error.code().name}{advice and ': '}{advice}") from None
    return response, headers(ended)


def handshake_advice(error: grpc.RpcError, tls: ClientTls) -> str:
    """What to do about a failed TLS handshake, "" for other errors."""
    return tls.advice(str(error.details())) if error.code() == grpc.StatusCode.UNAVAILABLE else ""


def cooperate() -> None:
    """Lets other greenlets run while one waits for a response. Call this before a channel is opened."""
    from grpc.experimental import gevent

    gevent.init_gevent()


def method(channel: grpc.Channel, path: str) -> Any:
    """The method as a function of bytes."""
    return channel.unary_unary(path, request_serializer=None, response_deserializer=None)


def headers(call: Any) -> Mapping[str, str]:
    """Of a response, those that HTTP responses have too."""
    received = dict(call.trailing_metadata() or ())
    names = (client_codecs.SERVED_BY, client_codecs.BACKEND, client_codecs.POD)
    return {name: str(received[name.lower()]) for name in names if name.lower() in received}
