"""What every protocol is turned into and made from: a call of one signature, and a reply of bytes.

Each protocol is a module with the same three functions, so that a server can treat them alike:

    read(asked, served) -> Call | Reply      the call that a request makes; a Reply where it is answered already
    write(call, outputs, served) -> Reply    the answer, in the form that the request asked for
    error(error) -> Reply                    an error in the protocol's own words
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seaway.artifacts.card import Tensor

DEFAULT_SIGNATURE = "serving_default"
JSON = "application/json"
BINARY = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model. `method` is TensorFlow's method_name; `unranked` names tensors whose rank is unknown,
    whose `shape` is then ()."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    method: str = ""
    unranked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Served:
    """A version as the protocols see it. `identity` is name/version@digest; `definitions`: SignatureDefs as protobuf's
    JSON, by signature; `platform` is OIP's name of the backend (tensorflow_savedmodel, onnx_onnxv1)."""

    name: str
    version: int
    identity: str
    signatures: Mapping[str, Signature]
    definitions: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that one version is to answer. `verb` is the protocol's own (predict, classify, infer);
    `body` is complete and inflated; `headers` are those that the protocol reads, their names in lower case."""

    verb: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """Inputs by name, as arrays that may be read-only; `outputs` in the order wanted, None for all of the signature's.
    `form` is the protocol's own note of how the answer is to be written."""

    signature: str
    inputs: dict[str, np.ndarray]
    outputs: list[str] | None = None
    form: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`body` may come in pieces, so that large tensors are not copied."""

    status: int
    body: bytes | list[bytes | memoryview]
    type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
