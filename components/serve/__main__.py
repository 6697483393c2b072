"""Serves a model volume over TensorFlow Serving REST and GraphPipe: `python -m components.serve --volume DIR`."""

import argparse
from pathlib import Path

from components.serve import settings
from components.serve.server import serve
from components.serve.settings import Settings
from seaway import errors
from seaway.errors import InvalidInput

EPILOG = """example:
  python -m components.serve --volume .seaway/volume --port 8501 --admin-port 8502
  curl -d '{"instances": [[0.0, 1.0]]}' http://127.0.0.1:8501/v1/models/NAME:predict

Every option can also be given in the environment: SEAWAY_VOLUME, SEAWAY_PORT, SEAWAY_DEFAULT_VERSION, …
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m components.serve",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    option = parser.add_argument
    option("--volume", type=Path, help="the folder with models: <name>/<version>/saved_model.pb")
    option("--host", help="address to listen on; 0.0.0.0 for all (default 127.0.0.1)")
    option("--port", type=int, help="REST and GraphPipe; 0 takes a free one and says which (default 8501)")
    option("--admin-port", type=int, help="GET /status: models, versions, workers (default: none)")
    option("--workers", type=int, help="processes that hold the models (default: one for every two cores)")
    option(
        "--default-version",
        choices=["stable", "latest"],
        help="what an unlabelled request gets: the version that the "
        "label stable points at, the latest where there is none (default); or always the latest",
    )
    option("--poll-seconds", type=float, help="time between two looks at the volume (default 1)")
    option("--timeout-seconds", type=float, help="a request's deadline, answered 504 (default 30)")
    option(
        "--drain-seconds", type=float, help="time between SIGTERM and closing the port, /readyz being 503 (default 0.5)"
    )
    option("--max-body-bytes", type=int, help="larger requests are answered 413 (default 67108864)")
    option("--max-waiting", type=int, help="requests that may wait for a worker; more are answered 503 (default 1000)")
    option("--access-log", action="store_true", help="one JSON line a request on stderr")
    return parser


def main() -> None:
    arguments = vars(_parser().parse_args())
    with errors.exit_with_message("python -m components.serve"):
        given = settings.from_environment() | arguments
        if "volume" not in given:
            raise InvalidInput("no volume: give --volume DIR, the folder with the models, or set SEAWAY_VOLUME")
        serve(Settings(**given))


if __name__ == "__main__":
    main()
