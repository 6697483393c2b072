"""`seaway serve`: the model server in the foreground."""

import os
import sys
from typing import Annotated

import typer

from cli import options


def serve(
    volume: options.Volume = options.DEFAULT_VOLUME,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: options.Port = options.DEFAULT_PORT,
    workers: Annotated[int, typer.Option(help="Processes that hold the models; 0 chooses from the cores.", min=0)] = 0,
    default_version: Annotated[
        str, typer.Option(help="Which version answers unlabelled requests: stable or latest.")
    ] = "stable",
    access_log: Annotated[bool, typer.Option(help="A JSON line for every request on stderr.")] = False,
) -> None:
    """Serves every model of a volume over TensorFlow Serving's REST API and GraphPipe, on one port.

    New versions are taken up while it runs; Ctrl-C or SIGTERM answers what is in flight, then ends.

    [bold]Examples[/bold]

      seaway serve

      seaway serve --volume /models --host 0.0.0.0 --workers 2

      curl http://127.0.0.1:8501/v1/models/characters
    """
    command = [sys.executable, "-m", "components.serve", "--volume", str(volume), "--host", host, "--port", str(port)]
    command += ["--workers", str(workers), "--default-version", default_version]
    command += ["--access-log"] if access_log else []
    os.execv(sys.executable, command)  # noqa: S606  (one process fewer between the terminal and the server)
