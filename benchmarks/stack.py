"""What the serving stack on kind takes: seconds until it answers, changes its version, comes back; CPU and memory.

python -m benchmarks.stack      (docker, kind and kubectl on PATH; after `make kind-up`, whose stack it applies anew)
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))  # what the tests on kind work with

import onkind
from onkind import CANARY, CONTEXT, HOST, NAMESPACE, command, kubectl, publish, rolled_out, seaway, serving_pods

from benchmarks.processes import machine
from seaway.kube import kube, rollout

SPACE, OVERLAY = "manifests/namespace.yaml", "manifests/overlays/kind"
VOLUME = onkind.ROOT / ".kind-models"
ROUNDS = 3


def main() -> None:
    seconds: dict[str, list[float]] = {}
    used: dict[str, tuple[str, str]] = {}

    def timed(what: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        work()
        seconds.setdefault(what, []).append(time.monotonic() - began)
        print(f"{what}: {seconds[what][-1]:.1f} s", file=sys.stderr, flush=True)

    for what in (("-k", OVERLAY), ("-f", SPACE)):
        command("kubectl", "--context", CONTEXT, "delete", *what, "--ignore-not-found", "--wait")
    timed("`kubectl apply -k`, until the example answers", apply)
    api = kube.connect(CONTEXT)
    for number in range(ROUNDS):
        version = publish(VOLUME)
        timed("`seaway deploy`: canary up, answers compared on every protocol", lambda v=version: deploy(v))
        timed("stable to the new version (one replica)", lambda v=version: promote(api, v))
        if number:  # the first time there is nothing to go back to
            timed("`seaway rollback`", lambda: told(seaway("rollback", "--context", CONTEXT)))
        timed("`kubectl delete pod`, until another is ready", replace)
    used["a server pod, idle"] = top()
    with onkind.Steady(HOST, rate=100, seconds=600) as load:
        load.wait_for(6000)  # a minute, of which metrics-server averages the last quarter
        used["the same, under 100 requests a second"] = top()
    print(machine())
    print("\n| what | seconds, median | of |\n|---|---|---|")
    for what, times in seconds.items():
        print(f"| {what} | {statistics.median(times):.1f} | {len(times)} |")
    print("\n| what | CPU | memory |\n|---|---|---|")
    for what, (cpu, memory) in used.items():
        print(f"| {what} | {cpu} | {memory} |")


def apply() -> None:
    for what in (("-f", SPACE), ("-k", OVERLAY)):
        command("kubectl", "--context", CONTEXT, "apply", *what)
    rolled_out()
    onkind.wait_for(f"{HOST}/readyz")


def told(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode:
        raise SystemExit(done.stderr)


def deploy(version: int) -> None:
    told(seaway("deploy", "--version", version, "--context", CONTEXT, "--url", CANARY, "--volume", VOLUME))


def promote(api: object, version: int) -> None:
    rollout.apply(api, NAMESPACE, rollout.STABLE, f"characters/{version}", "benchmark")
    rollout.wait(api, NAMESPACE, rollout.STABLE, told=lambda _: None)


def replace() -> None:
    [pod] = serving_pods("stable")
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait")
    rolled_out()


def top() -> tuple[str, str]:
    """CPU and memory of stable's pod, as metrics-server has them."""
    for _ in range(60):
        words = kubectl("top", "pod", "-l", "seaway.dev/track=stable", "--no-headers", check=False).split()
        if len(words) == 3:
            return words[1], words[2]
        time.sleep(2)
    raise SystemExit("no metrics of the pod: is metrics-server there?")


if __name__ == "__main__":
    main()
