"""`seaway serve`: the model server in the foreground."""

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from seaway.cli import options
from seaway.errors import InvalidInput, Unavailable

EXAMPLES = Path(__file__).resolve().parents[1] / "example"
EXAMPLE = "characters"


def serve(
    context: typer.Context,
    volume: options.Volume = options.DEFAULT_VOLUME,
    example: Annotated[
        bool, typer.Option("--example", help="Serve the example that comes with Seaway, with ONNX Runtime.")
    ] = False,
    backend: Annotated[
        Literal["savedmodel", "onnx"] | None,
        typer.Option(help="What runs the models: TensorFlow, or ONNX Runtime. Default: savedmodel; --example: onnx."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: options.Port = options.DEFAULT_PORT,
    admin_port: Annotated[int | None, typer.Option(help="Port of /metrics and /status. Default: none.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that hold the models; 0 chooses from the cores.", min=0)] = 0,
    default_version: Annotated[
        str, typer.Option(help="Which version answers unlabelled requests: stable or latest.")
    ] = "stable",
    access_log: Annotated[bool, typer.Option(help="A JSON line for every request on stderr.")] = False,
) -> None:
    """Serves every model of a volume on one port: TensorFlow Serving's REST API, Open Inference Protocol v2, GraphPipe.

    New versions are taken up while it runs; Ctrl-C or SIGTERM answers what is in flight, then ends. Every other option
    of the server (limits, batches, threads) may be given too: python -m seaway.serve --help lists them.

    [bold]Examples[/bold]

      seaway serve

      seaway serve --example                  [dim]# handwritten characters, to draw on at http://127.0.0.1:8501/[/dim]

      seaway serve --volume /models --backend onnx --host 0.0.0.0 --workers 2

      curl http://127.0.0.1:8501/v1/models/characters
    """
    if example:
        volume, backend = _examples(volume), backend or "onnx"
    _check_free(host, port)
    command = [sys.executable, "-m", "seaway.serve", "--volume", str(volume), "--host", host, "--port", str(port)]
    command += ["--workers", str(workers), "--default-version", default_version]
    command += ["--backend", backend] if backend else []
    command += ["--admin-port", str(admin_port)] if admin_port is not None else []
    command += ["--access-log"] if access_log else []
    command += context.args
    if example:
        from seaway.serve.settings import address

        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        print(
            f"Draw a character: http://{address(shown, port)}/ (once the server says that it serves; Ctrl-C ends it)",
            flush=True,
        )
    os.execv(sys.executable, command)  # noqa: S606  (one process fewer between the terminal and the server)


def _examples(volume: Path) -> Path:
    """The folder of examples as a volume. Raises InvalidInput."""
    if volume != options.DEFAULT_VOLUME:
        raise InvalidInput(f"--example serves its own volume: leave out either it or --volume {volume}")
    return EXAMPLES


def _check_free(host: str, port: int) -> None:
    """Raises Unavailable before anything is imported where another program holds the port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"port {port} of {host} is in use by another program: end that one, or choose another port, "
                f"e.g. seaway serve --port {port + 1} (or make try PORT={port + 1})"
            ) from None
        raise
