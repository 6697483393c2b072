"""One protocol under Atheris: every input is read as a request and responded to. Runs in the fuzzer's own environment.

A finding is anything but a response or a SeawayError that blames the client: another exception, a 5xx, a tensor larger
than its request allows, a response that is not JSON. libFuzzer adds: too slow, too much memory, a crash.
"""

import importlib
import json
import resource
import sys

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["seaway"]):
    import numpy as np

    from benchmarks.fuzz.model import model
    from benchmarks.fuzz.seeds import request_from
    from seaway.artifacts.artifact_metadata import Tensor
    from seaway.errors import SeawayError
    from seaway.protocols.calls import JSON, Call, Reply

    MODULE = importlib.import_module(f"seaway.protocols.{sys.argv[1]}")

MODEL = model()
# Of a TensorProto that repeats its last number
FILLED_BYTES = getattr(getattr(MODULE, "tensorproto", None), "MAX_FILLED_BYTES", 0)
SERVER_ERRORS = (500, 502, 503, 504)
MAX_EXPANSION = 64  # bytes of array for a byte of request; "[]," and "0," are the densest input
MAX_ADDRESS_SPACE_BYTES = 4 << 30


def run_one(protocol: str, data: bytes) -> None:
    request = request_from(protocol, data)
    try:
        if hasattr(MODULE, "find"):  # over gRPC, the supervisor's part
            MODULE.find(request.body)
        call = MODULE.read(request, MODEL)
        reply = MODULE.write(call, outputs(call, len(request.body)), MODEL) if isinstance(call, Call) else call
    except SeawayError as error:
        if error.status in SERVER_ERRORS:
            raise AssertionError(f"status {error.status}: {error}") from error
        reply = MODULE.error(error)
        if reply.status != error.status:
            raise AssertionError(f"the reply to an error of status {error.status} has status {reply.status}") from error
    check(reply)


def outputs(call: Call, body_bytes: int) -> dict[str, "np.ndarray"]:
    """Checks the inputs' types and sizes, and makes outputs that the model might return for them."""
    signature = MODEL.signatures[call.signature]
    tensor_bytes = sum(array.nbytes for array in call.inputs.values())
    allowed = MAX_EXPANSION * body_bytes + 4096 + FILLED_BYTES * len(signature.inputs)
    assert tensor_bytes <= allowed, f"{tensor_bytes} bytes of tensors out of {body_bytes}"
    for tensor in signature.inputs:
        array = call.inputs[tensor.name]
        kind = "O" if tensor.dtype == "str" else tensor.dtype
        assert array.dtype == np.dtype(kind), f"{tensor.name} is {array.dtype} instead of {kind}"
    first = call.inputs[signature.inputs[0].name]
    rows = min(first.shape[0], 16) if first.ndim else 1
    requested = signature.outputs if call.outputs is None else [t for t in signature.outputs if t.name in call.outputs]
    return {tensor.name: output(tensor, rows) for tensor in requested}


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
    # A large allocation fails at once
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE_BYTES, MAX_ADDRESS_SPACE_BYTES))
    atheris.Setup(sys.argv, lambda data: run_one(protocol, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
