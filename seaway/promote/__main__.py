"""`python -m seaway.promote --model-repository DIR --name NAME --version N [--evidence DIR]`, and `--rollback`"""

from pathlib import Path

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.promote.promote import LABEL, promote
from seaway.promote.rollback import rollback

PROGRAM = "python -m seaway.promote"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description=f"Makes a version {LABEL}: the one for requests that name no version. Refuses without evidence.",
        epilog=f"example: {PROGRAM} --model-repository models --name characters --version 3",
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
    parser.add_argument("--version", type=int, metavar="N", help="the version to promote, e.g. 3")
    parser.add_argument(
        "--evidence",
        type=Path,
        metavar="DIR",
        help="folder of evidence that the load stage wrote (default: the newest in the model repository)",
    )
    parser.add_argument(
        "--rollback",
        action="store_true",
        help=f"go back to the version that was {LABEL} before, or to a --version that once was",
    )
    parser.add_argument(
        "--namespace",
        default="",
        metavar="NS",
        help="Kubernetes namespace to roll the version out in (default: no cluster)",
    )
    parser.add_argument("--context", default="", help="kubectl context (default: the current one)")
    args = parser.parse_args()
    if args.version is None and not args.rollback:
        parser.error("the following arguments are required: --version")
    with errors.exit_with_message(PROGRAM):
        if args.rollback:
            rollback(args.repository, args.name, args.version, args.namespace, args.context)
        else:
            promote(args.repository, args.name, args.version, args.evidence, args.namespace, args.context)


if __name__ == "__main__":
    main()
