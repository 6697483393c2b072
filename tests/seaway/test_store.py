import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seaway import store
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable
from seaway.store import Move


def fill(folder: Path) -> None:
    (folder / "saved_model.pb").write_text("model")


def test_versions_count_up(tmp_path: Path) -> None:
    assert store.versions(tmp_path, "m") == []
    assert [store.publish(tmp_path, "m", fill) for _ in range(3)] == [1, 2, 3]
    assert store.versions(tmp_path, "m") == [1, 2, 3]
    assert store.models(tmp_path) == ["m"]
    assert sorted(os.listdir(tmp_path / "m")) == ["1", "2", "3"]


def test_only_whole_numbers_are_versions(tmp_path: Path) -> None:
    store.publish(tmp_path, "m", fill)
    for name in ("01", "0", "x", "1.5", ".incoming-zzz"):
        (tmp_path / "m" / name).mkdir()
    (tmp_path / "m" / "7").write_text("a file")
    assert store.versions(tmp_path, "m") == [1]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "a:b", "../x", "x" * 64, "ä"])
def test_names_that_urls_cannot_carry(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a model's name"):
        store.publish(tmp_path, name, fill)
    assert os.listdir(tmp_path) == []


def test_a_failed_publisher_leaves_no_version(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.publish(tmp_path, "m", fail)
    assert store.versions(tmp_path, "m") == []
    assert os.listdir(tmp_path / "m") == []


def test_publishers_at_once_get_different_versions(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom seaway import store\n"
        "for i in range(20):\n"
        "    print(store.publish(Path(sys.argv[1]), 'm', lambda f: (f / 'saved_model.pb').write_text('x')))"
    )
    publishers = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    numbers = [int(n) for p in publishers for n in p.communicate(timeout=120)[0].split()]
    assert sorted(numbers) == list(range(1, 61))
    assert store.versions(tmp_path, "m") == list(range(1, 61))


def test_labels(tmp_path: Path) -> None:
    store.publish(tmp_path, "m", fill)
    store.publish(tmp_path, "m", fill)
    assert store.labels(tmp_path, "m") == {}
    store.set_label(tmp_path, "m", "stable", 1)
    store.set_label(tmp_path, "m", "canary", 2)
    store.set_label(tmp_path, "m", "stable", 2)
    assert store.labels(tmp_path, "m") == {"stable": 2, "canary": 2}
    with pytest.raises(NotFound, match=r"m has no version 9 in .*: it has \[1, 2\]"):
        store.set_label(tmp_path, "m", "stable", 9)
    assert store.labels(tmp_path, "m") == {"stable": 2, "canary": 2}


@pytest.mark.parametrize("content", ["", "[]", '{"stable": "2"}', '{"stable": true}'])
def test_broken_labels_name_the_file(tmp_path: Path, content: str) -> None:
    store.publish(tmp_path, "m", fill)
    (tmp_path / "m" / "labels.json").write_text(content)
    with pytest.raises(Unavailable, match=r"labels\.json.*remove the file and set the labels again"):
        store.labels(tmp_path, "m")
    (tmp_path / "m" / "labels.json").unlink()
    store.set_label(tmp_path, "m", "stable", 1)
    assert store.labels(tmp_path, "m") == {"stable": 1}


def test_stable_s_history_says_what_it_pointed_at_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        store.publish(tmp_path, "m", fill)
    assert store.history(tmp_path, "m") == []
    (tmp_path / "m" / "labels.json").write_text('{"stable": 1}')  # of a release that kept no history
    assert store.history(tmp_path, "m") == [Move(1, "")]
    store.set_label(tmp_path, "m", "canary", 3)
    for _ in range(2):
        store.set_label(tmp_path, "m", "stable", 2, "promoted")
    moves = [Move(1, ""), Move(2, "promoted")]
    assert store.history(tmp_path, "m") == moves
    note = store._note

    def killed(*given: object) -> None:
        note(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_note", killed)
    with pytest.raises(KeyboardInterrupt):
        store.set_label(tmp_path, "m", "stable", 3, "promoted")
    assert store.labels(tmp_path, "m") == {"stable": 2, "canary": 3}
    assert store.history(tmp_path, "m") == [*moves, Move(3, "promoted")], "what was begun is known"


@pytest.mark.parametrize("content", ["", "{}}", "[1]", '[{"version": 1}]', '[{"version": "x", "because": ""}]'])
def test_a_broken_history_names_the_file(tmp_path: Path, content: str) -> None:
    store.publish(tmp_path, "m", fill)
    (tmp_path / "m" / "history.json").write_text(content)
    with pytest.raises(Unavailable, match=r"history\.json.*remove the file"):
        store.set_label(tmp_path, "m", "stable", 1)
    assert store.labels(tmp_path, "m") == {}


def test_models_config_pins_versions(tmp_path: Path) -> None:
    for _ in range(3):
        store.publish(tmp_path, "m", fill)
    store.publish(tmp_path, "other", fill)
    store.set_label(tmp_path, "m", "stable", 1)
    store.set_label(tmp_path, "m", "canary", 3)
    text = (tmp_path / "models.config").read_text()
    assert "specific { versions: 1 versions: 3 }" in text
    assert 'version_labels { key: "stable" value: 1 }' in text
    assert f'base_path: "{tmp_path / "other"}"' in text
    assert text.count("config {") == 2
    assert text.count("{") == text.count("}")


def test_models_config_is_never_older_than_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        store.publish(tmp_path, name, fill)
    other = threading.Thread(target=store.set_label, args=(tmp_path, "b", "stable", 1))
    look, block = [other.start], store._config_block

    def slow(volume: Path, name: str) -> str:
        seen = block(volume, name)
        if name == "b" and look:
            look.pop()()
            other.join(0.5)  # it ends in this time where nothing keeps it waiting, and what was seen is then old
        return seen

    monkeypatch.setattr(store, "_config_block", slow)
    store.set_label(tmp_path, "a", "stable", 1)
    other.join(10)
    assert (tmp_path / "models.config").read_text().count('key: "stable"') == 2


def test_prune_keeps_the_newest_and_the_labelled(tmp_path: Path) -> None:
    for _ in range(5):
        store.publish(tmp_path, "m", fill)
    store.set_label(tmp_path, "m", "stable", 2)
    assert store.prune(tmp_path, "m", keep=2) == [1, 3]
    assert store.versions(tmp_path, "m") == [2, 4, 5]
    assert store.publish(tmp_path, "m", fill) == 6
    with pytest.raises(Refused):
        store.prune(tmp_path, "m", keep=0)


def test_a_vanished_volume_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the volume cannot be read"):
        store.models(tmp_path / "gone")
    with pytest.raises(Unavailable, match="is it mounted"):
        store.versions(tmp_path / "gone", "m")
