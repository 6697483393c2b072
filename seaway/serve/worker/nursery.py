"""The nursery: a process that has imported the backend once and forks workers from itself when it is asked to.

    python -m seaway.serve.worker.nursery FD BACKEND

A worker then starts in milliseconds instead of the seconds that importing TensorFlow takes, and shares the memory of
what was imported. It is safe to fork because importing starts no thread; nothing else is ever run in this process.
Messages are JSON (`sockets.message_pair`): a request holds the worker's settings, with its socket attached.
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

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the one library that starts threads as it is imported

from seaway.platform import sockets
from seaway.serve.backends import backend
from seaway.serve.worker import worker


def main() -> None:
    # The supervisor alone decides when a worker ends: a signal to the whole group must not cut answers short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    backend.module(sys.argv[2])
    talk = channel.fileno()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.freeze()  # so that collecting garbage does not touch, and so copy, what workers share
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the supervisor is gone
        _tell(channel, ready=True)
        while True:
            readable, _, _ = select.select([talk, woken], [], [])
            if woken in readable:
                os.read(woken, 4096)
                _report_ended(channel)
            if talk in readable and not _fork(channel, (woken, wakes)):
                break


def _fork(channel: socket.socket, pipe: tuple[int, int]) -> bool:
    """Answers one request; False where there will be no more."""
    message, descriptors = sockets.receive_message(channel)
    if not message:
        return False
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        channel.close()
        for descriptor in pipe:
            os.close(descriptor)
        _be_worker(descriptors[0], json.loads(message))
    for descriptor in descriptors:
        os.close(descriptor)
    _tell(channel, forked=pid)
    return True


def _be_worker(descriptor: int, settings: dict[str, Any]) -> None:
    """Never returns: a worker ends at once, without waiting for a load that is under way."""
    status = 1
    try:
        worker.run(socket.socket(fileno=descriptor), **settings)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the supervisor closed the channel
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _report_ended(channel: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _tell(channel, ended=pid, status=os.waitstatus_to_exitcode(status))


def _tell(channel: socket.socket, **fields: int) -> None:
    sockets.send_message(channel, json.dumps(fields).encode())


if __name__ == "__main__":
    main()
