"""One Locust run without its web page, in a process of its own, as a function that returns the result."""

import contextlib
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from seaway import extras
from seaway.errors import Unavailable
from seaway.load import metrics, payloads
from seaway.load.client import Client
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.progress import Progress, ProgressCallback
from seaway.load.result import LoadResult, summarize
from seaway.protocols import client_codecs

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
POLL_INTERVAL_S = 0.1
SHUTDOWN_TIMEOUT_S = 60.0  # for Locust to start and end, besides the run and the last request's timeout
MAX_SELECT_RATE = 500.0  # requests per second and process up to which select's precise timers are worth their cost
PARTIAL_S = 0.5  # a run that ended this much before its time was interrupted
MAX_LOG_CHARS = 1500  # of Locust's output in an error message


def run(url: str, source: Path, config: LoadConfig, on_progress: ProgressCallback | None = None) -> LoadResult:
    """Loads the server at `url`; `on_progress` is called about every second.

    `source`: a published version's folder, an ONNX artifact or an .npz file (`payloads.read_model`). A run that is
    interrupted (Ctrl-C) ends early and returns what was measured until then. Raises Unavailable if no server responds
    or Locust fails, NotFound for a model that the server does not know, and InvalidInput, MetadataError or DataError
    for invalid arguments.
    """
    extras.require("locust")
    config.check()
    model, protocol = payloads.read_model(source), client_codecs.named(config.protocol)
    requests = payloads.encode(model, protocol, config.batch)
    model_name = config.model_name(model)
    probe(url, protocol, model_name, config, requests[0])
    if config.metrics_url:
        metrics.read(config.metrics_url, config.tls)  # a wrong address is an error before the load
    progress = _run_locust(url, source, model_name, config, on_progress or (lambda progress: None))
    partial = progress.elapsed_s < config.total_s - PARTIAL_S
    return summarize(progress, url, config, payloads.discriminative(requests), partial, model.reference)


def probe(
    url: str, protocol: client_codecs.Protocol, model: str, config: LoadConfig, payload: payloads.Payload
) -> None:
    """Sends one request before the load, so that a wrong address or name is one clear message. Raises as Client."""
    with Client(url, config.request_timeout_s, config.tls) as client:
        client.predict_encoded(protocol, model, payload.body, payload.headers, payload.outputs, config.version)


def complete(result: LoadResult) -> LoadResult:
    """The result, for callers with further runs. Raises KeyboardInterrupt if Ctrl-C ended the run."""
    if result.partial:
        raise KeyboardInterrupt
    return result


def _run_locust(url: str, source: Path, model: str, config: LoadConfig, on_progress: ProgressCallback) -> Progress:
    with tempfile.TemporaryDirectory() as folder:
        counts_file, log = Path(folder) / "counts", Path(folder) / "log"
        counts_file.touch()
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(url, source, model, config, counts_file),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(config),
            )
            try:
                progress = _follow(process, counts_file, config, on_progress)
                timed_out = process.poll() is None
            finally:
                terminate(process)
        if not progress.elapsed_s:
            output_text = log.read_text("utf-8", "replace").strip()[-MAX_LOG_CHARS:]
            reason = f"{_describe_exit(process.returncode, timed_out)}, and measured nothing"
            raise Unavailable(f"{reason}:\n{output_text}" if output_text else reason)
        return progress


