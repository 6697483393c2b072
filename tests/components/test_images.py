from pathlib import Path

from components import images


def test_a_stage_is_made_of_its_own_files_and_what_they_import() -> None:
    files = {p.relative_to(images.ROOT).as_posix() for p in images.sources("train")}
    assert {"components/train/train.py", "components/train/__main__.py", "seaway/data.py", "seaway/card.py"} <= files
    assert not any(f.startswith(("components/serve", "components/convert")) for f in files)
    assert "components/train/component.py" not in files
    loading = {p.relative_to(images.ROOT).as_posix() for p in images.sources("load")}
    assert {"loadtest/run.py", "loadtest/locustfile.py"} <= loading, "what is started as a process counts too"


def test_the_tag_follows_the_code(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "components/one").mkdir(parents=True)
    (tmp_path / "seaway").mkdir()
    (tmp_path / "components/one/one.py").write_text("from seaway import used\n")
    (tmp_path / "seaway/used.py").write_text("A = 1\n")
    (tmp_path / "seaway/unused.py").write_text("B = 1\n")
    monkeypatch.setattr(images, "ROOT", tmp_path)

    def tag() -> str:
        images.digest.cache_clear()
        return images.image("one")

    first = tag()
    (tmp_path / "seaway/unused.py").write_text("B = 2\n")
    assert tag() == first
    (tmp_path / "seaway/used.py").write_text("A = 2\n")
    second = tag()
    assert second != first
    (tmp_path / "components/one/one.py").write_text("from seaway import unused\n")
    assert tag() not in (first, second)
    images.digest.cache_clear()


def test_the_reference_suits_a_registry_and_the_local_runner() -> None:
    reference = images.image("train", registry="ghcr.io/example")
    assert reference.startswith("ghcr.io/example/train:python3.11-")
    assert len(reference.rsplit("-", 1)[1]) == 12
