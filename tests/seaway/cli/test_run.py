"""`seaway run` with small data, but with real stages, server and load test. The order of the tests matters."""

import functools
import http.server
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from seaway.artifacts import artifact_metadata, model_repository
from seaway.pipeline import local
from seaway.protocols import client_codecs

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--net", "mlp", "--epochs", "2", "--load-duration-s", "2", "--load-users", "2", "--no-keep"]


SERVED = [f"served, {protocol.title}" for protocol in client_codecs.PROTOCOLS.values() if protocol.key != "png"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "seaway.cli.main", *arguments]


def seaway(folder: Path, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def executed(output: str) -> list[str]:
    """The stages that ran, in order, without those reused from an earlier run."""
    return re.findall(r"^([a-z]+)$", output, re.MULTILINE)


@pytest.fixture(scope="module")
def first(place: Path) -> subprocess.CompletedProcess[str]:
    """The first run, of a small data set."""
    return seaway(place, "run", "--data", "strokes:1500", "--port", str(free_port()), *SMALL)


def test_a_whole_run(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stdout[-4000:] + first.stderr[-2000:]
    stages = ["explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote"]
    assert executed(first.stdout) == stages
    repository = place / ".seaway" / "models"
    assert model_repository.versions(repository, "characters") == [1]
    assert model_repository.labels(repository, "characters")["stable"] == 1
    artifact_metadata.check(
        model_repository.path(repository, "characters", 1), "version", at=model_repository.METADATA_FILE
    )


def test_the_table_has_every_hop_with_the_same_accuracy(first: subprocess.CompletedProcess[str]) -> None:
    rows = {
        hop: re.search(rf"{hop}\s+│\s+([\d.]+)%\s+│\s+(\S+)\s+│(.*)│", first.stdout)
        for hop in ("PyTorch", "ONNX Runtime", "SavedModel", *SERVED)
    }
    assert all(rows.values()), first.stdout[-3000:]
    assert len({row[1] for row in rows.values() if row}) == 1, "accuracies differ between hops"
    for hop in SERVED:
        row = rows[hop]
        assert row
        assert float(row[2]) < 1e-4
        rate, _, _, wrong, failed = (cell.strip() for cell in row[3].split("│"))
        assert float(rate) > 0
        assert (wrong, failed) == ("0", "0")


def test_the_reports_are_complete_pages(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    for stage in ("explore", "train", "validate", "load"):
        page = place / ".seaway" / "reports" / f"{stage}.html"
        assert page.as_uri() in first.stdout
        text = page.read_text()
        assert "</html>" in text
        assert not re.search(r'(src|href)="https?:', text), "a report must be self-contained"


def test_the_reports_can_be_read(
    place: Path, first: subprocess.CompletedProcess[str], report_faults: Callable[..., list[str]]
) -> None:
    reports = place / ".seaway" / "reports"
    assert {path.stem: report_faults(path) for path in reports.iterdir()} == {
        "explore": [], "train": [], "validate": [], "load": [],
    }  # fmt: skip
    assert report_faults(reports / "load.html", max_screens=5) == []


def test_a_second_run_reuses_all_pure_stages_and_publishes_nothing_twice(
    place: Path, first: subprocess.CompletedProcess[str]
) -> None:
    again = seaway(place, "run", "--data", "strokes:1500", "--port", str(free_port()), *SMALL)
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-2000:]
    assert executed(again.stdout) == ["publish", "deploy", "load", "promote"]
    assert re.findall(r"^([a-z]+)  cached from an earlier run$", again.stdout, re.MULTILINE) == [
        *("explore", "train", "export", "convert", "validate"),
    ]
    assert model_repository.versions(place / ".seaway" / "models", "characters") == [1]


def test_lineage_goes_back_to_the_data(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    done = seaway(place, "lineage", "1")
    assert done.returncode == 0, done.stderr
    positions = [done.stdout.index(role) for role in ("version @", "parity @", "onnx @", "checkpoint @", "dataset @")]
    assert positions == sorted(positions)
    assert "source=strokes:1500" in done.stdout


def test_lineage_notices_a_changed_byte(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    labels = (
        model_repository.path(place / ".seaway" / "models", "characters", 1) / model_repository.EXTRA / "labels.txt"
    )
    before = labels.read_bytes()
    labels.write_bytes(before.replace(b"A", b"@"))
    done = seaway(place, "lineage", "1")
    labels.write_bytes(before)
    assert done.returncode == 1
    assert "was changed after its metadata was written" in done.stderr


def test_versions_lists_the_models(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    done = seaway(place, "versions")
    assert re.search(r"characters/1\s+stable\s", done.stdout)
    empty = seaway(place, "versions", "--model-repository", "nowhere")
    assert empty.returncode == 1
    assert "nowhere: no such model repository" in empty.stderr


@pytest.fixture(scope="module")
def served(place: Path, first: subprocess.CompletedProcess[str]) -> Iterator[local.ServerAddresses]:
    """A server of the first run's model repository, once it is ready."""
    with local.server(place / ".seaway" / "models", free_port(), place / "again.log") as addresses:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{addresses.url}/readyz", timeout=2):
                    break
            except OSError:
                time.sleep(0.1)
        yield addresses


@pytest.fixture(scope="module")
def url(served: local.ServerAddresses) -> str:
    return served.url


def test_predict_classifies_images(place: Path, served: local.ServerAddresses, url: str) -> None:
    with Image.new("L", (90, 120), 245) as drawn:
        ImageDraw.Draw(drawn).line([(25, 20), (65, 20), (35, 100)], fill=15, width=8)
        drawn.save(place / "seven.png")
        drawn.save(place / "seven.jpg")
    done = seaway(place, "predict", "seven.png", "seven.jpg", "--url", url)
    assert done.returncode == 0, done.stderr
    for image in ("seven.png", "seven.jpg"):
        row = re.search(rf"{image}\s+│ (\w)\s+│ ([\d.]+)%\s+│ (\w) ([\d.]+)%, (\w) ([\d.]+)%", done.stdout)
        assert row, done.stdout
        assert float(row[2]) >= float(row[4]) >= float(row[6])
    over_grpc = ("--url", served.grpc_url, "--name", "characters")
    for protocol in ([], ["--protocol", "oip-grpc"]):
        same = seaway(place, "predict", "seven.png", "seven.jpg", *over_grpc, *protocol)
        assert (same.returncode, same.stdout) == (0, done.stdout), same.stderr
    refused = seaway(place, "predict", "seven.png", *over_grpc, "--protocol", "png")
    assert refused.returncode == 1
    assert "png is not a protocol over gRPC; choose one of tfs-grpc, oip-grpc" in refused.stderr
    (place / "no.png").write_text("not an image")
    refused = seaway(place, "predict", "no.png", "--url", url)
    assert refused.returncode == 1
    assert "no.png: not an image" in refused.stderr


@pytest.mark.parametrize("protocol", [*(protocol.key for protocol in client_codecs.OVER_HTTP), "oip-grpc", ""])
def test_evaluate_agrees_with_the_hop_table(
    place: Path, first: subprocess.CompletedProcess[str], served: local.ServerAddresses, protocol: str
) -> None:
    """Also over gRPC; there without --protocol as well."""
    over_http = protocol in {one.key for one in client_codecs.OVER_HTTP}
    options = ["--url", served.url] if over_http else ["--url", served.grpc_url, "--name", "characters"]
    options += ["--protocol", protocol] if protocol else []
    done = seaway(place, "evaluate", "--data", "strokes:1500", *options)
    assert done.returncode == 0, done.stderr
    scored = re.search(r"^accuracy\s+([\d.]+%)$", done.stdout, re.MULTILINE)
    table = re.search(r"PyTorch\s+│\s+([\d.]+%)", first.stdout)
    assert scored
    assert table
    assert scored[1] == table[1]
    assert "Most frequent confusions" in done.stdout


def test_load_finds_no_wrong_response(place: Path, url: str) -> None:
    done = seaway(place, "load", url, "--protocol", "graphpipe", "--time", "1", "--users", "2", "--batch", "3")
    assert done.returncode == 0, done.stderr
    assert re.search(r"GraphPipe\s+│.*│ 0\s+│ 0\s+│ characters/1@", done.stdout), done.stdout


def test_a_port_in_use_is_reported_before_any_work(place: Path) -> None:
    (place / "healthz").write_text("a server, but not ours")
    files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as holder:
        threading.Thread(target=holder.serve_forever, daemon=True).start()
        port = holder.server_address[1]
        done = seaway(place, "run", "--data", "strokes:1500", "--port", str(port), "--root", "other", *SMALL)
        holder.shutdown()
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in done.stderr
    assert executed(done.stdout) == []


def test_a_killed_run_resumes_training(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    arguments = ["run", "--data", "strokes:1500", "--root", "killed", "--port", str(free_port()), *SMALL]
    arguments[arguments.index("--epochs") + 1] = "400"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with subprocess.Popen(
        command(*arguments), cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        for line in run.stdout:
            if "epoch 3/400" in line:
                break
        states = place / "killed" / "work"
        deadline = time.monotonic() + 60
        while not any(p.is_file() for p in states.rglob("*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        run.send_signal(signal.SIGKILL)
    with subprocess.Popen(
        command(*arguments), cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        seen = []
        for line in run.stdout:
            seen.append(line)
            if "resumed from" in line or "epoch" in line:
                break
        run.send_signal(signal.SIGINT)
        run.stdout.read()
    assert "resumed from" in seen[-1], "".join(seen)
    assert executed("".join(seen)) == ["train"], "explore was finished and must not run again"


def idx_folder(folder: Path) -> Path:
    """EMNIST's own files, with twenty images of two digits each for training and test."""
    folder.mkdir()
    for part in ("train", "test"):
        images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8).tobytes()
        (folder / f"emnist-pair-{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 20, 28, 28) + images)
        labels = struct.pack(">2I", 0x801, 20) + bytes(i % 2 for i in range(20))
        (folder / f"emnist-pair-{part}-labels-idx1-ubyte").write_bytes(labels)
    (folder / "emnist-pair-mapping.txt").write_text("0 48\n1 49\n")
    return folder


def test_a_changed_file_of_an_idx_folder_is_read_again(place: Path) -> None:
    folder = idx_folder(place / "images")
    arguments = ["run", "--data", "idx:images", "--root", "changed", "--port", str(free_port()), *SMALL]
    arguments[arguments.index("--epochs") + 1] = "100000"

    def explored() -> bool:
        """Whether explore ran; the run is interrupted when training starts."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        with subprocess.Popen(
            command(*arguments), cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            assert run.stdout
            seen = list(itertools.takewhile(lambda line: line != "train\n", run.stdout))
            run.send_signal(signal.SIGINT)
            run.stdout.read()
        assert seen[-1].startswith(("explore", " ")), "".join(seen)
        return "explore\n" in seen

    assert explored()
    assert not explored()
    labels = folder / "emnist-pair-test-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    assert explored()


def test_evidence_is_bound_to_the_version(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    repository = place / ".seaway" / "models"
    digest = model_repository.read_metadata(repository, "characters", 1).sha256
    loads = list(model_repository.evidence(repository, "characters", digest).rglob("load.json"))
    assert loads
    titles = ("REST", "GraphPipe", "OIP v2", "OIP v2 binary", "REST from_png", "gRPC Predict", "OIP v2 gRPC")
    assert [row["hop"] for row in json.loads(loads[0].read_text())["rows"]] == [f"served, {one}" for one in titles]
