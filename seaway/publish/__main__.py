"""`python -m seaway.publish --onnx DIR --saved-model DIR --parity DIR --model-repository DIR [--name NAME]`"""

from pathlib import Path

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.publish.publish import publish

PROGRAM = "python -m seaway.publish"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Publishes a validated model as the next version in the repository; prints its number last.",
        epilog=f"example: {PROGRAM} --onnx work/onnx --saved-model work/saved_model --parity work/parity "
        "--model-repository models",
    )
    parser.add_argument(
        "--onnx", type=Path, required=True, metavar="DIR", help="the export stage's folder, e.g. work/onnx"
    )
    parser.add_argument("--saved-model", type=Path, required=True, metavar="DIR", help="the convert stage's folder")
    parser.add_argument(
        "--parity", type=Path, required=True, metavar="DIR", help="the validate stage's folder for these two"
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
    parser.add_argument("--name", help="the model's name in the repository and in URLs (default: as in the metadata)")
    arguments = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        print(publish(arguments.onnx, arguments.saved_model, arguments.parity, arguments.repository, arguments.name))


if __name__ == "__main__":
    main()
