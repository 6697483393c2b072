"""The protocols under load as one table: where a request goes, how it is written, how its answer is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from seaway.errors import InvalidInput
from seaway.protocols import graphpipe, tfserving

SERVED_BY = "Seaway-Model"  # header of every answer: name/version@digest


@dataclass(frozen=True, slots=True)
class Protocol:
    """`write` takes the inputs and the wanted output's name; `read` gives that output's array."""

    key: str  # as on the command line
    title: str  # as in reports
    request: str  # the fixed name in Locust's statistics
    content_type: str
    path: Callable[[str, int | None], str]
    write: Callable[[Mapping[str, np.ndarray], str], bytes]
    read: Callable[[bytes], np.ndarray]


def rest_path(model: str, version: int | None) -> str:
    return f"/v1/models/{_versioned(model, version)}:predict"


def graphpipe_path(model: str, version: int | None) -> str:
    return f"/graphpipe/{_versioned(model, version)}"


def _versioned(model: str, version: int | None) -> str:
    return model if version is None else f"{model}/versions/{version}"


def _write_rest(inputs: Mapping[str, np.ndarray], output: str) -> bytes:
    del output  # serving_default answers the model's first output
    return tfserving.write_predict_request(inputs)


def _write_graphpipe(inputs: Mapping[str, np.ndarray], output: str) -> bytes:
    return graphpipe.write_infer_request(dict(inputs), [output])


def _read_rest(body: bytes) -> np.ndarray:
    return _sole(list(tfserving.read_predict_answer(body).values()))


def _read_graphpipe(body: bytes) -> np.ndarray:
    return _sole(graphpipe.read_infer_response(body))


def _sole(outputs: list[np.ndarray]) -> np.ndarray:
    if len(outputs) != 1:
        raise InvalidInput(f"the answer holds {len(outputs)} outputs where one was asked for")
    return outputs[0]


REST = Protocol("rest", "REST", "REST predict", "application/json", rest_path, _write_rest, _read_rest)
GRAPHPIPE = Protocol(
    "graphpipe",
    "GraphPipe",
    "GraphPipe infer",
    "application/octet-stream",
    graphpipe_path,
    _write_graphpipe,
    _read_graphpipe,
)
PROTOCOLS = {protocol.key: protocol for protocol in (REST, GRAPHPIPE)}


def named(key: str) -> Protocol:
    """The protocol of this name. Raises InvalidInput."""
    if key not in PROTOCOLS:
        raise InvalidInput(f"no protocol {key!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[key]
