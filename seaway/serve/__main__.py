"""Serves a model repository: TensorFlow Serving REST, Open Inference Protocol v2, GraphPipe and a web page on one port.

python -m seaway.serve --model-repository DIR
"""

import argparse
from importlib.util import find_spec

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.errors import InvalidInput, NotFound, Unavailable
from seaway.serve import settings
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
    )
    settings.add_options(parser)
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
