"""`python -m seaway.explore --source SOURCE --dataset DIR [--report FILE] [--cache DIR]`"""

import argparse
from pathlib import Path

from seaway import errors
from seaway.data import data
from seaway.explore.explore import explore

PROGRAM = "python -m seaway.explore"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Reads pictures of characters into a dataset, and reports what is in it.",
        epilog=f"{PROGRAM} --source strokes:14000 --dataset work/dataset --report work/explore.html",
    )
    parser.add_argument(
        "--source",
        default="strokes",
        help="strokes or strokes:14000 (made offline; the default), idx:DIR or idx:DIR#balanced (EMNIST's own files), "
        "emnist or emnist:letters (downloads 536 MB)",
    )
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="the folder to write: work/dataset")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="the HTML report to write: work/explore.html; its summary is printed",
    )
    parser.add_argument(
        "--cache", type=Path, default=data.CACHE, metavar="DIR", help="keeps EMNIST's download (default: %(default)s)"
    )
    given = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        card = explore(given.source, given.dataset, given.report, given.cache)
        counts = ", ".join(f"{value:,.0f} {name}" for name, value in card.metrics.items())
        print(f"{given.dataset}: {counts}" + (f"; see {given.report}" if given.report else ""))


if __name__ == "__main__":
    main()
