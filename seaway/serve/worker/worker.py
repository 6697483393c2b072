"""A worker: one process that holds a backend and answers the supervisor's frames, forked by `nursery.py`.

A frame carries requests of one version as clients sent them. Here they are read, run together where they can be
(`batching`), and written as the answers that clients get. Loading goes on beside that in a thread.
"""

import logging
import queue
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from seaway.errors import InvalidInput, SeawayError, Unavailable
from seaway.platform import memory
from seaway.protocols.calls import Asked, Call, Reply
from seaway.serve import bodies, wire
from seaway.serve.backends.backend import Load, module
from seaway.serve.protocols import PROTOCOLS
from seaway.serve.worker import batching
from seaway.serve.worker import version as versions
from seaway.serve.worker.version import Version

log = logging.getLogger("seaway.worker")

Arrays = dict[str, np.ndarray]
JOINED = 1 << 20  # bytes up to which an answer is sent in one piece
KEPT_BYTES = 32 << 20  # of what is freed: a large request's pages take as long to get as reading it does

clock = time.perf_counter


class Answering:
    """One request on its way through the worker; times in seconds."""

    __slots__ = ("call", "compute", "parse", "protocol", "reply", "write")

    def __init__(self, protocol: Any, error: SeawayError | None = None) -> None:
        self.protocol = protocol
        self.call: Call | None = None
        self.reply: Reply | None = protocol.error(error) if error else None
        self.parse = self.compute = self.write = 0.0


