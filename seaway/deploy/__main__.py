"""`python -m seaway.deploy --url URL --volume DIR --name NAME --version N [--timeout S]`"""

import argparse
from pathlib import Path

from seaway import errors
from seaway.deploy.deploy import LABEL, deploy

PROGRAM = "python -m seaway.deploy"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=f"Makes a published version {LABEL!r}, waits until the running server serves it, and checks its "
        "answers to the golden examples over each protocol against PyTorch's.",
        epilog=f"{PROGRAM} --url http://127.0.0.1:8501 --volume models --name characters --version 3",
    )
    parser.add_argument("--url", required=True, help="the server that serves this volume: http://127.0.0.1:8501")
    parser.add_argument("--volume", type=Path, required=True, metavar="DIR", help="the model volume")
    parser.add_argument("--name", required=True, help="the model, e.g. characters")
    parser.add_argument("--version", type=int, required=True, metavar="N", help="what publish printed, e.g. 3")
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds to wait for it (default: 60, on a cluster 300)"
    )
    parser.add_argument("--namespace", default="", metavar="NS", help="roll it out in this namespace of the cluster")
    parser.add_argument("--context", default="", help="of kubectl's configuration (default: the current one)")
    given = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        deploy(
            given.url, given.volume, given.name, given.version, given.timeout, given.namespace, context=given.context
        )


if __name__ == "__main__":
    main()
