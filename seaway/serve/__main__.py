"""Serves a model repository: TensorFlow Serving REST, Open Inference Protocol v2, GraphPipe and a web page on one port.

python -m seaway.serve --model-repository DIR
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.errors import InvalidInput, NotFound, Unavailable
from seaway.serve import settings
from seaway.serve.backends.backend import BACKENDS
from seaway.serve.settings import Settings
from seaway.serve.supervisor.server import serve

EPILOG = """example:
  python -m seaway.serve --model-repository .seaway/models --port 8501 --admin-port 8502
  curl -d '{"instances": [[0.0, 1.0]]}' http://127.0.0.1:8501/v1/models/NAME:predict

Every option can also be set in the environment: SEAWAY_MODEL_REPOSITORY, SEAWAY_PORT, SEAWAY_DEFAULT_VERSION, …
"""


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=settings.program(),
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    option = parser.add_argument
    option(
        "--model-repository",
        "--repository",
        type=Path,
        metavar="DIR",
        help="the folder of models: <name>/<version>/saved_model.pb",
    )
    option(
        "--backend", choices=[*BACKENDS], help="runtime of the models: TensorFlow (savedmodel, default) or ONNX Runtime"
    )
    option("--wait", action="store_true", help="start although the model repository does not exist yet")
    option("--host", metavar="IP", help="IP address to listen on; 0.0.0.0 for all (default 127.0.0.1)")
    option(
        "--port",
        type=int,
        metavar="N",
        help="port of all protocols and the page; 0 picks a free one and prints it (default 8501)",
    )
    option("--admin-port", type=int, metavar="N", help="port of GET /metrics and /status (default: none)")
    option(
        "--default-version",
        choices=["stable", "latest"],
        help="version for requests that name none: the one labelled stable, or the latest if there is no such label "
        "(stable, default); or always the latest",
    )
    option("--model", metavar="NAME", help="the only model to serve")
    option(
        "--model-version",
        type=int,
        metavar="N",
        help="the only version of it to serve, whatever its labels (default: the stable one at startup)",
    )
    option(
        "--allow-op",
        action="append",
        metavar="OP",
        help="allow a SavedModel operator that is blocked by default; repeat for more",
    )
    option(
        "--poll-interval-s",
        type=float,
        metavar="S",
        help="seconds between two scans of the model repository (default 1)",
    )

    option = parser.add_argument_group("cores and batches").add_argument
    option(
        "--workers",
        type=int,
        metavar="N",
        help="processes that hold the models (default: the number of cores minus one)",
    )
    option(
        "--threads", type=int, metavar="N", help="threads of each worker's backend (default: its share of the cores)"
    )
    option(
        "--max-batch", type=int, metavar="N", help="maximum rows in a batch merged from several requests (default 64)"
    )
    option(
        "--batch-delay-ms",
        type=float,
        metavar="MS",
        help="how long a request may wait for others to be batched with it while a worker is idle (default 0)",
    )

    option = parser.add_argument_group("limits").add_argument
    option(
        "--timeout-s", type=float, metavar="S", help="a request's deadline; after it the client gets 504 (default 30)"
    )
    option(
        "--read-timeout-s",
        type=float,
        metavar="S",
        help="seconds for a request to arrive, and for the client to read its response (default 30)",
    )
    option(
        "--drain-s",
        type=float,
        metavar="S",
        help="seconds between SIGTERM, when /readyz turns 503, and closing the port (default 0.5)",
    )
    option(
        "--max-body-bytes",
        type=int,
        metavar="N",
        help="maximum size of a request; larger ones get 413 (default 67108864)",
    )
    option(
        "--max-held-bytes",
        type=int,
        metavar="N",
        help="maximum bytes of all request bodies in memory (default: a quarter of the memory, at most 1 GiB)",
    )
    option(
        "--max-waiting",
        type=int,
        metavar="N",
        help="maximum requests that wait for a worker; further ones get 503 (default 1000)",
    )
    option(
        "--max-connections",
        type=int,
        metavar="N",
        help="maximum open connections; further ones get 503 and are closed (default 16384)",
    )
    option(
        "--cors-origin",
        action="append",
        metavar="URL",
        help="allowed CORS origin, e.g. https://example.com, or '*'; repeat for more (default: none)",
    )
    option("--access-log", action="store_true", help="one JSON line per request on stderr")
    option("--pod", metavar="NAME", help="name of this replica, sent in the header Seaway-Pod")
    return parser


def main() -> None:
    arguments = vars(_parser().parse_args())
    with errors.exit_with_message(settings.program()):
        values = settings.from_environment() | arguments
        if "model_repository" not in values:
            raise InvalidInput(
                "no model repository: set --model-repository DIR, the folder of models, or SEAWAY_MODEL_REPOSITORY"
            )
        lists = {name: tuple(values.get(name, ())) for name in ("allow_op", "cors_origin")}
        server_settings = Settings(**values | lists)
        repository = server_settings.model_repository
        if not repository.exists() and not server_settings.wait:
            raise NotFound(
                f"{repository}: there is no such model repository. `seaway ship` and `seaway run` make one, `seaway "
                "serve --example` serves the bundled model; with --wait the server waits until the folder is there"
            )
        if server_settings.backend == "savedmodel" and find_spec("tensorflow") is None:
            raise Unavailable(
                '--backend savedmodel needs tensorflow, which is not installed: pip install "seaway[tensorflow]"; '
                "or serve with ONNX Runtime: --backend onnx"
            )
        serve(server_settings)


if __name__ == "__main__":
    main()
