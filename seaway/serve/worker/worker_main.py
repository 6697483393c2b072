"""A worker: one process with a backend that handles the supervisor's frames, forked by `forkserver.py`.

A frame contains client requests for one version, unparsed. The worker parses them, runs them together if possible
(`batching`), and formats the responses. It loads versions in a separate thread meanwhile.
"""

import gc
import logging
import queue
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from seaway.errors import InvalidInput, SeawayError, Unavailable
from seaway.platform import memory
from seaway.protocols.calls import Call, RawRequest, Reply
from seaway.serve import decompression, ipc
from seaway.serve.backends.backend import Load, module
from seaway.serve.protocols import PROTOCOLS
from seaway.serve.worker import batching
from seaway.serve.worker import version as versions
from seaway.serve.worker.version import LoadedVersion

log = logging.getLogger("seaway.worker")

Arrays = dict[str, np.ndarray]
MAX_JOINED_BYTES = 1 << 20  # larger responses are sent in pieces
# A thread that loads a version gives way to requests after this long, each time that they need Python
SWITCH_INTERVAL_S = 0.0005
RETAINED_BYTES = 32 << 20  # of freed memory: getting pages for a large request takes as long as parsing it

clock = time.perf_counter


class InFlight:
    """One request on its way through the worker; times in seconds."""

    __slots__ = ("call", "compute", "parse", "protocol", "reply", "write")

    def __init__(self, protocol: Any, error: SeawayError | None = None) -> None:
        self.protocol = protocol
        self.call: Call | None = None
        self.reply: Reply | None = protocol.error(error) if error else None
        self.parse = self.compute = self.write = 0.0


