"""Runs stages as children of warm processes: kfp.local's SubprocessRunner without the time that imports take.

Importing PyTorch or TensorFlow takes longer than most stages. So a run imports each once, in a process of its own
(warm_process.py), which forks a child for every stage that needs it. As under SubprocessRunner, a stage has a process
to itself, with its own command line, environment and output: what it leaks, or how it dies, does not reach the next. On
systems other than Linux, where forking a process with these libraries is not safe, it is SubprocessRunner.
"""

import codecs
import contextlib
import json
import os
import select
import signal
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seaway.pipeline import containers
from seaway.pipeline.local import start_process
from seaway.platform import processes, sockets

# Stage → what its warm process imports (warm_process.py); other stages, and users' own components: COMMON.
IMPORTS = {"train": "torch", "export": "torch", "convert": "tensorflow", "validate": "tensorflow"}
COMMON = "common"
MODULE = "seaway.pipeline.warm_process"
TITLES = {"torch": "PyTorch", "tensorflow": "TensorFlow"}
PROGRAM = '"$program_path/ephemeral_component.py"'  # in kfp's command of a lightweight component, before its source
STATUS = struct.Struct("<i")


class Task(NamedTuple):
    """A lightweight component's call: its source, and the arguments of kfp.dsl.executor_main."""

    source: str
    arguments: Sequence[str]


@contextlib.contextmanager
def runner(pipeline: Any) -> Iterator[Any]:
    """Yields a runner for `local.run`. Its processes start with the first task that is not cached, and end here."""
    from kfp import local
    from kfp.local import subprocess_task_handler
    from kfp.local.status import Status

    if not processes.FORKING_IS_SAFE:
        yield local.SubprocessRunner(use_venv=False)
        return
    warm = _WarmProcesses({_imports(image) for image in containers.images(pipeline)})

    class Handler(subprocess_task_handler.SubprocessTaskHandler):  # type: ignore[misc]
        """Runs a task in a child of a warm process; one that is no lightweight component as kfp does."""

        def run(self) -> Any:
            task = parse_task(self.full_command)
            status = warm.run(_imports(self.image), task, os.environ | self.env_vars) if task else None
            return super().run() if status is None else Status.FAILURE if status else Status.SUCCESS

    kfp_handler, subprocess_task_handler.SubprocessTaskHandler = subprocess_task_handler.SubprocessTaskHandler, Handler
    try:
        yield local.SubprocessRunner(use_venv=False)
    finally:
        subprocess_task_handler.SubprocessTaskHandler = kfp_handler
        warm.stop()


def parse_task(command: Sequence[str]) -> Task | None:
    """Parses kfp's command of a lightweight component; None for any other, such as one that first installs packages."""
    if len(command) > 3 and command[:2] == ["sh", "-ec"] and PROGRAM in command[2]:
        return Task(command[3], command[4:])
    return None


def _imports(image: str) -> str:
    return IMPORTS.get(image.partition(":")[0].rpartition("/")[2], COMMON)


class _WarmProcesses:
    """The warm processes of one run. All start together, so that one imports while a stage of another runs."""

    def __init__(self, wanted: set[str]) -> None:
        self._wanted, self._lock = wanted, threading.Lock()  # kfp runs the tasks of a ParallelFor in threads
        self._started: dict[str, _WarmProcess] = {}

    def run(self, imports: str, task: Task, environment: Mapping[str, str]) -> int | None:
        """Runs the task and prints its output. Returns its exit status; None if its warm process has ended."""
        with self._lock:
            for each in sorted(self._wanted - self._started.keys()):
                self._started[each] = _WarmProcess(each)
        return self._started[imports].run(task, environment)

    def stop(self) -> None:
        for process in self._started.values():
            process.stop()


class _WarmProcess:
    """The caller's side of warm_process.py."""

    def __init__(self, imports: str) -> None:
        self._title, self._ready, self._lock = TITLES.get(imports, ""), False, threading.Lock()
        self._channel, other = sockets.message_pair()
        with other:
            command = [sys.executable, "-m", MODULE, str(other.fileno()), imports]
            self._process = start_process(command, _prepare, pass_fds=[other.fileno()])

    def run(self, task: Task, environment: Mapping[str, str]) -> int | None:
        request = json.dumps([task.source, list(task.arguments), dict(environment), str(Path.cwd())])
        output, stage_output = os.pipe()
        status, stage_status = os.pipe()
        with contextlib.ExitStack() as close, tempfile.TemporaryFile("w+") as file:
            file.write(request)
            file.flush()
            for descriptor in (output, status):
                close.callback(os.close, descriptor)
            try:
                with self._lock:
                    self._wait_until_ready()
                    sockets.send_message(self._channel, b"stage", [file.fileno(), stage_output, stage_status])
            except OSError:
                return None
            finally:
                for descriptor in (stage_output, stage_status):
                    os.close(descriptor)
            _print_until_end(output, status)
            exit_status = os.read(status, STATUS.size)
        return STATUS.unpack(exit_status)[0] if exit_status else 1  # without one, it was killed with its parent

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        if self._title and not select.select([self._channel], [], [], 0)[0]:
            print(f"importing {self._title}")
        if not sockets.receive_message(self._channel)[0]:
            raise BrokenPipeError("the process ended while it imported")
        self._ready = True

    def stop(self) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.wait()


def _prepare() -> None:
    """In a warm process, before it starts. Ctrl-C ends only the stage that runs; the caller ends this process."""
    processes.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _print_until_end(output: int, status: int) -> None:
    """Prints what a stage writes, by lines, until its exit status is there: processes that it leaves behind may hold
    its output open for ever."""
    os.set_blocking(output, False)
    decoder, line = codecs.getincrementaldecoder("utf-8")("replace"), ""
    waiting = [output, status]
    while True:
        readable, _, _ = select.select(waiting, [], [])
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(output, 1 << 16):
                *lines, line = (line + decoder.decode(chunk)).split("\n")
                for whole in lines:
                    print(whole)
            waiting = [status]  # the output has ended
        if status in readable:
            break
    print(line)
