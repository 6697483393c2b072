"""`python -m seaway.deploy --url URL --model-repository DIR --name NAME --version N [--timeout S]`"""

from pathlib import Path

from seaway import client_tls, errors
from seaway.arguments import ArgumentParser
from seaway.deploy.deploy import LABEL, deploy

PROGRAM = "python -m seaway.deploy"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description=f"Makes a published version the {LABEL}, waits until the running server serves it, and compares "
        "its responses to the golden examples over each protocol with the recorded outputs.",
        epilog=f"example: {PROGRAM} --url http://127.0.0.1:8501 --model-repository models --name characters "
        "--version 3",
    )
    parser.add_argument(
        "--url", required=True, help="URL of the server that serves this model repository, e.g. http://127.0.0.1:8501"
    )
    parser.add_argument(
        "--model-repository",
        "--repository",
        dest="repository",
        type=Path,
        required=True,
        metavar="DIR",
        help="the model repository",
    )
    parser.add_argument("--name", required=True, help="the model's name, e.g. characters")
    parser.add_argument("--version", type=int, required=True, metavar="N", help="the version to deploy, e.g. 3")
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds to wait for the version (default: 60, on a cluster 300)"
    )
    parser.add_argument(
        "--namespace",
        default="",
        metavar="NS",
        help="Kubernetes namespace to roll the version out in (default: no cluster)",
    )
    parser.add_argument("--context", default="", help="kubectl context (default: the current one)")
    client_tls.add_arguments(parser)
    args = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        deploy(
            args.url,
            args.repository,
            args.name,
            args.version,
            args.timeout,
            args.namespace,
            context=args.context,
            tls=client_tls.from_arguments(args),
        )


if __name__ == "__main__":
    main()
