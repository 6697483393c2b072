"""Types that all protocols share: a Call of one signature, and a Reply of bytes.

Each protocol is a module with the same three functions, so that a server can treat them alike:

    read(raw_request, model) -> Call | Reply    the call that a request makes; a Reply if no model has to run
    write(call, outputs, model) -> Reply        the response, in the format that the request asked for
    error(error) -> Reply                       an error in the protocol's own format
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor

DEFAULT_SIGNATURE = "serving_default"
JSON = "application/json"
BINARY = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"


def version_number(text: str) -> int | None:
    """The version in a path, with any leading zeros; None if it is not a number in int64 range."""
    digits = text.lstrip("0")[:20]  # int() raises ValueError for thousands of digits
    if not (text.isascii() and text.isdecimal()) or int(digits or "0") >= 2**63:
        return None
    return int(digits or "0")


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model. `method` is TensorFlow's method_name; `unranked` names the tensors of unknown rank,
    whose `shape` is (). `defaults` has the values of inputs that gRPC's Predict may leave out; workers alone know
    them."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    method: str = ""
    unranked: frozenset[str] = frozenset()
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class ModelVersionInfo:
    """A version as the protocols see it. `identity` is name/version@digest; `definitions` maps each signature to its
    SignatureDef as protobuf JSON; `platform` is OIP's name for the backend (tensorflow_savedmodel, onnx_onnxv1);
    `training_data` is what it learned from, in words, where its metadata says so."""

    name: str
    version: int
    identity: str
    signatures: Mapping[str, Signature]
    definitions: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    platform: str = ""
    training_data: str = ""


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request to one version, not parsed yet. `verb` is the protocol's own (predict, classify, infer); `body` is
    complete and decompressed; `headers` holds those that the protocol reads, with lower-case names."""

    verb: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """Inputs by name, as arrays that may be read-only; `outputs` in the requested order, None for all of the
    signature's. `response_format` is for the protocol's own `write`."""

    signature: str
    inputs: dict[str, np.ndarray]
    outputs: list[str] | None = None
    response_format: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`body` may come in pieces, so that large tensors are not copied."""

    status: int
    body: bytes | list[bytes | memoryview]
    type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
