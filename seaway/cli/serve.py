"""`seaway serve`: runs the model server in the foreground."""

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from seaway.arguments import seaway_command
from seaway.cli import options
from seaway.errors import InvalidInput, Unavailable

EXAMPLES = Path(__file__).resolve().parents[1] / "example"
EXAMPLE = "characters"


def serve(
    context: typer.Context,
    repository: options.Repository = options.DEFAULT_REPOSITORY,
    example: Annotated[
        bool, typer.Option("--example", help="Serve the bundled example model, with ONNX Runtime.")
    ] = False,
    backend: Annotated[
        Literal["savedmodel", "onnx"] | None,
        typer.Option(
            help="Runtime of the models: TensorFlow (savedmodel) or ONNX Runtime (onnx). Default: savedmodel, or onnx "
            "with --example."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="IP address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: options.Port = options.DEFAULT_PORT,
    admin_port: Annotated[int | None, typer.Option(help="Port for /metrics and /status. Default: none.")] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="Worker processes, each with all models. Default: the number of cores minus one.",
            min=0,
            show_default=False,
        ),
    ] = 0,
    default_version: Annotated[
        str, typer.Option(help="The version for requests that name none: stable or latest.")
    ] = "stable",
    access_log: Annotated[bool, typer.Option(help="Log a JSON line per request to stderr.")] = False,
) -> None:
    """Serves a model repository over TensorFlow Serving's REST API, the Open Inference Protocol and GraphPipe.

    New versions are loaded while it runs. Ctrl-C or SIGTERM finishes the requests in flight, then stops the server. It
    also takes all other options of the server (gRPC, TLS, limits, batching, threads): python -m seaway.serve --help
    lists them.

    [bold]Examples[/bold]

      seaway serve

      seaway serve --example                  [dim]# draw a character at http://127.0.0.1:8501/[/dim]

      seaway serve --model-repository /models --backend onnx --host 0.0.0.0 --workers 2

      curl http://127.0.0.1:8501/v1/models/characters
    """
    if example:
        repository, backend = _example_repository(repository), backend or "onnx"
    _check_port(host, port)
    command = [
        sys.executable,
        "-m",
        "seaway.serve",
        "--model-repository",
        str(repository),
        "--host",
        host,
        "--port",
        str(port),
    ]
    command += ["--workers", str(workers), "--default-version", default_version]
    command += ["--backend", backend] if backend else []
    command += ["--admin-port", str(admin_port)] if admin_port is not None else []
    command += ["--access-log"] if access_log else []
    command += context.args
    from seaway.serve.settings import PROGRAM, address

    if example:
        browser_host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        given = any(text.startswith("--tls-cert") for text in context.args) or os.environ.get("SEAWAY_TLS_CERT")
        scheme = "https" if given else "http"
        print(
            f"Draw a character: {scheme}://{address(browser_host, port)}/ (once the server is ready; Ctrl-C stops it)",
            flush=True,
        )
    os.environ[PROGRAM] = "seaway serve"
    os.execv(sys.executable, command)  # noqa: S606  (no extra process between the terminal and the server)


def _example_repository(repository: Path) -> Path:
    """The model repository of the bundled example. Raises InvalidInput."""
    if repository != options.DEFAULT_REPOSITORY:
        raise InvalidInput(
            f"--example serves its own model repository: leave out --example or --model-repository {repository}"
        )
    return EXAMPLES


def _check_port(host: str, port: int) -> None:
    """Raises Unavailable, before any slow import, if another program uses the port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"port {port} of {host} is in use: stop the program that uses it, or choose another port, "
                f"e.g. {seaway_command('serve', '--port', port + 1)}"
            ) from None
        raise
