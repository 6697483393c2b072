import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seaway.artifacts import atomic, model_repository
from seaway.artifacts.model_repository import Move
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable


def fill(folder: Path) -> None:
    (folder / "saved_model.pb").write_text("model")


def test_versions_count_up(tmp_path: Path) -> None:
    assert model_repository.versions(tmp_path, "m") == []
    assert [model_repository.publish(tmp_path, "m", fill) for _ in range(3)] == [1, 2, 3]
    assert model_repository.versions(tmp_path, "m") == [1, 2, 3]
    assert model_repository.models(tmp_path) == ["m"]
    assert sorted(os.listdir(tmp_path / "m")) == ["1", "2", "3"]


def test_only_whole_numbers_are_versions(tmp_path: Path) -> None:
    model_repository.publish(tmp_path, "m", fill)
    for name in ("x", "1.5", "-2", "+3", " 4", "٣", "9223372036854775808", ".incoming-zzz", "evidence"):
        (tmp_path / "m" / name).mkdir()
    (tmp_path / "m" / "7").write_text("a file")
    assert model_repository.versions(tmp_path, "m") == [1]
    assert sorted(path.name for path in model_repository.contents(tmp_path).skipped) == sorted(
        ["x", "1.5", "-2", "+3", " 4", "٣", "9223372036854775808", "7"]
    )


def test_numbers_padded_with_zeros_are_found_and_counted_on(tmp_path: Path) -> None:
    for name in ("0", "0002", "00000123"):
        (tmp_path / "m" / name).mkdir(parents=True)
    assert model_repository.versions(tmp_path, "m") == [0, 2, 123]
    assert (
        model_repository.path(tmp_path, "m", 2)
        == model_repository.existing(tmp_path, "m", 2)
        == tmp_path / "m" / "0002"
    )
    model_repository.set_label(tmp_path, "m", "stable", 2)
    assert model_repository.publish(tmp_path, "m", fill) == 124
    assert model_repository.prune(tmp_path, "m", keep=1) == [0, 123]
    assert sorted(os.listdir(tmp_path / "m")) == [".lock", "0002", "124", "history.json", "labels.json"]


def test_of_two_folders_with_one_number_the_last_by_name_counts(tmp_path: Path) -> None:
    for name in ("1", "0001", "2"):
        (tmp_path / "m" / name).mkdir(parents=True)
    scanned = model_repository.contents(tmp_path)
    assert scanned.models == {"m": {1: tmp_path / "m" / "1", 2: tmp_path / "m" / "2"}}
    assert scanned.skipped == {tmp_path / "m" / "0001": "version 1 is read from 1 beside it"}
    assert model_repository.prune(tmp_path, "m", keep=1) == [1]
    assert model_repository.versions(tmp_path, "m") == [2]  # the other folder of version 1 is gone too


def test_a_file_named_like_the_next_number_is_skipped(tmp_path: Path) -> None:
    model_repository.publish(tmp_path, "m", fill)
    (tmp_path / "m" / "2").write_text("a file")
    assert model_repository.publish(tmp_path, "m", fill) == 3


def test_models_of_others_have_any_name(tmp_path: Path) -> None:
    for name in ("my model", "größe", "v1.0 (old)", 'say "hi"'):
        (tmp_path / name / "1").mkdir(parents=True)
    for name in (".hidden", "empty", os.fsdecode(b"\xff")):
        (tmp_path / name).mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert model_repository.models(tmp_path) == ["größe", "my model", 'say "hi"', "v1.0 (old)"]
    reasons = {path.name: why for path, why in model_repository.contents(tmp_path).skipped.items()}
    assert reasons.keys() == {".hidden", "empty", os.fsdecode(b"\xff")}
    assert reasons[".hidden"] == "hidden"
    assert "has no version" in reasons["empty"]
    assert "not UTF-8" in reasons[os.fsdecode(b"\xff")]
    model_repository.write_models_config(tmp_path)
    config = (tmp_path / "models.config").read_text()
    assert 'name: "größe"' in config
    assert r'name: "say \"hi\""' in config


