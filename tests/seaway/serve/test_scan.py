from functools import partial
from pathlib import Path

import pytest

from seaway.artifacts import model_repository
from seaway.errors import Unavailable
from seaway.serve.supervisor.scan import ModelContents, read_repository, resolve_pin, scan


def saved_model(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").touch()
    return folder


def test_a_repository_is_one_source_of_models(tmp_path):
    one, two = saved_model(tmp_path / "a" / "1"), saved_model(tmp_path / "a" / "0002")
    model_repository.set_label(tmp_path, "a", "stable", 1)
    (tmp_path / "notes").mkdir()
    found = read_repository(tmp_path, {})
    assert found.models == {"a": ModelContents({1: one, 2: two}, {"stable": 1}, 1)}
    assert list(found.skipped) == [tmp_path / "notes"]
    assert resolve_pin(partial(read_repository, tmp_path), "a") == ("a", 1)
    assert resolve_pin(partial(read_repository, tmp_path), "b") == ("b", None)
    pinned, error = scan(partial(read_repository, tmp_path), {}, ("a", 2), {("a", 2): two})
    assert (pinned.models, error) == ({"a": ModelContents({2: two}, {})}, "")
    assert pinned.fingerprints == {"a/2": model_repository.fingerprint(two)}


def test_a_repository_that_is_suddenly_empty_is_not_read(tmp_path):
    assert read_repository(tmp_path, {"a": {}}).models == {}
    with pytest.raises(Unavailable, match="all models disappeared at once"):
        read_repository(tmp_path, {"a": {1: "AVAILABLE"}})


def test_a_version_is_watched_while_its_models_labels_cannot_be_read(tmp_path):
    folder = saved_model(tmp_path / "a" / "1")
    (tmp_path / "a" / "labels.json").write_text("{")
    found, error = scan(partial(read_repository, tmp_path), {"a": {1: "START"}}, None, {("a", 1): folder})
    assert (found.models, "labels.json" in error) == ({"a": None}, True)
    assert found.fingerprints == {"a/1": model_repository.fingerprint(folder)}


def test_a_folder_that_is_the_model_itself_is_served_under_the_given_name(tmp_path):
    itself, versions = saved_model(tmp_path / "itself"), tmp_path / "versions"
    three = saved_model(versions / "3")
    for folder, contents in ((itself, {1: itself}), (versions, {3: three})):
        source = partial(read_repository, folder, only="m")
        assert source({}).models == {"m": ModelContents(contents, {})}
        assert resolve_pin(source, "m") == ("m", *contents)
        with pytest.raises(Unavailable, match="name it with --model NAME"):
            read_repository(folder, {})


def test_a_model_of_the_repository_comes_before_the_folder_itself(tmp_path):
    saved_model(tmp_path)
    folder = saved_model(tmp_path / "m" / "5")
    assert read_repository(tmp_path, {}, only="m").models == {"m": ModelContents({5: folder}, {})}
    saved_model(tmp_path / "7" / "1")  # a model named 7, not a version
    assert set(read_repository(tmp_path, {}).models) == {"7", "m"}
