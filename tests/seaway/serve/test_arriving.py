"""Versions that arrive file by file under their final name, as with cp, rsync and gsutil, and broken ones."""

import shutil
import time
from pathlib import Path

import pytest

from seaway.artifacts import model_repository

PAUSE = 0.9  # seconds between two files: longer than the 0.4 s for which files must be the same (two polls)


def files_of(folder: Path) -> list[Path]:
    return sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())


def cp(source: Path, target: Path, file: Path, between) -> None:
    """Like `cp -r`: in pieces, under the final name."""
    content = (source / file).read_bytes()
    with (target / file).open("wb") as opened:
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            opened.write(part)
            opened.flush()
            between()


def rsync(source: Path, target: Path, file: Path, between) -> None:
    """Like rsync: under a hidden name first, then under the final one with the source's times."""
    hidden = target / file.with_name(f".{file.name}.Xy12Z3")
    shutil.copyfile(source / file, hidden)
    between()
    shutil.copystat(source / file, hidden)
    hidden.rename(target / file)
    between()


def gsutil(source: Path, target: Path, file: Path, between) -> None:
    """Like `gsutil cp`: in a growing file, which is then renamed."""
    part = target / file.with_name(f"{file.name}_.gstmp")
    content = (source / file).read_bytes()
    for end in (len(content) // 3, 2 * len(content) // 3, len(content)):
        part.write_bytes(content[:end])
    between()
    part.rename(target / file)


@pytest.mark.parametrize("how", [cp, rsync, gsutil])
@pytest.mark.parametrize("metadata", [False, True])
def test_a_version_that_arrives_slowly_is_served_once_it_is_complete(following, tmp_path, how, metadata):
    server, name, source = following.server, f"slow-{how.__name__}-{metadata}", following.models / "half" / "2"
    following.publish(name)  # an older one, which continues to serve
    following.wait_available(name, 1)
    if metadata:
        following.publish(f"{name}-source", version=2)
        source = tmp_path / "source"
        shutil.move(following.repository / f"{name}-source" / "1", source)
    predictions = set()

    def between():
        until = time.monotonic() + PAUSE
        while time.monotonic() < until:
            reply = server.predict(name, {"instances": [1.0]})
            predictions.add((reply.status, str(reply.json().get("predictions"))))

    target = following.repository / name / "2"
    for file in files_of(source):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        how(source, target, file, between)
    following.wait_available(name, 2)
    server.wait(lambda: server.predict(name, {"instances": [1.0]}).json() == {"predictions": [3.5]})
    assert predictions <= {(200, "[2.5]"), (200, "[3.5]")}
    assert (200, "[2.5]") in predictions
    assert server.error_of(name, 2) == ""
    logged = [line for line in server.log if f"{name}/2 cannot be served" in line]
    assert len(logged) <= 1, logged  # although it was tried after each file
    for line in logged:
        assert "it is retried when its files change, or in" in line


def test_an_arriving_version_is_not_loaded_and_does_not_delay_an_older_one(start, models, tmp_path):
    shutil.copytree(models / "half", tmp_path / "half")
    server = start(tmp_path, "--poll-interval-s", "1")
    growing = tmp_path / "half" / "2" / "assets" / "vocabulary.txt"
    growing.parent.mkdir(exist_ok=True)

    def grow():
        with growing.open("a") as opened:
            opened.write("word\n")
        return server.states("half").get(1) == "AVAILABLE"

    server.wait(grow)
    assert server.predict("half", {"instances": [1.0]}).json() == {"predictions": [2.5]}
    assert server.get("/readyz").status == 200
    assert server.states("half") == {1: "AVAILABLE", 2: "START"}
    reply = server.predict("half/versions/2", {"instances": [1.0]})
    assert reply.status == 503
    assert "its files are still changing: it is loaded once they have been unchanged for 2 s" in reply.json()["error"]
    server.wait(lambda: server.states("half") == {2: "AVAILABLE"})


@pytest.mark.parametrize("repair", ["replaced", "written over"])
def test_a_failed_load_is_retried_when_the_files_change(following, repair):
    server, name = following.server, f"repaired-{repair[0]}"
    whole = following.models / "half" / "1"
    target = following.repository / name / "1"
    shutil.copytree(whole, target)
    variables = target / "variables" / "variables.data-00000-of-00001"
    content = variables.read_bytes()
    variables.write_bytes(content[:-3])
    said = following.wait_end(name, 1)
    assert "cannot be loaded" in said
    assert "it is retried when its files change, or in" in said
    reply = server.predict(f"{name}/versions/1", {"instances": [1.0]})
    assert reply.status == 503
    assert "cannot be loaded" in reply.json()["error"]
    if repair == "replaced":
        part = variables.with_name(".part")
        part.write_bytes(content)
        part.replace(variables)
    else:
        variables.write_bytes(content)
    following.wait_available(name, 1)
    assert server.predict(name, {"instances": [1.0]}).json() == {"predictions": [2.5]}


def test_an_unchanged_version_is_retried_with_backoff(following):
    server, name = following.server, "hopeless"
    number = following.publish(name, wrong="truncated")

    def failures():
        wanted = f'seaway_loads_total{{model="{name}",version="{number}",result="failed"}} '
        return sum(int(line.removeprefix(wanted)) for line in server.metrics().splitlines() if line.startswith(wanted))

    server.wait(lambda: failures() == 3)
    assert sum(f"{name}/{number} cannot be served" in line for line in server.log) == 1
    following.wait_end(name, number)
    shutil.rmtree(model_repository.path(following.repository, name, number))
    server.wait(lambda: server.get(f"/v1/models/{name}").status == 404)