def _command(url: str, source: Path, model: str, config: LoadConfig, counts_file: Path) -> list[str]:
    timeout_s, tls = config.request_timeout_s, config.tls
    files = {"--tls-ca": tls.ca, "--tls-client-cert": tls.cert, "--tls-client-key": tls.key}
    options = [
        *("--host", url.rstrip("/"), "--users", config.user_count, "--spawn-rate", config.user_count),
        *("--run-time", f"{config.total_s}s", "--stop-timeout", math.ceil(timeout_s) + 1),
        *("--request-timeout", timeout_s, "--golden", source.absolute(), "--protocol", config.protocol),
        *("--batch", config.batch, "--model", model, "--model-version", config.version or 0, "--rate", config.rate),
        *("--shape", config.shape, "--counts", counts_file, "--arrivals", config.arrivals, "--seed", config.seed),
        *(["--new-connections"] if config.new_connections else []),
        *(["--insecure"] if tls.insecure else []),
        *itertools.chain(*((option, file.absolute()) for option, file in files.items() if file)),
        *(_processes(config.processes) if config.processes > 1 else []),
    ]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    return [*command, "--loglevel", "WARNING", *map(str, options)]


def _processes(count: int) -> list[Any]:
    """On a port of this machine alone: Locust's own is one for all load tests, and open to other machines."""
    host = "127.0.0.1"
    with socket.create_server((host, 0)) as probe:
        port = probe.getsockname()[1]
    ports = ["--master-bind-host", host, "--master-bind-port", port, "--master-host", host, "--master-port", port]
    return ["--processes", count, *ports]


def _describe_exit(status: int, timed_out: bool) -> str:
    if timed_out:
        return "Locust did not end in time and was terminated"
    if status < 0:
        return f"Locust was killed by {signal.Signals(-status).name}"
    return f"Locust ended with exit status {status}"


def _environment(config: LoadConfig) -> dict[str, str]:
    """gevent on select at low rates: epoll rounds every timer up to a millisecond, so requests would be sent late;
    select does not, but costs more per event, which matters only at a high rate."""
    precise = 0 < config.rate / config.processes <= MAX_SELECT_RATE
    return os.environ | ({"GEVENT_BACKEND": "select"} if precise else {})


def _follow(
    process: "subprocess.Popen[bytes]", counts_file: Path, config: LoadConfig, on_progress: ProgressCallback
) -> Progress:
    """Reads Locust's counters until it ends, and the server's metrics at the same interval; Ctrl-C, which Locust
    receives as well, ends it early. Raises KeyboardInterrupt if that happens before anything was measured."""
    progress = Progress()
    deadline = time.monotonic() + config.total_s + config.request_timeout_s + SHUTDOWN_TIMEOUT_S
    with counts_file.open("rb") as opened:
        lines = _lines(opened)
        try:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL_S)
                if _update(progress, lines, on_progress) and config.metrics_url:
                    with contextlib.suppress(Unavailable):  # the server may be too busy, or down for a while
                        page = metrics.read(config.metrics_url, config.tls)
                        progress.metrics_pages.append((progress.elapsed_s, page))
        except KeyboardInterrupt:
            terminate(process)
            _update(progress, lines, lambda progress: None)  # the last counters; the callback may have interrupted
            if not progress.elapsed_s:
                raise  # there is nothing to report
        else:
            _update(progress, lines, on_progress)
    return progress


def _lines(opened: IO[bytes]) -> Iterator[bytes]:
    """Complete lines; b"" whenever there is none yet."""
    pending = b""
    while True:
        pending += opened.read()
        *complete, pending = pending.split(b"\n")
        yield from complete
        yield b""


def _update(progress: Progress, lines: Iterator[bytes], on_progress: ProgressCallback) -> bool:
    """Adds the new lines' counters to `progress`; returns whether there were any."""
    updated = False
    for line in iter(lambda: next(lines), b""):
        raw = json.loads(line)
        progress.elapsed_s, progress.users, progress.processes = raw["elapsed_s"], raw["users"], raw["processes"]
        progress.latest = Counters()
        for counters in raw["counters"].values():
            progress.latest.merge(Counters.from_json(counters))
        progress.total.merge(progress.latest)
        on_progress(progress)
        updated = True
    return updated


def terminate(process: "subprocess.Popen[bytes]", grace_s: float = 10) -> None:
    """Ends a process that we started within `grace_s` seconds; does nothing if it has ended already."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
