"""A worker: one process that holds a backend and answers the supervisor's frames, forked by `nursery.py`.

Predictions are answered one by one in the order in which they came, so that the supervisor knows which one was
running should the process die. Loading goes on beside them in a thread.
"""

import logging
import queue
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np

from components.serve import wire
from components.serve.savedmodel import SavedModel
from seaway.errors import SeawayError

log = logging.getLogger("seaway.worker")

Arrays = dict[str, np.ndarray]
Answer = tuple[dict[str, Any], Arrays]


class Worker:
    def __init__(self, channel: socket.socket, threads: int) -> None:
        self._channel, self._threads = channel, threads
        self._sending = threading.Lock()
        self._models: dict[str, SavedModel] = {}
        self._loads: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def run(self) -> None:
        threading.Thread(target=self._load_all, daemon=True).start()
        frames = wire.Frames()
        while data := self._channel.recv(1 << 20):
            for header, arrays in frames.feed(data):
                if header["op"] == "predict":
                    self._answer(header, arrays)
                else:
                    self._loads.put(header)

    def _load_all(self) -> None:
        while True:
            self._answer(self._loads.get(), {})

    def _answer(self, header: dict[str, Any], arrays: Arrays) -> None:
        work = {"predict": self._predict, "load": self._load, "unload": self._unload}[header["op"]]
        try:
            fields, results = work(header, arrays)
            pieces = wire.pack({"id": header["id"], **fields}, results)
        except SeawayError as error:
            pieces = wire.pack({"id": header["id"], "error": str(error), "status": error.status}, {})
        except Exception as error:
            log.exception("%s of %s failed", header["op"], header["key"])
            text = f"{type(error).__name__}: {error}"
            pieces = wire.pack({"id": header["id"], "error": text, "status": 500}, {})
        self._send(pieces)

    def _predict(self, header: dict[str, Any], arrays: Arrays) -> Answer:
        return {}, self._models[header["key"]].predict(header["signature"], arrays, header["outputs"])

    def _load(self, header: dict[str, Any], _: Arrays) -> Answer:
        model = SavedModel(Path(header["path"]), self._threads)
        self._models[header["key"]] = model
        return model.describe(), {}

    def _unload(self, header: dict[str, Any], _: Arrays) -> Answer:
        model = self._models.pop(header["key"], None)
        if model:
            model.close()
        return {}, {}

    def _send(self, pieces: list[bytes | memoryview]) -> None:
        with self._sending:
            for piece in pieces:
                self._channel.sendall(piece)


def run(channel: socket.socket, threads: int) -> None:
    """Answers until the supervisor closes the channel."""
    logging.basicConfig(format="%(asctime)s worker %(process)d: %(message)s")
    Worker(channel, threads).run()
