"""`seaway run` as a user runs it: small, but every stage, server and load test for real. Order matters in this file."""

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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from seaway.artifacts import card as cards
from seaway.artifacts import store
from seaway.pipeline import local

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--net", "mlp", "--epochs", "2", "--load-seconds", "2", "--load-users", "2", "--no-keep"]


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
    """The stages that ran, in order; those that were picked up from an earlier run are not among them."""
    return re.findall(r"^([a-z]+)$", output, re.MULTILINE)


@pytest.fixture(scope="module")
def first(place: Path) -> subprocess.CompletedProcess[str]:
    """The first run, of a small data set."""
    return seaway(place, "run", "--data", "strokes:1500", "--port", str(free_port()), *SMALL)


def test_the_whole_way(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stdout[-4000:] + first.stderr[-2000:]
    stages = ["explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote"]
    assert executed(first.stdout) == stages
    volume = place / ".seaway" / "models"
    assert store.versions(volume, "characters") == [1]
    assert store.labels(volume, "characters")["stable"] == 1
    cards.check(store.path(volume, "characters", 1), "version", at=store.CARD)


def test_the_table_has_every_hop_with_the_same_accuracy(first: subprocess.CompletedProcess[str]) -> None:
    rows = {
        hop: re.search(rf"{hop}\s+│\s+([\d.]+)%\s+│\s+(\S+)\s+│(.*)│", first.stdout)
        for hop in ("PyTorch", "ONNX Runtime", "SavedModel", "served, REST", "served, GraphPipe")
    }
    assert all(rows.values()), first.stdout[-3000:]
    assert len({row[1] for row in rows.values() if row}) == 1, "accuracies differ between hops"
    for hop in ("served, REST", "served, GraphPipe"):
        row = rows[hop]
        assert row
        assert float(row[2]) < 1e-4
        rate, _, _, wrong, failed = (cell.strip() for cell in row[3].split("│"))
        assert float(rate) > 0
        assert (wrong, failed) == ("0", "0")


def test_the_reports_are_whole_pages(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    for stage in ("explore", "train", "validate", "load"):
        page = place / ".seaway" / "reports" / f"{stage}.html"
        assert page.as_uri() in first.stdout
        text = page.read_text()
        assert "</html>" in text
        assert not re.search(r'(src|href)="https?:', text), "a report must be self-contained"


def test_again_picks_up_all_pure_stages_and_publishes_nothing_twice(
    place: Path, first: subprocess.CompletedProcess[str]
) -> None:
    again = seaway(place, "run", "--data", "strokes:1500", "--port", str(free_port()), *SMALL)
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-2000:]
    assert executed(again.stdout) == ["publish", "deploy", "load", "promote"]
    assert re.findall(r"^([a-z]+)  done in an earlier run$", again.stdout, re.MULTILINE) == [
        *("explore", "train", "export", "convert", "validate"),
    ]
    assert store.versions(place / ".seaway" / "models", "characters") == [1]


def test_lineage_leads_back_to_the_data(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    found = seaway(place, "lineage", "1")
    assert found.returncode == 0, found.stderr
    positions = [found.stdout.index(role) for role in ("version @", "parity @", "onnx @", "checkpoint @", "dataset @")]
    assert positions == sorted(positions)
    assert "source=strokes:1500" in found.stdout


def test_lineage_notices_a_changed_byte(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    labels = store.path(place / ".seaway" / "models", "characters", 1) / store.EXTRA / "labels.txt"
    before = labels.read_bytes()
    labels.write_bytes(before.replace(b"A", b"@"))
    found = seaway(place, "lineage", "1")
    labels.write_bytes(before)
    assert found.returncode == 1
    assert "was changed after its card was written" in found.stderr


def test_versions_lists_what_is_there(place: Path, first: subprocess.CompletedProcess[str]) -> None:
    found = seaway(place, "versions")
    assert re.search(r"characters\s+│\s+1\s+│\s+canary, stable", found.stdout)
    empty = seaway(place, "versions", "--volume", "nowhere")
    assert empty.returncode == 1
    assert "nowhere: the volume cannot be read" in empty.stderr


@pytest.fixture(scope="module")
def url(place: Path, first: subprocess.CompletedProcess[str]) -> Iterator[str]:
    """A server over the first run's volume, once it answers."""
    with local.server(place / ".seaway" / "models", free_port(), place / "again.log") as (address, _):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{address}/readyz", timeout=2):
                    break
            except OSError:
                time.sleep(0.1)
        yield address


def test_predict_names_what_is_in_pictures(place: Path, url: str) -> None:
    with Image.new("L", (90, 120), 245) as drawn:
        ImageDraw.Draw(drawn).line([(25, 20), (65, 20), (35, 100)], fill=15, width=8)
        drawn.save(place / "seven.png")
        drawn.save(place / "seven.jpg")
    found = seaway(place, "predict", "seven.png", "seven.jpg", "--url", url)
    assert found.returncode == 0, found.stderr
    for picture in ("seven.png", "seven.jpg"):
        row = re.search(rf"{picture}\s+│ (\w)\s+│ ([\d.]+)%\s+│ (\w) ([\d.]+)%, (\w) ([\d.]+)%", found.stdout)
        assert row, found.stdout
        assert float(row[2]) >= float(row[4]) >= float(row[6])
    (place / "no.png").write_text("not a picture")
    refused = seaway(place, "predict", "no.png", "--url", url)
    assert refused.returncode == 1
    assert "no.png: not a picture" in refused.stderr


@pytest.mark.parametrize("protocol", ["tfs", "graphpipe"])
def test_evaluate_scores_the_server_as_the_table_did(
    place: Path, first: subprocess.CompletedProcess[str], url: str, protocol: str
) -> None:
    found = seaway(place, "evaluate", "--data", "strokes:1500", "--url", url, "--protocol", protocol)
    assert found.returncode == 0, found.stderr
    scored = re.search(r"^accuracy\s+([\d.]+%)$", found.stdout, re.MULTILINE)
    table = re.search(r"PyTorch\s+│\s+([\d.]+%)", first.stdout)
    assert scored
    assert table
    assert scored[1] == table[1]
    assert "worst confusions" in found.stdout


def test_load_finds_no_wrong_answer(place: Path, url: str) -> None:
    found = seaway(place, "load", url, "--protocol", "graphpipe", "--time", "1", "--users", "2", "--batch", "3")
    assert found.returncode == 0, found.stderr
    assert re.search(r"GraphPipe\s+│.*│ 0\s+│ 0\s+│ characters/1@", found.stdout), found.stdout


def test_a_port_in_use_is_told_before_any_work(place: Path) -> None:
    (place / "healthz").write_text("a server, but not ours")
    files = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as holder:
        threading.Thread(target=holder.serve_forever, daemon=True).start()
        port = holder.server_address[1]
        found = seaway(place, "run", "--data", "strokes:1500", "--port", str(port), "--root", "other", *SMALL)
        holder.shutdown()
    assert found.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in found.stderr
    assert executed(found.stdout) == []


def test_kill_9_then_again_resumes_training(place: Path, first: subprocess.CompletedProcess[str]) -> None:
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
    """EMNIST's own files, with twenty pictures of two digits in either part."""
    folder.mkdir()
    for part in ("train", "test"):
        pictures = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8).tobytes()
        (folder / f"emnist-pair-{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 20, 28, 28) + pictures)
        labels = struct.pack(">2I", 0x801, 20) + bytes(i % 2 for i in range(20))
        (folder / f"emnist-pair-{part}-labels-idx1-ubyte").write_bytes(labels)
    (folder / "emnist-pair-mapping.txt").write_text("0 48\n1 49\n")
    return folder


def test_a_changed_file_of_an_idx_folder_runs_again(place: Path) -> None:
    folder = idx_folder(place / "pictures")
    arguments = ["run", "--data", "idx:pictures", "--root", "changed", "--port", str(free_port()), *SMALL]
    arguments[arguments.index("--epochs") + 1] = "100000"

    def explored() -> bool:
        """Whether explore had to run; the run is ended as soon as training begins."""
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
    volume = place / ".seaway" / "models"
    digest = store.read_card(volume, "characters", 1).sha256
    loads = list(store.evidence(volume, "characters", digest).rglob("load.json"))
    assert loads
    spoken = ("REST", "GraphPipe", "OIP v2", "OIP v2 binary", "REST from_png")
    assert [row["hop"] for row in json.loads(loads[0].read_text())["rows"]] == [f"served, {one}" for one in spoken]
