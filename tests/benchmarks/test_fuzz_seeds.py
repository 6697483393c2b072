"""Every seed of the fuzzer is a valid request: a refused one would leave the code behind the refusal untested."""

import importlib

import pytest

from benchmarks.fuzz.model import model
from benchmarks.fuzz.seeds import WORDS, request_from, seeds
from seaway.protocols.calls import Call, Reply


@pytest.mark.parametrize("protocol", WORDS)
def test_every_seed_is_a_valid_request(protocol):
    module = importlib.import_module(f"seaway.protocols.{protocol}")
    signatures = set()
    for seed in seeds(protocol):
        call = module.read(request_from(protocol, seed), model())
        assert isinstance(call, Call) or (isinstance(call, Reply) and call.status == 200), seed
        signatures |= {call.signature} if isinstance(call, Call) else set()
    assert signatures >= {"serving_default", "two", "text", "int8", "uint64", "float64"}
