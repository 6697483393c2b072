"""The forkserver: a process that imports the backend once and forks workers on request.

    python -m seaway.serve.worker.forkserver FD BACKEND

A worker then starts in milliseconds instead of the seconds that importing TensorFlow takes, and shares the memory of
the imported modules. Forking is safe because importing starts no threads, and this process does nothing else. Messages
are JSON (`sockets.message_pair`): a request has the worker's settings, and the worker's socket as its descriptor.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the only library that starts threads on import
# Only the supervisor decides when a worker exits: a signal to the process group must not abort requests, nor imports.
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)

from seaway.platform import sockets  # noqa: E402
from seaway.serve.backends import backend  # noqa: E402
from seaway.serve.worker import worker_main  # noqa: E402


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    backend.module(sys.argv[2])
    requests = channel.fileno()
    wakeup_reader, wakeup_writer = os.pipe()
    os.set_blocking(wakeup_writer, False)
    signal.set_wakeup_fd(wakeup_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.freeze()  # so that garbage collection does not touch, and so copy, shared pages
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the supervisor has exited
        _send(channel, ready=True)
        while True:
            readable, _, _ = select.select([requests, wakeup_reader], [], [])
            if wakeup_reader in readable:
                os.read(wakeup_reader, 4096)
                _report_exits(channel)
            if requests in readable and not _fork(channel, (wakeup_reader, wakeup_writer)):
                break


def _fork(channel: socket.socket, wakeup_pipe: tuple[int, int]) -> bool:
    """Handles one request; False if the supervisor has closed the channel."""
    message, descriptors = sockets.receive_message(channel)
    if not message:
        return False
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        channel.close()
        for descriptor in wakeup_pipe:
            os.close(descriptor)
        _run_worker(descriptors[0], json.loads(message))
    for descriptor in descriptors:
        os.close(descriptor)
    _send(channel, forked=pid)
    return True


def _run_worker(descriptor: int, settings: dict[str, Any]) -> None:
    """Never returns: the worker exits at once at the end, even while a version is loading."""
    status = 1
    try:
        worker_main.run(socket.socket(fileno=descriptor), **settings)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the supervisor closed the channel
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _report_exits(channel: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _send(channel, ended=pid, status=os.waitstatus_to_exitcode(status))


def _send(channel: socket.socket, **fields: int) -> None:
    sockets.send_message(channel, json.dumps(fields).encode())


if __name__ == "__main__":
    main()
