"""Versions that arrive file by file under their final name, as cp, rsync and gsutil write, and bad ones."""

import shutil
import time
from pathlib import Path

import pytest

from seaway.artifacts import store

PAUSE = 0.9  # seconds between two files: longer than the 0.4 s for which files must be the same (two polls)


def files_of(folder: Path) -> list[Path]:
    return sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())


def copied(source: Path, target: Path, file: Path, between) -> None:
    """As `cp -r`: in pieces under its own name."""
    content = (source / file).read_bytes()
    with (target / file).open("wb") as opened:
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            opened.write(part)
            opened.flush()
            between()


def renamed(source: Path, target: Path, file: Path, between) -> None:
    """As rsync: under a hidden name first, then with the times of the source under its own."""
    hidden = target / file.with_name(f".{file.name}.Xy12Z3")
    shutil.copyfile(source / file, hidden)
    between()
    shutil.copystat(source / file, hidden)
    hidden.rename(target / file)
    between()


def in_parts(source: Path, target: Path, file: Path, between) -> None:
    """As `gsutil cp`: in a file that grows, which then gets its name."""
    part = target / file.with_name(f"{file.name}_.gstmp")
    content = (source / file).read_bytes()
    for end in (len(content) // 3, 2 * len(content) // 3, len(content)):
        part.write_bytes(content[:end])
    between()
    part.rename(target / file)


@pytest.mark.parametrize("how", [copied, renamed, in_parts])
@pytest.mark.parametrize("card", [False, True])
def test_a_version_that_arrives_slowly_is_served_once_it_is_whole(following, tmp_path, how, card):
    server, name, source = following.server, f"slow-{how.__name__}-{card}", following.models / "half" / "2"
    following.publish(name)  # an older one, which goes on answering
    following.wait_available(name, 1)
    if card:
        following.publish(f"{name}-source", version=2)
        source = tmp_path / "source"
        shutil.move(following.volume / f"{name}-source" / "1", source)
    answers = set()

    def between():
        until = time.monotonic() + PAUSE
        while time.monotonic() < until:
            reply = server.predict(name, {"instances": [1.0]})
            answers.add((reply.status, str(reply.json().get("predictions"))))

    target = following.volume / name / "2"
    for file in files_of(source):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        how(source, target, file, between)
    following.wait_available(name, 2)
    server.wait(lambda: server.predict(name, {"instances": [1.0]}).json() == {"predictions": [3.5]})
    assert answers <= {(200, "[2.5]"), (200, "[3.5]")}
    assert (200, "[2.5]") in answers
    assert server.error_of(name, 2) == ""
    told = [line for line in server.log if f"{name}/2 cannot be served" in line]
    assert len(told) <= 1, told  # though it was tried after each file
    for line in told:
        assert "it is tried again when its files change, or in" in line


def test_what_still_arrives_is_not_read_and_keeps_no_older_version_from_answering(start, models, tmp_path):
    shutil.copytree(models / "half", tmp_path / "half")
    server = start(tmp_path, "--poll-seconds", "1")
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
    assert "its files still change: it is loaded once they have not for 2 s" in reply.json()["error"]
    server.wait(lambda: server.states("half") == {2: "AVAILABLE"})


@pytest.mark.parametrize("repair", ["replaced", "written over"])
def test_a_load_that_failed_is_tried_again_when_the_files_change(following, repair):
    server, name = following.server, f"repaired-{repair[0]}"
    whole = following.models / "half" / "1"
    target = following.volume / name / "1"
    shutil.copytree(whole, target)
    variables = target / "variables" / "variables.data-00000-of-00001"
    content = variables.read_bytes()
    variables.write_bytes(content[:-3])
    said = following.wait_end(name, 1)
    assert "cannot be loaded" in said
    assert "it is tried again when its files change, or in" in said
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


def test_a_version_that_does_not_change_is_tried_ever_more_rarely(following):
    server, name = following.server, "hopeless"
    number = following.publish(name, wrong="truncated")

    def failures():
        wanted = f'seaway_loads_total{{model="{name}",version="{number}",result="failed"}} '
        return sum(int(line.removeprefix(wanted)) for line in server.metrics().splitlines() if line.startswith(wanted))

    server.wait(lambda: failures() == 3)
    assert sum(f"{name}/{number} cannot be served" in line for line in server.log) == 1
    following.wait_end(name, number)
    shutil.rmtree(store.path(following.volume, name, number))
    server.wait(lambda: server.get(f"/v1/models/{name}").status == 404)
