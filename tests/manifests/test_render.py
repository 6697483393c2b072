"""The committed rendering is that of the current manifests. After an intended change (`make golden`):

python -m seaway.pipeline.manifests --golden tests/golden/manifests
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from rendered import GOLDEN, MANIFESTS, NAMES

from seaway.pipeline import images, manifests

FOLDERS = [*manifests.kustomizations()]


@pytest.fixture(scope="module")
def kubectl() -> str:
    program = os.environ.get("SEAWAY_KUBECTL") or shutil.which("kubectl")
    if not program:
        pytest.skip("no kubectl on PATH or in SEAWAY_KUBECTL: the committed rendering is not checked")
    return program


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_fresh_render_is_the_committed_one(folder: Path, kubectl: str) -> None:
    fresh = [*yaml.safe_load_all(manifests.golden(folder, kubectl))]
    assert fresh == [*yaml.safe_load_all((GOLDEN / f"{folder.name}.yaml").read_text())]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_foreign_namespace_is_used_and_not_created(
    folder: Path, kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, copied)
    file = copied / folder.relative_to(MANIFESTS) / "kustomization.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"namespace": "kubeflow"}))
    monkeypatch.setattr(manifests, "MANIFESTS", copied)
    objects = [*yaml.safe_load_all(manifests.render(file.parent, kubectl))]
    assert {made["metadata"].get("namespace") for made in objects if made["kind"] != "PersistentVolume"} == {"kubeflow"}


def test_real_tags_are_rendered(kubectl: str) -> None:
    assert f"image: {images.image('serve')}\n" in manifests.render(MANIFESTS / "overlays" / "kind", kubectl)


def test_errors_of_kustomize_are_reported(kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MANIFESTS", tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(manifests.InvalidInput, match=r"missing\.yaml"):
        manifests.render(tmp_path, kubectl)


def test_the_tags_match_the_code() -> None:
    assert manifests.TAGS.read_text() == manifests.tags(), "run `python -m seaway.pipeline.manifests` (make golden)"


def test_the_command_writes_tags_and_golden_files(
    kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "TAGS", tmp_path / "images.yaml")
    monkeypatch.setattr(manifests, "kustomizations", lambda: iter([MANIFESTS / "rbac"]))
    monkeypatch.setattr(sys, "argv", ["", "--golden", str(tmp_path / "golden"), "--kubectl", kubectl])
    manifests.main()
    assert (tmp_path / "images.yaml").read_text() == manifests.tags()
    assert [path.name for path in (tmp_path / "golden").iterdir()] == ["rbac.yaml"]


def test_a_missing_kubectl_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifests, "TAGS", tmp_path / "images.yaml")
    monkeypatch.setattr(sys, "argv", ["", "--golden", str(tmp_path / "golden"), "--kubectl", "no-such-kubectl"])
    with pytest.raises(SystemExit, match="1"):
        manifests.main()
    assert capsys.readouterr().err.startswith("python -m seaway.pipeline.manifests: no-such-kubectl: it does not exist")
    assert not (tmp_path / "golden").exists()


def test_tags_for_a_registry() -> None:
    component = yaml.safe_load(manifests.tags("registry.example:5000/team"))
    assert component["images"][0]["name"] == "seaway/serve"
    assert component["images"][0]["newName"] == "registry.example:5000/team/serve"
    assert component["images"][0]["newTag"] == images.image("serve").rpartition(":")[2]


def test_everything_is_rendered_and_nothing_else() -> None:
    assert sorted(folder.name for folder in FOLDERS) == NAMES
    assert {"kind", "production", "rbac"} < {*NAMES}


def test_every_feature_is_in_a_combination_of_its_own_and_in_one_with_an_overlay() -> None:
    features = {path.name for path in (MANIFESTS / "features").iterdir()}
    used = {folder.name: _features(folder) for folder in FOLDERS}
    single = {next(iter(chosen)) for name, chosen in used.items() if name.startswith("base-") and len(chosen) == 1}
    assert single == features
    with_overlay = set().union(*(chosen for name, chosen in used.items() if not name.startswith("base-")))
    assert with_overlay == features


def test_the_images_component_is_last() -> None:
    """A Component only sets tags in what comes before it."""
    for folder in FOLDERS:
        components = _kustomization(folder).get("components")
        assert folder.name == "rbac" or (folder / components[-1]).resolve() == MANIFESTS / "images", folder


def test_one_kind_a_file() -> None:
    for path in MANIFESTS.rglob("*.yaml"):
        if path.name not in ("kind.yaml", "kind-workers.yaml"):
            documents = [*yaml.safe_load_all(path.read_text())]
            assert len(documents) == 1, path


def _kustomization(folder: Path) -> dict[str, list[str]]:
    return dict(yaml.safe_load((folder / "kustomization.yaml").read_text()))


def _features(folder: Path) -> set[str]:
    return {Path(c).name for c in _kustomization(folder).get("components", []) if Path(c).parent.name == "features"}