class Worker:
    def __init__(
        self,
        channel: socket.socket,
        backend: str,
        threads: int,
        cores: int,
        max_rows: int,
        max_body_bytes: int,
        warmup_iterations: int = 1,
    ) -> None:
        self._channel, self._threads, self._max_rows, self._max_body_bytes = channel, threads, max_rows, max_body_bytes
        self._cores, self._executor = cores, ThreadPoolExecutor(max(1, cores - 1))  # starts its threads on first use
        self._warmup_iterations = warmup_iterations
        self._load_backend: Load = module(backend).load
        self._send_lock = threading.Lock()
        self._versions: dict[str, LoadedVersion] = {}
        self._commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._runs: list[tuple[int, int, float]] = []  # requests, rows and seconds of each run of the model in a frame

    def run(self) -> None:
        threading.Thread(target=self._run_commands, daemon=True).start()
        for header, payload in ipc.receive(self._channel):
            if header["op"] == "predict":
                self._handle_requests(header, payload)
            elif header["op"] == "quarantine":
                self._versions[header["key"]].quarantined.add(header["shapes"])
            else:
                self._commands.put(header)
            del header, payload  # or they would stay in memory until the next ones arrive

    # ---- loading, in a separate thread

    def _run_commands(self) -> None:
        while True:
            command = self._commands.get()
            response: dict[str, Any] = {"id": command["id"]}
            try:
                response |= self._load(command) if command["op"] == "load" else self._unload(command)
            except SeawayError as error:
                response |= {"error": str(error), "status": error.status}
            except Exception as error:
                log.exception("%s of %s failed", command["op"], command["key"])
                response |= {"error": f"{type(error).__name__}: {error}", "status": 500}
            self._send(ipc.pack(response))

    def _load(self, command: dict[str, Any]) -> dict[str, Any]:
        version = versions.load(
            command["name"],
            command["version"],
            Path(command["path"]),
            command["digest"],
            command["fingerprint"],
            self._load_backend,
            self._threads,
            command["allowed_ops"],
            self._warmup_iterations,
        )
        version.quarantined.update(command["quarantined"])
        self._versions[command["key"]] = version
        return versions.describe(version)

    def _unload(self, command: dict[str, Any]) -> dict[str, Any]:
        version = self._versions.pop(command["key"], None)
        if version:
            version.backend.close()
            del version
            gc.collect()
            memory.trim()
        return {}

    # ---- requests

    def _handle_requests(self, header: dict[str, Any], payload: memoryview) -> None:
        version = self._versions.get(header["key"])
        if version is None:
            error = Unavailable(f"{header['key']} was unloaded: try again")
            self._send_replies([InFlight(PROTOCOLS[r[0]], error) for r in header["requests"]])
            return
        requests, offset = [], 0
        for protocol, verb, headers, size in header["requests"]:
            requests.append(self._read(version, protocol, verb, headers, payload[offset : offset + size]))
            offset += size
        calls = [(r, r.call) for r in requests if r.call is not None]
        groups = batching.group([call for _, call in calls], version.batchable, self._max_rows)
        for group in groups:
            members = [calls[i][0] for i in group]
            has_undeclared_shapes = not version.conforms(calls[group[0]][1])
            try:
                if has_undeclared_shapes or len(groups) > 1:
                    self._announce(version, requests, members, has_undeclared_shapes)
                self._run(version, members)
            except SeawayError as error:
                for member in members:
                    member.reply = member.protocol.error(error)
        self._send_replies(requests)

    def _send_replies(self, requests: list[InFlight]) -> None:
        replies, pieces = [], list[ipc.Piece]()
        for request in requests:
            reply = request.reply or request.protocol.error(SeawayError("the request got no reply"))
            body = [reply.body] if isinstance(reply.body, bytes) else reply.body
            times = (request.parse, request.compute, request.write)
            replies.append((reply.status, reply.type, dict(reply.headers), sum(map(len, body)), times))
            pieces += body
        runs, self._runs = self._runs, []
        self._send(ipc.pack({"replies": replies, "runs": runs}, pieces))

    def _read(
        self, version: LoadedVersion, protocol: str, verb: str, headers: dict[str, str], body: memoryview
    ) -> InFlight:
        began = clock()
        request = InFlight(PROTOCOLS[protocol])
        try:
            decompressed = decompression.decompress(
                bytes(body), headers.get("content-encoding", ""), self._max_body_bytes
            )
            parsed = version.parse_cache.parse(
                request.protocol.read, RawRequest(verb, decompressed, headers), version.served
            )
            if isinstance(parsed, Call):
                request.call = parsed
            else:
                request.reply = parsed
        except SeawayError as error:
            request.reply = request.protocol.error(error)
        except Exception as error:
            request.reply = self._failed(request, error)
        request.parse = clock() - began
        return request

    def _announce(
        self, version: LoadedVersion, requests: list[InFlight], members: list[InFlight], has_undeclared_shapes: bool
    ) -> None:
        """Announces which requests run next, so that the supervisor knows the culprits if this process dies."""
        shapes = ""
        if has_undeclared_shapes and (call := members[0].call):
            shapes = versions.describe_shapes(call)
            if shapes in version.quarantined:
                raise InvalidInput(
                    f"inputs of this shape killed the process that ran them, so they are quarantined: {shapes}"
                )
        self._send(ipc.pack({"running": [requests.index(m) for m in members], "shapes": shapes}))

    def _run(self, version: LoadedVersion, members: list[InFlight]) -> None:
        """Runs the calls of one group, in one batch if that succeeds, and sets their replies."""
        calls = [m.call for m in members if m.call]
        results: list[Arrays] | None = None
        if len(calls) > 1:
            began = clock()
            try:
                results = batching.run(self._predict(version, calls[0]), calls)
            except Exception:  # of one of them, or of their size together: each runs by itself below
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

    def _predict(self, version: LoadedVersion, call: Call) -> batching.Predict:
        if self._cores < 2 or call.signature not in version.batchable or not version.conforms(call):
            return version.backend.predict
        return batching.split_across_cores(version.backend.predict, self._cores, self._executor)

    def _run_alone(self, version: LoadedVersion, member: InFlight, call: Call) -> Arrays:
        began = clock()
        outputs = self._predict(version, call)(call.signature, call.inputs, call.outputs)
        member.compute = clock() - began
        self._runs.append((1, _rows(call), member.compute))
        return outputs

    def _failed(self, request: InFlight, error: Exception) -> Reply:
        if isinstance(error, MemoryError):
            return request.protocol.error(Unavailable("the request needs more memory than is available"))  # type: ignore[no-any-return]
        log.exception("a request failed")
        return request.protocol.error(SeawayError("the server failed on this request; its log has the traceback"))  # type: ignore[no-any-return]

    def _send(self, pieces: list[ipc.Piece]) -> None:
        with self._send_lock:
            if sum(map(len, pieces)) <= MAX_JOINED_BYTES:
                self._channel.sendall(b"".join(pieces))
            else:
                for piece in pieces:
                    self._channel.sendall(piece)


def _rows(call: Call) -> int:
    return max((len(array) for array in call.inputs.values() if array.ndim), default=1)


def run(channel: socket.socket, backend: str, **settings: int) -> None:
    """Handles frames until the supervisor closes the channel. `settings`: those of Worker."""
    memory.retain_freed(RETAINED_BYTES, RETAINED_BYTES // 2)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.basicConfig(format="%(asctime)s worker %(process)d: %(message)s")
    Worker(channel, backend, **settings).run()
