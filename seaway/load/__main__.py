"""`python -m seaway.load --url URL --volume DIR --name NAME --version N --evidence OUT`, see --help."""

import argparse
from pathlib import Path

from seaway import errors
from seaway.load import gate
from seaway.load.load import load

PROGRAM = "python -m seaway.load"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Sends the test set and then Locust's users to a served version over every protocol, compares "
        "every answer with PyTorch's, and writes the evidence that promote asks for.",
        epilog=f"{PROGRAM} --url http://127.0.0.1:8501 --volume models --name characters --version 3 "
        "--dataset work/dataset --onnx work/onnx --evidence work/evidence",
    )
    parser.add_argument("--url", required=True, help="the server under test: http://127.0.0.1:8501")
    parser.add_argument("--volume", type=Path, required=True, metavar="DIR", help="the model volume")
    parser.add_argument("--name", required=True, help="the model, e.g. characters")
    parser.add_argument("--version", type=int, required=True, metavar="N", help="the version under test, e.g. 3")
    parser.add_argument("--evidence", type=Path, required=True, metavar="OUT", help="where to write the evidence")
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="the dataset whose test set to send (with --onnx)")
    parser.add_argument("--onnx", type=Path, metavar="DIR", help="what export wrote, with test_outputs.npz")
    parser.add_argument("--seconds", type=int, default=10, metavar="S", help="of load a protocol (default: 10)")
    parser.add_argument("--users", type=int, default=8, metavar="N", help="who ask at the same time (default: 8)")
    parser.add_argument("--rate", type=float, default=0, metavar="R", help="requests a second, instead of users")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="examples a request (default: 1)")
    parser.add_argument("--protocol", action="append", default=[], help="repeat for more (default: all that it speaks)")
    parser.add_argument("--limits", type=Path, metavar="FILE", help="YAML; promote refuses where one is not kept")
    parser.add_argument("--baseline", default="", metavar="URL", help="where stable is served (default: at --url)")
    parser.add_argument("--metrics", default="", metavar="URL", help="the server's Prometheus page, for the report")
    parser.add_argument("--report", type=Path, metavar="FILE", help="a copy of the HTML report")
    given = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        card = load(
            *(given.url, given.volume, given.name, given.version, given.evidence, given.dataset, given.onnx),
            *(given.seconds, given.users, given.batch, given.report, given.protocol, given.rate),
            gate.given(gate.read(given.limits)) if given.limits else None,
            *(given.metrics, given.baseline),
        )
        found = card.metrics
        counts = ", ".join(f"{found[key]:.0f} {key}" for key in ("requests", "wrong", "failed", "foreign"))
        print(f"{counts}; report: {given.evidence / 'report.html'}")


if __name__ == "__main__":
    main()
