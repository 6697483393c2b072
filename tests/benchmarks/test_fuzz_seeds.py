"""The fuzzer starts from requests that are right; a seed that is refused would leave what lies behind it untried."""

import importlib

import pytest

from benchmarks.fuzz.model import served
from benchmarks.fuzz.seeds import WORDS, asked, seeds
from seaway.protocols.calls import Call, Reply


@pytest.mark.parametrize("protocol", WORDS)
def test_every_seed_is_a_request_that_is_read(protocol):
    module = importlib.import_module(f"seaway.protocols.{protocol}")
    signatures = set()
    for seed in seeds(protocol):
        got = module.read(asked(protocol, seed), served())
        assert isinstance(got, Call) or (isinstance(got, Reply) and got.status == 200), seed
        signatures |= {got.signature} if isinstance(got, Call) else set()
    assert signatures >= {"serving_default", "two", "text", "int8", "uint64", "float64"}