def test_every_change_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    (folder / "variables").mkdir(parents=True)
    file = folder / "variables" / "data"
    changes = [
        lambda: file.write_bytes(b"half"),
        lambda: file.write_bytes(b"whole"),
        lambda: os.utime(file, ns=(0, 0)),
        lambda: (file.with_name(".data.x").write_bytes(b"whole"), file.with_name(".data.x").replace(file)),
        lambda: file.chmod(0o600),
        lambda: file.rename(file.with_name("other")),
        lambda: shutil.rmtree(folder),
    ]
    seen = [model_repository.fingerprint(folder)]
    for change in changes:
        change()
        seen.append(model_repository.fingerprint(folder))
        assert model_repository.fingerprint(folder) == seen[-1]
    assert len(set(seen)) == len(changes) + 1
    assert seen[-1] == ""


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "a:b", "../x", "x" * 64, "ä"])
def test_names_that_are_not_allowed_in_urls(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a model's name"):
        model_repository.publish(tmp_path, name, fill)
    assert os.listdir(tmp_path) == []


def test_a_failed_publisher_leaves_no_version(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        model_repository.publish(tmp_path, "m", fail)
    assert model_repository.versions(tmp_path, "m") == []
    assert os.listdir(tmp_path / "m") == []


def test_publishers_at_once_get_different_versions(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom seaway.artifacts import model_repository\n"
        "for i in range(20):\n"
        "    print(model_repository.publish(Path(sys.argv[1]), 'm', lambda f: (f / 'saved_model.pb').write_text('x')))"
    )
    publishers = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    numbers = [int(n) for p in publishers for n in p.communicate(timeout=120)[0].split()]
    assert sorted(numbers) == list(range(1, 61))
    assert model_repository.versions(tmp_path, "m") == list(range(1, 61))


def test_labels(tmp_path: Path) -> None:
    model_repository.publish(tmp_path, "m", fill)
    model_repository.publish(tmp_path, "m", fill)
    assert model_repository.labels(tmp_path, "m") == {}
    model_repository.set_label(tmp_path, "m", "stable", 1)
    model_repository.set_label(tmp_path, "m", "canary", 2)
    model_repository.set_label(tmp_path, "m", "stable", 2)
    assert model_repository.labels(tmp_path, "m") == {"stable": 2, "canary": 2}
    with pytest.raises(NotFound, match=r"m has no version 9 in .*: it has 1, 2$"):
        model_repository.set_label(tmp_path, "m", "stable", 9)
    assert model_repository.labels(tmp_path, "m") == {"stable": 2, "canary": 2}


def test_a_label_is_replaced_in_the_same_write_if_it_is_on_the_version(tmp_path: Path) -> None:
    for _ in range(2):
        model_repository.publish(tmp_path, "m", fill)
    model_repository.set_label(tmp_path, "m", "canary", 2)
    model_repository.set_label(tmp_path, "m", "stable", 1, "", "canary")
    assert model_repository.labels(tmp_path, "m") == {"stable": 1, "canary": 2}, "it is on another version"
    model_repository.set_label(tmp_path, "m", "stable", 2, "", "canary")
    assert model_repository.labels(tmp_path, "m") == {"stable": 2}
    assert "canary" not in (tmp_path / "models.config").read_text()


@pytest.mark.parametrize("content", ["", "[]", '{"stable": "2"}', '{"stable": true}'])
def test_broken_labels_name_the_file(tmp_path: Path, content: str) -> None:
    model_repository.publish(tmp_path, "m", fill)
    (tmp_path / "m" / "labels.json").write_text(content)
    with pytest.raises(
        Unavailable, match=r"labels\.json.*delete it, then set the labels again: `seaway rollback --version N"
    ):
        model_repository.labels(tmp_path, "m")
    (tmp_path / "m" / "labels.json").unlink()
    model_repository.set_label(tmp_path, "m", "stable", 1)
    assert model_repository.labels(tmp_path, "m") == {"stable": 1}


def test_the_history_of_stable_lists_versions_and_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        model_repository.publish(tmp_path, "m", fill)
    assert model_repository.history(tmp_path, "m") == []
    (tmp_path / "m" / "labels.json").write_text('{"stable": 1}')  # written by a release without a history
    assert model_repository.history(tmp_path, "m") == [Move(1, "")]
    model_repository.set_label(tmp_path, "m", "canary", 3)
    for _ in range(2):
        model_repository.set_label(tmp_path, "m", "stable", 2, "promoted")
    moves = [Move(1, ""), Move(2, "promoted")]
    assert model_repository.history(tmp_path, "m") == moves
    note = model_repository._note

    def killed(*arguments: object) -> None:
        note(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(model_repository, "_note", killed)
    with pytest.raises(KeyboardInterrupt):
        model_repository.set_label(tmp_path, "m", "stable", 3, "promoted")
    assert model_repository.labels(tmp_path, "m") == {"stable": 2, "canary": 3}
    assert model_repository.history(tmp_path, "m") == [*moves, Move(3, "promoted")], "an interrupted move is listed"


@pytest.mark.parametrize("content", ["", "{}}", "[1]", '[{"version": 1}]', '[{"version": "x", "because": ""}]'])
def test_a_broken_history_names_the_file(tmp_path: Path, content: str) -> None:
    model_repository.publish(tmp_path, "m", fill)
    (tmp_path / "m" / "history.json").write_text(content)
    with pytest.raises(Unavailable, match=r"history\.json.*remove the file"):
        model_repository.set_label(tmp_path, "m", "stable", 1)
    assert model_repository.labels(tmp_path, "m") == {}


def test_models_config_pins_versions(tmp_path: Path) -> None:
    for _ in range(3):
        model_repository.publish(tmp_path, "m", fill)
    model_repository.publish(tmp_path, "other", fill)
    model_repository.set_label(tmp_path, "m", "stable", 1)
    model_repository.set_label(tmp_path, "m", "canary", 3)
    text = (tmp_path / "models.config").read_text()
    assert "specific { versions: 1 versions: 3 }" in text
    assert 'version_labels { key: "stable" value: 1 }' in text
    assert f'base_path: "{tmp_path / "other"}"' in text
    assert text.count("config {") == 2
    assert text.count("{") == text.count("}")


def test_models_config_is_never_older_than_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        model_repository.publish(tmp_path, name, fill)
    other = threading.Thread(target=model_repository.set_label, args=(tmp_path, "b", "stable", 1))
    pending, block = [other.start], model_repository._config_block

    def slow(repository: Path, name: str) -> str:
        text = block(repository, name)
        if name == "b" and pending:
            pending.pop()()
            other.join(0.5)  # ends in time if no lock holds it up; the scan is stale then
        return text

    monkeypatch.setattr(model_repository, "_config_block", slow)
    model_repository.set_label(tmp_path, "a", "stable", 1)
    other.join(10)
    assert (tmp_path / "models.config").read_text().count('key: "stable"') == 2


def test_prune_keeps_the_newest_and_the_labelled(tmp_path: Path) -> None:
    for _ in range(5):
        model_repository.publish(tmp_path, "m", fill)
    model_repository.set_label(tmp_path, "m", "stable", 2)
    assert model_repository.prune(tmp_path, "m", keep=2) == [1, 3]
    assert model_repository.versions(tmp_path, "m") == [2, 4, 5]
    assert model_repository.publish(tmp_path, "m", fill) == 6
    with pytest.raises(Refused):
        model_repository.prune(tmp_path, "m", keep=0)


def test_a_missing_model_is_not_a_missing_version(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no model 'm': it is empty"):
        model_repository.existing(tmp_path, "m", 1)
    model_repository.publish(tmp_path, "other", fill)
    with pytest.raises(NotFound, match="has no model 'm': it has other"):
        model_repository.existing(tmp_path, "m", 1)


def test_a_vanished_repository_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="gone: no such model repository"):
        model_repository.models(tmp_path / "gone")
    with pytest.raises(Unavailable, match="is it mounted"):
        model_repository.versions(tmp_path / "gone", "m")


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["umask 0", "umask 077"])
def test_everyone_can_read_the_repository_and_only_the_owner_can_change_it(tmp_path: Path, umask: int) -> None:
    original = os.umask(umask)
    try:
        version = model_repository.publish(tmp_path, "m", fill)
        model_repository.set_label(tmp_path, "m", "stable", version)
        with atomic.folder(model_repository.evidence(tmp_path, "m", "digest") / "load") as part:
            (part / "card.json").write_text("{}")
    finally:
        os.umask(original)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    folders = {"m", "m/1", "m/evidence", "m/evidence/digest", "m/evidence/digest/load"}
    files = {".lock", "models.config", "m/.lock", "m/labels.json", "m/history.json", "m/1/saved_model.pb"}
    assert modes == {
        **dict.fromkeys(folders, 0o755),
        **dict.fromkeys({*files, "m/evidence/digest/load/card.json"}, 0o644),
    }
