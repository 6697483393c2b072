"""The stage's addresses: which one each protocol is sent to, and which combinations are refused."""

import re

import pytest

from seaway.errors import InvalidInput
from seaway.load import addresses
from seaway.protocols import client_codecs

HTTP, GRPC, GRPCS = "http://canary:8501", "grpc://canary:8500", "grpcs://canary:8500"


@pytest.mark.parametrize("grpc_url", [GRPC, GRPCS])
def test_each_protocol_has_the_address_of_its_transport(grpc_url):
    over_grpc = {protocol.key for protocol in client_codecs.OVER_GRPC}
    at = {key: addresses.of(key, HTTP, grpc_url) for key in client_codecs.PROTOCOLS}
    assert at == {key: grpc_url if key in over_grpc else HTTP for key in client_codecs.PROTOCOLS}
    assert addresses.of("oip-grpc", GRPC, "") == GRPC


@pytest.mark.parametrize(
    "combination",
    [
        (HTTP,),
        (GRPCS,),
        (HTTP, GRPC),
        (HTTP, GRPCS, HTTP),
        (HTTP, GRPC, GRPCS),
        (GRPC, "", GRPC, ["tfs-grpc"]),
        (HTTP, GRPC, "", ["png", "tfs-grpc", "oip-grpc"]),
    ],
)
def test_combinations_that_fit(combination):
    addresses.check(*combination)


@pytest.mark.parametrize(
    "combination, message",
    [
        ((HTTP, "canary:8500"), "'canary:8500' is not the address of a gRPC server; give one like grpc://127.0.0.1"),
        ((HTTP, HTTP), f"'{HTTP}' is not the address of a gRPC server"),
        ((HTTP, "grpc://"), "'grpc://' is not the address of a gRPC server"),
        ((HTTP, f"{GRPC}/inference.GRPCInferenceService"), "is not the address of a gRPC server"),
        ((f"{GRPC}/v1",), "is not the address of a gRPC server"),
        ((GRPC, GRPCS), f"{GRPC} and {GRPCS} are both of gRPC: give the server's http:// or https:// URL beside"),
        ((HTTP, "", "", ["tfs-grpc"]), f"{HTTP}: tfs-grpc needs the address of a gRPC server, like grpc://"),
        ((GRPC, "", "", ["oip"]), f"{GRPC}: oip is not a protocol over gRPC; choose one of tfs-grpc, oip-grpc"),
        ((HTTP, GRPC, "", ["grpc"]), "no protocol 'grpc'"),
        (
            (GRPC, "", HTTP),
            f"the limit slower compares {GRPC} with the baseline {HTTP}, which does not speak the same protocols: give "
            "the baseline as a gRPC address, like grpc://127.0.0.1:8500",
        ),
        ((HTTP, "", GRPC), "give the baseline as an http:// or https:// URL"),
        ((HTTP, GRPC, HTTP, ["tfs-grpc"]), f"the limit slower compares {GRPC} with the baseline {HTTP}"),
    ],
)
def test_combinations_that_are_refused(combination, message):
    with pytest.raises(InvalidInput, match=re.escape(message)):
        addresses.check(*combination)
