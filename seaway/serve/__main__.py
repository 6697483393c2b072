"""Serves a model volume: TensorFlow Serving REST, Open Inference Protocol v2 and GraphPipe on one port, and a page.

python -m seaway.serve --volume DIR
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from seaway import errors
from seaway.errors import InvalidInput, Unavailable
from seaway.serve import settings
from seaway.serve.backends.backend import BACKENDS
from seaway.serve.settings import Settings
from seaway.serve.supervisor.server import serve

EPILOG = """example:
  python -m seaway.serve --volume .seaway/volume --port 8501 --admin-port 8502
  curl -d '{"instances": [[0.0, 1.0]]}' http://127.0.0.1:8501/v1/models/NAME:predict

Every option can also be given in the environment: SEAWAY_VOLUME, SEAWAY_PORT, SEAWAY_DEFAULT_VERSION, …
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seaway.serve",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    option = parser.add_argument
    option("--volume", type=Path, help="the folder with models: <name>/<version>/saved_model.pb")
    option("--backend", choices=[*BACKENDS], help="what runs the models: TensorFlow (default), or ONNX Runtime")
    option("--host", help="address to listen on; 0.0.0.0 for all (default 127.0.0.1)")
    option("--port", type=int, help="all protocols and the page; 0 takes a free one and says which (default 8501)")
    option("--admin-port", type=int, help="GET /metrics and /status (default: none)")
    option(
        "--default-version",
        choices=["stable", "latest"],
        help="what an unlabelled request gets: the version that the label stable points at, the latest where there is "
        "none (default); or always the latest",
    )
    option("--model", help="the only model to serve")
    option(
        "--model-version",
        type=int,
        help="its only version to serve, whatever labels say (default: the stable one at the start)",
    )
    option("--allow-op", action="append", help="an operator that SavedModels may use although it reaches out of them")
    option("--poll-seconds", type=float, help="time between two looks at the volume (default 1)")

    option = parser.add_argument_group("cores and batches").add_argument
    option("--workers", type=int, help="processes that hold the models (default: one a core, but one)")
    option("--threads", type=int, help="of each worker's backend (default: the cores there are for each worker)")
    option("--max-batch", type=int, help="rows that several requests may make in one run of a model (default 64)")
    option("--batch-delay-ms", type=float, help="that a request may wait for others while a worker idles (default 0)")

    option = parser.add_argument_group("limits").add_argument
    option("--timeout-seconds", type=float, help="a request's deadline, answered 504 (default 30)")
    option("--read-seconds", type=float, help="for a request to arrive, and an answer to be taken (default 30)")
    option(
        "--drain-seconds", type=float, help="time between SIGTERM and closing the port, /readyz being 503 (default 0.5)"
    )
    option("--max-body-bytes", type=int, help="larger requests are answered 413 (default 67108864)")
    option(
        "--max-held-bytes", type=int, help="of all bodies together (default: a quarter of the memory, at most 1 GiB)"
    )
    option("--max-waiting", type=int, help="requests that may wait for a worker; more are answered 503 (default 1000)")
    option("--max-connections", type=int, help="more are answered 503 and closed (default 16384)")
    option(
        "--cors-origin",
        action="append",
        help="a site whose pages may ask this server, like https://example.com, or '*' for all (default: none)",
    )
    option("--access-log", action="store_true", help="one JSON line a request on stderr")
    option("--pod", help="this server's name, which every answer then carries as Seaway-Pod")
    return parser


def main() -> None:
    arguments = vars(_parser().parse_args())
    with errors.exit_with_message("python -m seaway.serve"):
        given = settings.from_environment() | arguments
        if "volume" not in given:
            raise InvalidInput("no volume: give --volume DIR, the folder with the models, or set SEAWAY_VOLUME")
        several = {name: tuple(given.get(name, ())) for name in ("allow_op", "cors_origin")}
        chosen = Settings(**given | several)
        if chosen.backend == "savedmodel" and find_spec("tensorflow") is None:
            raise Unavailable(
                '--backend savedmodel needs tensorflow, which is not installed: pip install "seaway[tensorflow]"; '
                "or serve with ONNX Runtime: --backend onnx"
            )
        serve(chosen)


if __name__ == "__main__":
    main()
