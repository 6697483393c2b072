"""The protocols under load as one table: where a request goes, how it is written, how its answer is read."""

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol as Typed
from urllib.parse import quote

import numpy as np

from seaway.errors import InvalidInput
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import BINARY, JSON

SERVED_BY = "Seaway-Model"  # header of every answer: name/version@digest
POD = "Seaway-Pod"  # header of every answer of a server that was told its name
FROM_PNG = "from_png"  # signature of picture models

Inputs = Mapping[str, np.ndarray]


class Headers(Typed):
    """An answer's, in whatever class the HTTP client has for them."""

    def items(self) -> Iterable[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Protocol:
    """`write` takes the inputs and the wanted output's name, "" for the sole one, and gives a body and its headers;
    `read` takes a body, its headers and the output's name, and gives that output's array."""

    key: str  # as on the command line
    title: str  # as in reports
    request: str  # the fixed name in Locust's statistics
    path: Callable[[str, int | None], str]
    write: Callable[[Inputs, str], tuple[bytes, dict[str, str]]]
    read: Callable[[bytes, Headers, str], np.ndarray]


def model_path(model: str, version: int | None) -> str:
    """TensorFlow Serving's status of a model, or of one version."""
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


def _write_tfs(inputs: Inputs, output: str) -> tuple[bytes, dict[str, str]]:
    del output  # serving_default answers the model's first output
    return tfserving.write_predict_request(inputs), {"Content-Type": JSON}


def _write_png(inputs: Inputs, output: str) -> tuple[bytes, dict[str, str]]:
    del output  # one of those that from_png gives
    ((_, pictures),) = inputs.items()
    files = np.array([png(picture) for picture in pictures], object)
    return tfserving.write_predict_request({"png": files}, FROM_PNG), {"Content-Type": JSON}


def _write_graphpipe(inputs: Inputs, output: str) -> tuple[bytes, dict[str, str]]:
    return graphpipe.write_infer_request(dict(inputs), [output] if output else []), {"Content-Type": BINARY}


def _write_oip(inputs: Inputs, output: str) -> tuple[bytes, dict[str, str]]:
    return oip.write_infer_request(inputs, [output] if output else [])


def _write_oip_binary(inputs: Inputs, output: str) -> tuple[bytes, dict[str, str]]:
    return oip.write_infer_request(inputs, [output] if output else [], binary=True)


def _read_tfs(body: bytes, headers: Headers, output: str) -> np.ndarray:
    del headers
    return _chosen(tfserving.read_predict_answer(body), output)


def _read_graphpipe(body: bytes, headers: Headers, output: str) -> np.ndarray:
    del headers
    return _chosen({str(i): array for i, array in enumerate(graphpipe.read_infer_response(body))}, output)


def _read_oip(body: bytes, headers: Headers, output: str) -> np.ndarray:
    return _chosen(oip.read_infer_answer(body, dict(headers.items())), output)


def _chosen(outputs: Mapping[str, np.ndarray], output: str) -> np.ndarray:
    if output in outputs:
        return outputs[output]
    if len(outputs) != 1:
        raise InvalidInput(f"the answer holds {len(outputs)} outputs, none of them called {output!r}")
    return next(iter(outputs.values()))


def png(picture: np.ndarray) -> bytes:
    """float [height, width, 1 or 3] in 0..1 as a PNG of 8 bits."""
    height, width, channels = picture.shape
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each row unfiltered
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


TFS = Protocol("tfs", "REST", "REST predict", tfs_path, _write_tfs, _read_tfs)
GRAPHPIPE = Protocol("graphpipe", "GraphPipe", "GraphPipe infer", graphpipe_path, _write_graphpipe, _read_graphpipe)
OIP = Protocol("oip", "OIP v2", "OIP infer", oip_path, _write_oip, _read_oip)
OIP_BINARY = Protocol("oip-binary", "OIP v2 binary", "OIP infer binary", oip_path, _write_oip_binary, _read_oip)
PNG = Protocol("png", "REST from_png", "REST from_png", tfs_path, _write_png, _read_tfs)
PROTOCOLS = {protocol.key: protocol for protocol in (TFS, GRAPHPIPE, OIP, OIP_BINARY, PNG)}


def named(key: str) -> Protocol:
    """The protocol of this name. Raises InvalidInput."""
    if key not in PROTOCOLS:
        raise InvalidInput(f"no protocol {key!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[key]
