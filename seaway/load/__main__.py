"""`python -m seaway.load --url URL --model-repository DIR --name NAME --version N --evidence OUT`, see --help."""

from pathlib import Path

from seaway import client_tls, errors
from seaway.arguments import ArgumentParser
from seaway.load import gate
from seaway.load.evidence import REPORT
from seaway.load.load import load

PROGRAM = "python -m seaway.load"


def main() -> None:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Sends the test set to a served version, then load-tests it with Locust, over every protocol; "
        "compares every response with the recorded outputs and writes the evidence that promote requires.",
        epilog=f"example: {PROGRAM} --url http://127.0.0.1:8501 --model-repository models --name characters "
        "--version 3 --dataset work/dataset --onnx work/onnx --evidence work/evidence",
    )
    parser.add_argument(
        "--url",
        required=True,
        help="URL of the server under test, e.g. http://127.0.0.1:8501; grpc://127.0.0.1:8500, or grpcs:// with TLS, "
        "to test it over gRPC alone",
    )
    parser.add_argument(
        "--grpc-url", default="", metavar="URL", help="its gRPC address, to test it over HTTP and over gRPC"
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
    parser.add_argument("--name", required=True, help="the model, e.g. characters")
    parser.add_argument("--version", type=int, required=True, metavar="N", help="the version under test, e.g. 3")
    parser.add_argument(
        "--evidence", type=Path, required=True, metavar="OUT", help="the folder to write the evidence to"
    )
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="the dataset whose test set to send (with --onnx)")
    parser.add_argument("--onnx", type=Path, metavar="DIR", help="the ONNX artifact with test_outputs.npz, from export")
    parser.add_argument(
        "--duration-s", type=int, default=10, metavar="S", help="duration of the load per protocol (default: 10)"
    )
    parser.add_argument("--users", type=int, default=8, metavar="N", help="concurrent users (default: 8)")
    parser.add_argument(
        "--rate", type=float, default=0, metavar="R", help="requests per second in an open loop, instead of --users"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="examples per request (default: 1)")
    parser.add_argument(
        "--protocol",
        action="append",
        default=[],
        help="tfs, graphpipe, oip, oip-binary or png, over gRPC tfs-grpc or oip-grpc; repeat for more (default: all "
        "that the server supports)",
    )
    parser.add_argument(
        "--limits", type=Path, metavar="FILE", help="YAML file of limits; promote refuses a version that misses one"
    )
    parser.add_argument("--baseline", default="", metavar="URL", help="URL that serves stable (default: --url)")
    parser.add_argument(
        "--metrics", default="", metavar="URL", help="URL of the server's Prometheus metrics, for the report"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="the file to write a copy of the HTML report to")
    parser.add_argument(
        "--judge-profile",
        action="store_true",
        help="compare with stable although it uses another engine: the serving profile is what is judged",
    )
    client_tls.add_arguments(parser)
    args = parser.parse_args()
    with errors.exit_with_message(PROGRAM):
        metadata = load(
            *(args.url, args.repository, args.name, args.version, args.evidence, args.dataset, args.onnx),
            *(args.duration_s, args.users, args.batch, args.report, args.protocol, args.rate),
            gate.to_mapping(gate.read_limits(args.limits)) if args.limits else None,
            *(args.metrics, args.baseline, client_tls.from_arguments(args), args.grpc_url, args.judge_profile),
        )
        titles = {
            "requests": "requests",
            "wrong": "wrong",
            "failed": "failed",
            "foreign": "unattributed",
        }
        counts = ", ".join(f"{metadata.metrics[key]:,.0f} {title}" for key, title in titles.items())
        print(f"{counts}; report: {args.evidence / REPORT}")


if __name__ == "__main__":
    main()
