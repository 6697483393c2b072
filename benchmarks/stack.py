"""The serving stack on kind: seconds until it responds, changes its version or recovers; CPU and memory.

python -m benchmarks.stack      (docker, kind and kubectl on PATH; after `make kind-up`, whose stack it recreates)
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))  # helpers of the tests on kind

import onkind
from onkind import CANARY, CONTEXT, HOST, NAMESPACE, command, kubectl, publish, rolled_out, seaway, serving_pods

from benchmarks.processes import machine
from seaway.kube import api_client, rollout

NAMESPACE_FILE, OVERLAY = "manifests/namespace.yaml", "manifests/overlays/kind"
REPOSITORY = onkind.ROOT / ".kind-models"
ROUNDS = 3


def main() -> None:
    durations_s: dict[str, list[float]] = {}
    usage: dict[str, tuple[str, str]] = {}

    def measure(title: str, action: Callable[[], object]) -> None:
        started_at = time.monotonic()
        action()
        durations_s.setdefault(title, []).append(time.monotonic() - started_at)
        print(f"{title}: {durations_s[title][-1]:.1f} s", file=sys.stderr, flush=True)

    for source in (("-k", OVERLAY), ("-f", NAMESPACE_FILE)):
        command("kubectl", "--context", CONTEXT, "delete", *source, "--ignore-not-found", "--wait")
    measure("`kubectl apply -k`, until the example responds", apply)
    api = api_client.connect(CONTEXT)
    for number in range(ROUNDS):
        version = publish(REPOSITORY)
        measure("`seaway deploy`: canary up, responses compared on every protocol", lambda v=version: deploy(v))
        measure("stable to the new version (one replica)", lambda v=version: promote(api, v))
        if number:  # in the first round there is no previous version
            measure("`seaway rollback`", lambda: check(seaway("rollback", "--context", CONTEXT)))
        measure("`kubectl delete pod`, until another is ready", replace)
    usage["a server pod, idle"] = top()
    with onkind.Steady(HOST, rate=100, seconds=600) as load:
        load.wait_for(6000)  # a minute, of which metrics-server averages the last 15 s
        usage["the same, at 100 requests/s"] = top()
    print(machine())
    print("\n| operation | median, s | runs |\n|---|---|---|")
    for title, durations in durations_s.items():
        print(f"| {title} | {statistics.median(durations):.1f} | {len(durations)} |")
    print("\n| pod | CPU | memory |\n|---|---|---|")
    for title, (cpu, memory) in usage.items():
        print(f"| {title} | {cpu} | {memory} |")


def apply() -> None:
    for source in (("-f", NAMESPACE_FILE), ("-k", OVERLAY)):
        command("kubectl", "--context", CONTEXT, "apply", *source)
    rolled_out()
    onkind.wait_for(f"{HOST}/readyz")


def check(completed: "subprocess.CompletedProcess[str]") -> None:
    if completed.returncode:
        raise SystemExit(completed.stderr)


def deploy(version: int) -> None:
    check(
        seaway("deploy", "--version", version, "--context", CONTEXT, "--url", CANARY, "--model-repository", REPOSITORY)
    )


def promote(api: object, version: int) -> None:
    rollout.apply(api, NAMESPACE, rollout.STABLE, f"characters/{version}", "benchmark")
    rollout.wait(api, NAMESPACE, rollout.STABLE, on_progress=lambda _: None)


def replace() -> None:
    [pod] = serving_pods("stable")
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait")
    rolled_out()


def top() -> tuple[str, str]:
    """CPU and memory of stable's pod, from metrics-server."""
    for _ in range(60):
        columns = kubectl("top", "pod", "-l", "seaway.dev/track=stable", "--no-headers", check=False).split()
        if len(columns) == 3:
            return columns[1], columns[2]
        time.sleep(2)
    raise SystemExit("no metrics of the pod: is metrics-server installed?")


if __name__ == "__main__":
    main()
