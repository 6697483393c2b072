"""The requests to the servers: the same images in each protocol, and the check of responses."""

import http.client
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from seaway.artifacts import golden, model_repository
from seaway.protocols import client_codecs, graphpipe

MODEL, INPUT, OUTPUT = "conv", "image", "scores"
SAMPLES = 16  # different requests whose responses are checked before a case is timed
TOLERANCE = 1e-4  # absolute; scores of two of the images differ by far more

Read = Callable[[bytes, Mapping[str, str]], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One kind of request, of `rows` images: different `bodies`, and `expected` [rows, 62] for each."""

    title: str
    path: str
    rows: int
    bodies: list[bytes]
    expected: list[np.ndarray]
    read: Read
    headers: Mapping[str, str] = field(default_factory=dict)


def check(port: int, case: Case) -> None:
    """Stops the benchmark if a response differs from PyTorch's: wrong responses are not worth timing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for number, (body, expected) in enumerate(zip(case.bodies, case.expected, strict=True)):
            connection.request("POST", case.path, body, dict(case.headers))
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise SystemExit(f"{case.title}: request {number} got status {response.status}: {content[:300]!r}")
            scores = case.read(content, {name.lower(): value for name, value in response.getheaders()})
            _compare(case, number, scores, expected)
    finally:
        connection.close()


def check_grpc(port: int, case: Case) -> bytes:
    """The same over gRPC, where a case's `path` is the method. Returns the first response."""
    responses = list[bytes]()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(case.path, request_serializer=None, response_deserializer=None)
        for number, (body, expected) in enumerate(zip(case.bodies, case.expected, strict=True)):
            try:
                responses.append(call(body, timeout=60, wait_for_ready=True))
            except grpc.RpcError as error:
                raise SystemExit(f"{case.title}: request {number}: {error.code().name}: {error.details()}") from None
            _compare(case, number, case.read(responses[-1], {}), expected)
    return responses[0]


def _compare(case: Case, number: int, scores: np.ndarray, expected: np.ndarray) -> None:
    if scores.shape != expected.shape or not np.abs(scores - expected).max() < TOLERANCE:
        raise SystemExit(f"{case.title}: response {number} is not PyTorch's; nothing was timed")


class Cases:
    """The requests of each protocol, made from a version's golden examples."""

    def __init__(self, version: Path, model: str = MODEL, output: str = OUTPUT) -> None:
        examples = golden.read(version / model_repository.EXTRA / golden.GOLDEN)
        self._images, self._scores = examples.inputs[INPUT], examples.outputs[output]
        self._model, self._output = model, output

    def tfserving(self, rows: int = 1) -> Case:
        def write(images: np.ndarray) -> bytes:
            return json.dumps({"instances": _numbers(images)}, separators=(",", ":")).encode()

        return self._case("TFS REST, JSON", f"/v1/models/{MODEL}:predict", rows, write, _read_tfserving, "json")

    def oip_json(self, rows: int = 1) -> Case:
        """Flat numbers, which MLServer parses fastest; MLServer gets the same requests."""

        def write(images: np.ndarray) -> bytes:
            tensor = {"name": INPUT, "shape": list(images.shape), "datatype": "FP32", "data": _numbers(images.ravel())}
            return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()

        return self._case("OIP v2, JSON", f"/v2/models/{MODEL}/infer", rows, write, _read_oip_json, "json")

    def oip_binary(self, rows: int = 1) -> Case:
        def header(images: np.ndarray) -> bytes:
            size = {"binary_data_size": images.nbytes}
            tensor = {"name": INPUT, "shape": list(images.shape), "datatype": "FP32", "parameters": size}
            wanted = {"name": OUTPUT, "parameters": {"binary_data": True}}
            return json.dumps({"inputs": [tensor], "outputs": [wanted]}, separators=(",", ":")).encode()

        length = len(header(self._batch(0, rows)[0]))
        case = self._case(
            "OIP v2, binary",
            f"/v2/models/{MODEL}/infer",
            rows,
            lambda images: header(images) + images.tobytes(),
            _read_oip_binary,
            "octet-stream",
        )
        return Case(**{**case.__dict__, "headers": {**case.headers, "Inference-Header-Content-Length": str(length)}})

    def graphpipe(self, rows: int = 1) -> Case:
        def write(images: np.ndarray) -> bytes:
            return graphpipe.write_infer_request([("", images)])

        def read(body: bytes, _: Mapping[str, str]) -> np.ndarray:
            return graphpipe.read_infer_response(body)[0]

        return self._case("GraphPipe", f"/graphpipe/{MODEL}", rows, write, read, "octet-stream")

    def grpc_predict(self, rows: int = 1) -> Case:
        return self._grpc("gRPC, TFS Predict", client_codecs.TFS_GRPC, rows)

    def grpc_infer(self, rows: int = 1) -> Case:
        """Raw contents in both directions."""
        return self._grpc("gRPC, OIP ModelInfer", client_codecs.OIP_GRPC, rows)

    def _grpc(self, title: str, protocol: client_codecs.Protocol, rows: int) -> Case:
        assert protocol.name_model is not None
        named = protocol.name_model(self._model, None)

        def write(images: np.ndarray) -> bytes:
            return named + protocol.write({INPUT: images}, [self._output])[0]

        def read(body: bytes, _: Mapping[str, str]) -> np.ndarray:
            return protocol.read(body, {}, [self._output])[self._output]

        return self._case(title, protocol.path(self._model, None), rows, write, read, "grpc")

    def _case(
        self, title: str, path: str, rows: int, write: Callable[[np.ndarray], bytes], read: Read, kind: str
    ) -> Case:
        batches = [self._batch(start, rows) for start in range(SAMPLES)]
        bodies, expected = [write(images) for images, _ in batches], [scores for _, scores in batches]
        headers = {"Content-Type": f"application/{kind}"}
        return Case(title if rows == 1 else f"{title}, {rows} images", path, rows, bodies, expected, read, headers)

    def _batch(self, start: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = (start + np.arange(rows)) % len(self._images)
        return np.ascontiguousarray(self._images[chosen]), self._scores[chosen]


def _numbers(images: np.ndarray) -> object:
    """Four decimals, the images' precision, so that one image is about 7 KB of JSON."""
    return images.astype(np.float64).round(4).tolist()


def _read_tfserving(body: bytes, _: Mapping[str, str]) -> np.ndarray:
    return np.array(json.loads(body)["predictions"])


def _read_oip_json(body: bytes, _: Mapping[str, str]) -> np.ndarray:
    [output] = [o for o in json.loads(body)["outputs"] if o["name"] == OUTPUT]
    return np.array(output["data"]).reshape(output["shape"])


def _read_oip_binary(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    length = int(headers["inference-header-content-length"])
    [output] = json.loads(body[:length])["outputs"]
    count = output["parameters"]["binary_data_size"] // 4
    return np.array(struct.unpack_from(f"<{count}f", body, length)).reshape(output["shape"])
