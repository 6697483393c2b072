"""One protocol under Atheris: every input is read as a request and answered. Runs in the fuzzer's own environment.

A finding is whatever is not an answer or a SeawayError of the client's fault: another exception, a 5xx, a tensor larger
than its request allows, an answer that is no JSON. libFuzzer adds: too slow, too much memory, a crash.
"""

import importlib
import json
import resource
import sys

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["seaway"]):
    import numpy as np

    from benchmarks.fuzz.model import served
    from benchmarks.fuzz.seeds import asked
    from seaway.artifacts.card import Tensor
    from seaway.errors import SeawayError
    from seaway.protocols.calls import JSON, Call, Reply

    MODULE = importlib.import_module(f"seaway.protocols.{sys.argv[1]}")

SERVED = served()
NO_FAULT = (500, 502, 503, 504)  # statuses that blame the server
UNFOLDS = 64  # bytes of array a byte of request may become; "[]," and "0," are the densest that there are
ADDRESS_SPACE = 4 << 30


def one(protocol: str, data: bytes) -> None:
    request = asked(protocol, data)
    try:
        call = MODULE.read(request, SERVED)
        reply = MODULE.write(call, answers(call, len(request.body)), SERVED) if isinstance(call, Call) else call
    except SeawayError as error:
        if error.status in NO_FAULT:
            raise AssertionError(f"status {error.status}: {error}") from error
        reply = MODULE.error(error)
        if reply.status != error.status:
            raise AssertionError(f"an error of status {error.status} was answered {reply.status}") from error
    check(reply)


def answers(call: Call, size: int) -> dict[str, "np.ndarray"]:
    """Outputs such as the model might give for these inputs, whose types and sizes are looked at first."""
    signature = SERVED.signatures[call.signature]
    taken = sum(array.nbytes for array in call.inputs.values())
    assert taken <= UNFOLDS * size + 4096, f"{taken} bytes of tensors out of {size}"
    for tensor in signature.inputs:
        array = call.inputs[tensor.name]
        kind = "O" if tensor.dtype == "str" else tensor.dtype
        assert array.dtype == np.dtype(kind), f"{tensor.name} is {array.dtype} instead of {kind}"
    first = call.inputs[signature.inputs[0].name]
    rows = min(first.shape[0], 16) if first.ndim else 1
    wanted = signature.outputs if call.outputs is None else [t for t in signature.outputs if t.name in call.outputs]
    return {tensor.name: output(tensor, rows) for tensor in wanted}


def output(tensor: Tensor, rows: int) -> "np.ndarray":
    shape = [rows if size is None else size for size in tensor.shape]
    if tensor.dtype == "str":
        return np.full(shape, b"\xff text" if tensor.name.endswith("_bytes") else "tüxt".encode(), object)
    return np.ones(shape, tensor.dtype)


def check(reply: Reply) -> None:
    body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
    if reply.type == JSON:
        json.loads(body)


def main() -> None:
    protocol = sys.argv.pop(1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))  # a large allocation fails at once
    atheris.Setup(sys.argv, lambda data: one(protocol, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
