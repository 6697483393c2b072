"""The protocols as a client uses them, in one table: a request's path, its encoder, and the decoder of its response."""

import difflib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as TypingProtocol
from urllib.parse import quote, urlsplit

import numpy as np

from seaway.errors import InvalidInput
from seaway.protocols import graphpipe, oip, oip_grpc, oiptensors, tensorproto, tfs_grpc, tfserving
from seaway.protocols.calls import BINARY, JSON

SERVED_BY = "Seaway-Model"  # header of every successful response of a model: name/version@digest
BACKEND = "Seaway-Backend"  # beside it: the engine that computed the response, savedmodel or onnx
POD = "Seaway-Pod"  # header of every response, if the server knows its pod's name
FROM_PNG = "from_png"  # signature of image models

Inputs = Mapping[str, np.ndarray]
Request = tuple[bytes, dict[str, str]]  # body and headers


class Headers(TypingProtocol):
    """Response headers, in whatever class the HTTP client has for them."""

    def items(self) -> Iterable[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class Protocol:
    """`encode` takes inputs, outputs (none: all), a signature ("": the server's choice) and whether the inputs are one
    call, and returns a body and its headers; `decode` takes a body, its headers and the same outputs, and returns
    arrays by name. `dtypes`: names of the types that a response can hold."""

    key: str  # as on the command line
    title: str  # as in reports
    request: str  # the fixed name in Locust's statistics
    path: Callable[[str, int | None], str]
    encode: Callable[[Inputs, Sequence[str], str, bool], Request]
    decode: Callable[[bytes, Headers, Sequence[str]], Mapping[str, np.ndarray]]
    dtypes: frozenset[str]
    # Over gRPC: `path` is the method's, and this gives the part of a request that names the model, to be joined with it
    name_model: Callable[[str, int | None], bytes] | None = None

    def write(self, inputs: Inputs, outputs: Sequence[str] = (), signature: str = "", whole: bool = False) -> Request:
        """A request for those outputs, without any for all. `whole`: the inputs need not have a common batch as their
        first axis."""
        return self.encode(inputs, outputs, signature, whole)

    def read(self, body: bytes, headers: Headers, outputs: Sequence[str] = ()) -> Mapping[str, np.ndarray]:
        """Arrays by name, without those of `outputs` that the response lacks; an only output may have any name in it.
        Raises InvalidInput."""
        arrays = self.decode(body, headers, outputs)
        if len(outputs) == len(arrays) == 1 and outputs[0] not in arrays:
            return dict(zip(outputs, arrays.values(), strict=True))
        return arrays

    def carried(self, dtypes: Mapping[str, str]) -> list[str]:
        """Those of a signature's outputs (name → dtype) that a response can hold; the first if it can hold none."""
        names = [name for name, dtype in dtypes.items() if dtype in self.dtypes] or list(dtypes)[:1]
        return names[:1] if self.key == PNG.key else names  # from_png returns the first, and labels


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


def _write_tfs(inputs: Inputs, outputs: Sequence[str], signature: str, whole: bool) -> Request:
    del outputs  # a signature returns all of its outputs
    lengths = {array.shape[:1] for array in inputs.values()}
    rows = not whole and len(lengths) == 1 and lengths != {()}  # the same first axis in all
    return tfserving.write_predict_request(inputs, signature, rows), {"Content-Type": JSON}


def _write_png(inputs: Inputs, outputs: Sequence[str], signature: str, whole: bool) -> Request:
    del signature
    ((_, images),) = inputs.items()
    return _write_tfs({"png": np.array([png(image) for image in images], object)}, outputs, FROM_PNG, whole)


def _write_graphpipe(inputs: Inputs, outputs: Sequence[str], signature: str, whole: bool) -> Request:
    del whole
    config = json.dumps({"signature_name": signature}) if signature else ""
    return graphpipe.write_infer_request(dict(inputs), outputs, config), {"Content-Type": BINARY}


def _write_oip(inputs: Inputs, outputs: Sequence[str], signature: str, whole: bool) -> Request:
    del whole
    return oip.write_infer_request(inputs, outputs, signature=signature)


def _write_oip_binary(inputs: Inputs, outputs: Sequence[str], signature: str, whole: bool) -> Request:
    del whole
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


def restore_shape(array: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The array in the expected shape if both are empty: JSON's lists end at the first axis of size 0."""
    if array.size or expected.size or array.shape != expected.shape[: array.ndim]:
        return array
    return array.reshape(expected.shape)


# JSON has numbers, booleans and text, as OIP
_OIP_DTYPES, _GRAPHPIPE_DTYPES = frozenset(oiptensors.DATATYPE_BY_NAME), frozenset(graphpipe.CODE_BY_NAME)
TFS = Protocol("tfs", "REST", "REST predict", tfs_path, _write_tfs, _read_tfs, _OIP_DTYPES)
GRAPHPIPE = Protocol(
    "graphpipe", "GraphPipe", "GraphPipe infer", graphpipe_path, _write_graphpipe, _read_graphpipe, _GRAPHPIPE_DTYPES
)
OIP = Protocol("oip", "OIP v2", "OIP infer", oip_path, _write_oip, _read_oip, _OIP_DTYPES)
OIP_BINARY = Protocol(
    "oip-binary", "OIP v2 binary", "OIP infer binary", oip_path, _write_oip_binary, _read_oip, _OIP_DTYPES
)
PNG = Protocol("png", "REST from_png", "REST from_png", tfs_path, _write_png, _read_tfs, _OIP_DTYPES)
TFS_GRPC = Protocol(
    "tfs-grpc",
    "gRPC Predict",
    "gRPC Predict",
    lambda model, version: f"/{tfs_grpc.PREDICTION}/Predict",
    lambda inputs, outputs, signature, whole: (tfs_grpc.write_predict_request(inputs, outputs, signature), {}),
    lambda body, headers, outputs: tfs_grpc.read_predict_response(body),
    frozenset(tensorproto.DTYPES),
    tfs_grpc.name_model,
)
OIP_GRPC = Protocol(
    "oip-grpc",
    "OIP v2 gRPC",
    "gRPC ModelInfer",
    lambda model, version: f"/{oip_grpc.SERVICE}/ModelInfer",
    lambda inputs, outputs, signature, whole: (oip_grpc.write_infer_request(inputs, outputs, signature), {}),
    lambda body, headers, outputs: oip_grpc.read_infer_response(body),
    _OIP_DTYPES,
    oip_grpc.name_model,
)
OVER_HTTP, OVER_GRPC = (TFS, GRAPHPIPE, OIP, OIP_BINARY, PNG), (TFS_GRPC, OIP_GRPC)
PROTOCOLS = {protocol.key: protocol for protocol in (*OVER_HTTP, *OVER_GRPC)}


def is_grpc(url: str) -> bool:
    return url.startswith(("grpc://", "grpcs://"))


def grpc_target(url: str) -> str:
    """HOST:PORT of grpc://HOST:PORT or grpcs://HOST:PORT. Raises InvalidInput."""
    parts = urlsplit(url)
    if not is_grpc(url) or not parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidInput(f"{url!r} is not the address of a gRPC server; give one like grpc://127.0.0.1:8500")
    return parts.netloc


def check_url(url: str, protocol: Protocol) -> None:
    """Raises InvalidInput if the server's URL is not of the protocol's transport."""
    if is_grpc(url) and protocol not in OVER_GRPC:
        over = ", ".join(one.key for one in OVER_GRPC)
        raise InvalidInput(f"{url}: {protocol.key} is not a protocol over gRPC; choose one of {over}")
    if not is_grpc(url) and protocol in OVER_GRPC:
        raise InvalidInput(f"{url}: {protocol.key} needs the address of a gRPC server, like grpc://127.0.0.1:8500")


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
