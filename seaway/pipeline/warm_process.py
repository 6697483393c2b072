"""A warm process: imports what some stages need, once, and forks a child for each stage (warm.py).

    python -m seaway.pipeline.warm_process FD {torch,tensorflow,common}

FD is a socket (`sockets.message_pair`). The first message from here says that the imports are done. A request has three
descriptors: of a file, for the stage's output, and for its exit status. The file is JSON: the component's source, the
arguments of kfp.dsl.executor_main, the environment, and the working directory.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

os.environ["_KFP_RUNTIME"] = "true"  # kfp then imports only its executor

from kfp.dsl import executor_main

from seaway.pipeline.warm import STATUS
from seaway.platform import processes, sockets

ONNXRUNTIME = "seaway.onnxruntime_import:import_onnxruntime"
TENSORFLOW = "seaway.tensorflow_import:import_tensorflow"
IMPORTS = {  # modules, or functions that import one
    "torch": (ONNXRUNTIME, "torch", "onnxscript", "seaway.export.export"),
    "tensorflow": (ONNXRUNTIME, TENSORFLOW, "seaway.convert.convert", "seaway.validate.validate"),
    "common": ("numpy",),
}


class Request(NamedTuple):
    source: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    _import(sys.argv[2])
    gc.freeze()  # so that garbage collection does not touch, and so copy, shared pages
    request = _serve(channel)
    if request:  # this is a stage's process
        _run(request)


def _import(name: str) -> None:
    for each in IMPORTS[name]:
        with contextlib.suppress(ImportError):  # the stage reports it, if it needs it
            module, _, function = each.partition(":")
            imported = importlib.import_module(module)
            if function:
                getattr(imported, function)()


def _serve(channel: socket.socket) -> Request | None:
    """Forks a process for each request, in which this returns the request. Returns None once the caller has closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies: nobody waits for these children
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sockets.send_message(channel, b"ready")
        while True:
            message, descriptors = sockets.receive_message(channel, 3)
            if not message:
                break
            file, output, status = descriptors
            with os.fdopen(file, encoding="utf-8") as opened:
                opened.seek(0)
                request = Request(*json.load(opened))
            if os.fork() == 0:
                channel.close()
                _fork_stage(output, status)
                return request
            os.close(output)
            os.close(status)
    return None


def _fork_stage(output: int, status: int) -> None:
    """Returns in the stage's process; this one waits for it, writes its exit status, and exits."""
    processes.die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stage = os.fork()
    if stage:
        os.close(output)
        os.write(status, STATUS.pack(os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])))
        os._exit(0)
    processes.die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.close(status)


def _run(request: Request) -> None:
    """What kfp's shell command does: `python3 -m kfp.dsl.executor_main` on the component's source."""
    os.environ.clear()
    os.environ.update(request.environment | {"_KFP_RUNTIME": "true"})
    os.chdir(request.folder)
    sys.path[0] = request.folder
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "ephemeral_component.py")
        program.write_text(request.source, encoding="utf-8")
        sys.argv = [executor_main.__file__, "--component_module_path", str(program), *request.arguments]
        executor_main.executor_main()


if __name__ == "__main__":
    main()
