"""`python -m seaway.explore --source SOURCE --dataset DIR [--report FILE] [--cache DIR]`"""

from pathlib import Path

from seaway import errors, extras
from seaway.arguments import ArgumentParser
from seaway.data import datasets
from seaway.explore.explore import explore

PROGRAM = "python -m seaway.explore"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Reads images of characters into a dataset, and reports on it.",
        epilog=f"example: {PROGRAM} --source strokes:14000 --dataset work/dataset --report work/explore.html",
    )
    parser.add_argument(
        "--source",
        default="strokes",
        help="strokes[:N] (N synthetic characters, generated locally, as unevenly distributed as EMNIST's; with #text "
        "as in running text; the default), idx:DIR[#SPLIT] (a folder with the original EMNIST files), or "
        "emnist[:SPLIT] (downloaded, 536 MB); SPLIT: byclass, bymerge, balanced, letters, digits or mnist",
    )
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="the folder to write, e.g. work/dataset"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="the HTML report to write, e.g. work/explore.html; its summary is printed",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=datasets.CACHE,
        metavar="DIR",
        help="folder that keeps the EMNIST download (default: %(default)s)",
    )
    args = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        if args.report:
            extras.require(*extras.REPORTS)
        metadata = explore(args.source, args.dataset, args.report, args.cache)
        counts = ", ".join(f"{value:,.0f} {name}" for name, value in metadata.metrics.items())
        print(f"{args.dataset}: {counts}" + (f"; see {args.report}" if args.report else ""))


if __name__ == "__main__":
    main()
