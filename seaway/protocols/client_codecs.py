"""The protocols as a client uses them, in one table: a request's path, its encoder, and the decoder of its response."""

import difflib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as TypingProtocol
from urllib.parse import quote

import numpy as np

from seaway.errors import InvalidInput
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import BINARY, JSON

SERVED_BY = "Seaway-Model"  # header of every successful response of a model: name/version@digest
POD = "Seaway-Pod"  # header of every response, if the server knows its pod's name
FROM_PNG = "from_png"  # signature of image models

Inputs = Mapping[str, np.ndarray]


class Headers(TypingProtocol):
    """Response headers, in whatever class the HTTP client has for them."""

    def items(self) -> Iterable[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Protocol:
    """`encode` takes inputs, outputs (none: all) and a signature ("": the server's choice) and returns a body and its
    headers; `decode` takes a body, its headers and the same outputs, and returns arrays by name."""

    key: str  # as on the command line
    title: str  # as in reports
    request: str  # the fixed name in Locust's statistics
    path: Callable[[str, int | None], str]
    encode: Callable[[Inputs, Sequence[str], str], tuple[bytes, dict[str, str]]]
    decode: Callable[[bytes, Headers, Sequence[str]], Mapping[str, np.ndarray]]

    def write(self, inputs: Inputs, output: str, signature: str = "") -> tuple[bytes, dict[str, str]]:
        """A request for one output, "" for the only one."""
        return self.encode(inputs, [output] if output else [], signature)

    def read(self, body: bytes, headers: Headers, output: str) -> np.ndarray:
        """The array of that output. Raises InvalidInput."""
        outputs = self.decode(body, headers, [output])
        if output in outputs:
            return outputs[output]
        if len(outputs) != 1:
            raise InvalidInput(f"the response has {len(outputs)} outputs, none of them named {output!r}")
        return next(iter(outputs.values()))


def model_path(model: str, version: int | None) -> str:
    """Path of TensorFlow Serving's status page of a model, or of one version."""
    return f"/v1/models/{_versioned(model, version)}"


def tfs_path(model: str, version: int | None) -> str:
    return f"{model_path(model, version)}:predict"


def graphpipe_path(model: str, version: int | None) -> str:
    return f"/graphpipe/{_versioned(model, version)}"


def oip_path(model: str, version: int | None) -> str:
    return f"/v2/models/{_versioned(model, version)}/infer"


def _versioned(model: str, version: int | None) -> str:
    name = quote(model, safe="")
    return name if version is None else f"{name}/versions/{version}"


def _write_tfs(inputs: Inputs, outputs: Sequence[str], signature: str) -> tuple[bytes, dict[str, str]]:
    del outputs  # a signature returns all of its outputs
    rows = len({array.shape[:1] for array in inputs.values()} | {()}) == 2  # the same first axis in all
    return tfserving.write_predict_request(inputs, signature, rows), {"Content-Type": JSON}


def _write_png(inputs: Inputs, outputs: Sequence[str], signature: str) -> tuple[bytes, dict[str, str]]:
    del signature
    ((_, images),) = inputs.items()
    return _write_tfs({"png": np.array([png(image) for image in images], object)}, outputs, FROM_PNG)


def _write_graphpipe(inputs: Inputs, outputs: Sequence[str], signature: str) -> tuple[bytes, dict[str, str]]:
    config = json.dumps({"signature_name": signature}) if signature else ""
    return graphpipe.write_infer_request(dict(inputs), outputs, config), {"Content-Type": BINARY}


def _write_oip(inputs: Inputs, outputs: Sequence[str], signature: str) -> tuple[bytes, dict[str, str]]:
    return oip.write_infer_request(inputs, outputs, signature=signature)


def _write_oip_binary(inputs: Inputs, outputs: Sequence[str], signature: str) -> tuple[bytes, dict[str, str]]:
    return oip.write_infer_request(inputs, outputs, binary=True, signature=signature)


def _read_tfs(body: bytes, headers: Headers, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
    del headers, outputs
    return tfserving.read_predict_response(body)


def _read_graphpipe(body: bytes, headers: Headers, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
    del headers
    arrays = graphpipe.read_infer_response(body)
    return dict(zip(outputs if len(outputs) == len(arrays) else map(str, range(len(arrays))), arrays, strict=True))


def _read_oip(body: bytes, headers: Headers, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
    del outputs
    return oip.read_infer_response(body, dict(headers.items()))


def png(image: np.ndarray) -> bytes:
    """Encodes float [height, width, 1 or 3] in 0..1 as an 8-bit PNG."""
    height, width, channels = image.shape
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each row unfiltered
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def write_call(protocol: Protocol, inputs: Inputs, output: str, signature: str = "") -> tuple[bytes, dict[str, str]]:
    """A request for one output, from inputs whose first axes need not be a common batch."""
    if protocol is TFS:
        return tfserving.write_predict_request(inputs, signature, row=False), {"Content-Type": JSON}
    return protocol.write(inputs, output, signature)


TFS = Protocol("tfs", "REST", "REST predict", tfs_path, _write_tfs, _read_tfs)
GRAPHPIPE = Protocol("graphpipe", "GraphPipe", "GraphPipe infer", graphpipe_path, _write_graphpipe, _read_graphpipe)
OIP = Protocol("oip", "OIP v2", "OIP infer", oip_path, _write_oip, _read_oip)
OIP_BINARY = Protocol("oip-binary", "OIP v2 binary", "OIP infer binary", oip_path, _write_oip_binary, _read_oip)
PNG = Protocol("png", "REST from_png", "REST from_png", tfs_path, _write_png, _read_tfs)
PROTOCOLS = {protocol.key: protocol for protocol in (TFS, GRAPHPIPE, OIP, OIP_BINARY, PNG)}


def named(key: str) -> Protocol:
    """The protocol with this name. Raises InvalidInput, which names the most similar one: "rest" is REST's title."""
    if key not in PROTOCOLS:
        names = {protocol.title.lower(): protocol.key for protocol in PROTOCOLS.values()} | {
            key: key for key in PROTOCOLS
        }
        similar = difflib.get_close_matches(key.lower(), names, n=1)
        hint = f", did you mean {names[similar[0]]}?" if similar else ":"
        titles = ", ".join(f"{protocol.key} ({protocol.title})" for protocol in PROTOCOLS.values())
        raise InvalidInput(f"no protocol {key!r}{hint} choose one of {titles}")
    return PROTOCOLS[key]