class Worker:
    def __init__(
        self, channel: socket.socket, backend: str, threads: int, cores: int, max_rows: int, max_body: int
    ) -> None:
        self._channel, self._threads, self._max_rows, self._max_body = channel, threads, max_rows, max_body
        self._cores, self._beside = cores, ThreadPoolExecutor(max(1, cores - 1))  # starts no thread before its time
        self._load_backend: Load = module(backend).load
        self._sending = threading.Lock()
        self._versions: dict[str, Version] = {}
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._runs: list[tuple[int, int, float]] = []  # requests, rows and seconds of each run of the model in a frame

    def run(self) -> None:
        threading.Thread(target=self._obey, daemon=True).start()
        for header, payload in wire.receive(self._channel):
            if header["op"] == "answer":
                self._answer(header, payload)
            elif header["op"] == "refuse":
                self._versions[header["key"]].refused.add(header["shapes"])
            else:
                self._orders.put(header)
            del header, payload  # or they would be held until the next ones are there

    # ---- loading, in a thread of its own

    def _obey(self) -> None:
        while True:
            order = self._orders.get()
            answer: dict[str, Any] = {"id": order["id"]}
            try:
                answer |= self._load(order) if order["op"] == "load" else self._unload(order)
            except SeawayError as error:
                answer |= {"error": str(error), "status": error.status}
            except Exception as error:
                log.exception("%s of %s failed", order["op"], order["key"])
                answer |= {"error": f"{type(error).__name__}: {error}", "status": 500}
            self._send(wire.pack(answer))

    def _load(self, order: dict[str, Any]) -> dict[str, Any]:
        version = versions.load(
            order["name"],
            order["version"],
            Path(order["path"]),
            order["digest"],
            order["fingerprint"],
            self._load_backend,
            self._threads,
            order["allowed_ops"],
        )
        version.refused.update(order["refused"])
        self._versions[order["key"]] = version
        return versions.describe(version)

    def _unload(self, order: dict[str, Any]) -> dict[str, Any]:
        version = self._versions.pop(order["key"], None)
        if version:
            version.backend.close()
        return {}

    # ---- answering

    def _answer(self, header: dict[str, Any], payload: memoryview) -> None:
        version = self._versions.get(header["key"])
        if version is None:
            error = Unavailable(f"{header['key']} was unloaded: try again")
            self._reply([Answering(PROTOCOLS[r[0]], error) for r in header["requests"]])
            return
        requests, at = [], 0
        for protocol, verb, headers, size in header["requests"]:
            requests.append(self._read(version, protocol, verb, headers, payload[at : at + size]))
            at += size
        calls = [(r, r.call) for r in requests if r.call is not None]
        found = batching.groups([call for _, call in calls], version.batchable, self._max_rows)
        for group in found:
            members = [calls[i][0] for i in group]
            told = not version.conforms(calls[group[0]][1])
            try:
                if told or len(found) > 1:
                    self._tell(version, requests, members, told)
                self._run(version, members)
            except SeawayError as error:
                for member in members:
                    member.reply = member.protocol.error(error)
        self._reply(requests)

    def _reply(self, requests: list[Answering]) -> None:
        replies, pieces = [], list[wire.Piece]()
        for request in requests:
            reply = request.reply or request.protocol.error(SeawayError("the request was not answered"))
            body = [reply.body] if isinstance(reply.body, bytes) else reply.body
            times = (request.parse, request.compute, request.write)
            replies.append((reply.status, reply.type, dict(reply.headers), sum(map(len, body)), times))
            pieces += body
        runs, self._runs = self._runs, []
        self._send(wire.pack({"replies": replies, "runs": runs}, pieces))

    def _read(self, version: Version, protocol: str, verb: str, headers: dict[str, str], body: memoryview) -> Answering:
        began = clock()
        request = Answering(PROTOCOLS[protocol])
        try:
            plain = bodies.inflated(bytes(body), headers.get("content-encoding", ""), self._max_body)
            asked = version.readings.read(request.protocol.read, Asked(verb, plain, headers), version.served)
            if isinstance(asked, Call):
                request.call = asked
            else:
                request.reply = asked
        except SeawayError as error:
            request.reply = request.protocol.error(error)
        except Exception as error:
            request.reply = self._failed(request, error)
        request.parse = clock() - began
        return request

    def _tell(self, version: Version, requests: list[Answering], members: list[Answering], unusual: bool) -> None:
        """Says what is run next, so that the supervisor knows whose fault it is should this process end."""
        note = ""
        if unusual and (call := members[0].call):
            note = versions.shapes(call)
            if note in version.refused:
                raise InvalidInput(f"inputs of this shape ended the process that ran them, so they are not run: {note}")
        self._send(wire.pack({"running": [requests.index(m) for m in members], "shapes": note}))

    def _run(self, version: Version, members: list[Answering]) -> None:
        """Answers calls of one group, by one run of the model if that succeeds."""
        calls = [m.call for m in members if m.call]
        results: list[Arrays] | None = None
        if len(calls) > 1:
            began = clock()
            try:
                results = batching.run(self._predict(version, calls[0]), calls)
            except SeawayError:  # of one of them: each is to get its own answer
                results = None
            if results is not None:
                seconds = clock() - began
                self._runs.append((len(calls), sum(map(_rows, calls)), seconds))
                for member in members:
                    member.compute = seconds
        for i, (member, call) in enumerate(zip(members, calls, strict=True)):
            try:
                outputs = results[i] if results is not None else self._run_alone(version, member, call)
                began = clock()
                member.reply = member.protocol.write(call, outputs, version.served)
                member.write = clock() - began
            except SeawayError as error:
                member.reply = member.protocol.error(error)
            except Exception as error:
                member.reply = self._failed(member, error)

    def _predict(self, version: Version, call: Call) -> batching.Predict:
        if self._cores < 2 or call.signature not in version.batchable or not version.conforms(call):
            return version.backend.predict
        return batching.spread(version.backend.predict, self._cores, self._beside)

    def _run_alone(self, version: Version, member: Answering, call: Call) -> Arrays:
        began = clock()
        outputs = self._predict(version, call)(call.signature, call.inputs, call.outputs)
        member.compute = clock() - began
        self._runs.append((1, _rows(call), member.compute))
        return outputs

    def _failed(self, request: Answering, error: Exception) -> Reply:
        if isinstance(error, MemoryError):
            return request.protocol.error(Unavailable("the request needs more memory than there is"))  # type: ignore[no-any-return]
        log.exception("a request failed")
        return request.protocol.error(SeawayError("the server failed on this request; its log has the trace"))  # type: ignore[no-any-return]

    def _send(self, pieces: list[wire.Piece]) -> None:
        with self._sending:
            if sum(map(len, pieces)) <= JOINED:
                self._channel.sendall(b"".join(pieces))
            else:
                for piece in pieces:
                    self._channel.sendall(piece)


def _rows(call: Call) -> int:
    return max((len(array) for array in call.inputs.values() if array.ndim), default=1)


def run(channel: socket.socket, backend: str, threads: int, cores: int, max_rows: int, max_body: int) -> None:
    """Answers until the supervisor closes the channel."""
    memory.keep_freed(KEPT_BYTES, KEPT_BYTES // 2)
    logging.basicConfig(format="%(asctime)s worker %(process)d: %(message)s")
    Worker(channel, backend, threads, cores, max_rows, max_body).run()
