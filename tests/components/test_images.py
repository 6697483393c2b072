"""What goes into which image, without Docker; tests/e2e/test_images.py starts them."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from components import images

STAGES = [*images.LOCKS]
# Imports that a stage's lock may leave out: (module, stages, why).
EXCEPTIONS = [
    ("torchvision", {"explore", "validate", "load"}, "downloads `emnist:` and stays out of the image; explore says so"),
    ("HersheyFonts", {"train", "export", "validate", "load"}, "draws `strokes:`, which explore alone does"),
    ("tensorflow", {"serve-onnx"}, "the other backend"),
    ("absl", {"serve-onnx"}, "the other backend"),
    ("onnxruntime", {"serve"}, "the other backend"),
    ("PIL", {"serve"}, "pictures, where the graph cannot decode them: the other backend"),
]
NAMESPACES = {"google.protobuf": "protobuf"}  # where a top-level module has many owners


def names(stage: str) -> set[str]:
    return {path.relative_to(images.ROOT).as_posix() for path in images.sources(stage)}


def locked(lock: Path) -> dict[str, str]:
    """Distribution → version."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def distributions(stage: str) -> set[str]:
    return {name for lock in images.locks(stage) for name in locked(lock)}


@cache
def imports(stage: str) -> dict[str, str]:
    """Third-party modules that the stage's files import, at the top or later → one of those files."""
    found = {}
    for path in images.sources(stage):
        for node in ast.walk(ast.parse(path.read_bytes())) if path.suffix == ".py" else ():
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top not in images.OURS:
                    found[next((m for m in NAMESPACES if module.startswith(m)), top)] = path.name
    return found


@cache
def owners() -> dict[str, set[str]]:
    known = {m: {re.sub(r"[-_.]+", "-", d).lower() for d in ds} for m, ds in metadata.packages_distributions().items()}
    return known | {module: {owner} for module, owner in NAMESPACES.items()}


def test_every_stage_has_an_image_and_a_lock() -> None:
    folders = {path.parent.name for path in (images.ROOT / "components").glob("*/__main__.py")}
    assert {images.FOLDERS.get(stage, stage) for stage in STAGES} == folders
    assert [lock for stage in STAGES for lock in images.locks(stage) if not lock.is_file()] == []


def test_a_stage_is_made_of_its_own_files_and_what_they_import() -> None:
    files = names("train")
    assert {"components/train/train.py", "components/train/__main__.py", "seaway/data.py", "seaway/card.py"} <= files
    assert {"components/__init__.py", "components/train/__init__.py", "seaway/nets/__init__.py"} <= files
    assert not any(f.startswith(("components/serve", "components/convert")) for f in files)
    assert "components/train/component.py" not in files
    assert {"loadtest/run.py", "loadtest/locustfile.py"} <= names("load"), "what is started as a process counts too"
    assert {"components/serve/page/index.html", "examples/characters/1/saved_model.pb"} <= names("serve")
    assert names("serve") == names("serve-onnx")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stages: `one` uses seaway.used, `two` a lock of its own."""
    for name, text in {
        "components/one/one.py": "from seaway import used\n",
        "components/one/page.html": "<p>",
        "components/one/component.py": "",
        "components/two/two.py": "",
        "components/Dockerfile": "FROM python\n",
        "seaway/used.py": "",
        "seaway/unused.py": "",
        "requirements/common.txt": "",
        "requirements/two.txt": "",
        "requirements/dev.txt": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "LOCKS", {"one": ("common",), "two": ("common", "two")})
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ("components/one/one.py", {"one"}),
        ("components/one/page.html", {"one"}),
        ("components/one/component.py", set()),
        ("components/two/two.py", {"two"}),
        ("components/Dockerfile", {"one", "two"}),
        ("seaway/used.py", {"one"}),
        ("seaway/unused.py", set()),
        ("requirements/common.txt", {"one", "two"}),
        ("requirements/two.txt", {"two"}),
        ("requirements/dev.txt", set()),
    ],
)
def test_the_tag_follows_what_the_image_is_made_of(repository: Path, changed: str, stages: set[str]) -> None:
    def tags() -> dict[str, str]:
        images.digest.cache_clear()
        return {stage: images.image(stage) for stage in ("one", "two")}

    before = tags()
    with (repository / changed).open("a") as file:
        file.write("# changed\n")
    after = tags()
    images.digest.cache_clear()
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_the_reference_suits_a_registry_and_the_local_runner() -> None:
    reference = images.image("train", registry="ghcr.io/example")
    assert reference.startswith("ghcr.io/example/train:python3.11-")
    assert len(reference.rsplit("-", 1)[1]) == 12


def test_the_command_prints_references_and_knows_its_stages() -> None:
    def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "components.images", *arguments]
        return subprocess.run(command, cwd=images.ROOT, capture_output=True, text=True, timeout=60)

    assert asked("deploy", "--registry", "r.example").stdout.split() == [images.image("deploy", "r.example")]
    assert asked().stdout.split() == [images.image(stage) for stage in STAGES]
    assert "no stage 'deplyo': there are explore, train," in asked("deplyo").stderr


@pytest.mark.parametrize("stage", STAGES)
def test_a_lock_covers_what_its_stage_imports(stage: str) -> None:
    excused = {module for module, stages, _ in EXCEPTIONS if stage in stages}
    missing = {m: file for m, file in imports(stage).items() if not owners()[m] & distributions(stage)}
    assert missing.keys() == excused, f"not locked: {missing}; excused: {excused}"


@pytest.mark.parametrize(
    ("stage", "never"),
    [
        ("explore", ("torch", "tensorflow-cpu")),
        ("deploy", ("torch", "tensorflow-cpu", "onnxruntime")),
        ("publish", ("torch", "tensorflow-cpu", "onnxruntime")),
        ("load", ("torch", "tensorflow-cpu", "onnxruntime")),
        ("convert", ("torch",)),
        ("validate", ("torch",)),
        ("train", ("tensorflow-cpu",)),
        ("serve", ("torch", "kfp")),
        ("serve-onnx", ("torch", "tensorflow-cpu", "kfp")),
    ],
)
def test_a_lock_holds_no_other_framework(stage: str, never: tuple[str, ...]) -> None:
    assert distributions(stage) & set(never) == set()


def test_train_and_export_share_a_layer() -> None:
    assert images.locks("train") == images.locks("export")


@pytest.mark.parametrize("lock", sorted({p for stage in STAGES for p in images.locks(stage)}), ids=lambda p: p.stem)
def test_a_lock_has_the_versions_of_development_with_hashes_and_no_addresses(lock: Path) -> None:
    development = locked(images.ROOT / "requirements/dev.txt")
    found = locked(lock)
    wanted = re.findall(r"^([\w.-]+)", lock.with_suffix(".in").read_text(), re.MULTILINE)
    assert {name.lower() for name in wanted} <= found.keys(), "make lock"
    assert {name: version for name, version in found.items() if development.get(name) != version} == {}
    text = lock.read_text()
    assert "://" not in text
    assert "index" not in text
    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block


def test_the_context_is_what_images_are_made_of() -> None:
    patterns = [line for line in (images.ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    sent = {name for name in exclude_paths(str(images.ROOT), patterns) if (images.ROOT / name).is_file()}
    copied = {name for stage in STAGES for name in names(stage)}
    copied |= {lock.relative_to(images.ROOT).as_posix() for stage in STAGES for lock in images.locks(stage)}
    assert sent - {"components/images.py", "LICENSE", "NOTICE", ".dockerignore"} == copied


def test_a_copy_is_all_that_a_stage_needs(tmp_path: Path) -> None:
    images.copy("deploy", tmp_path / "deploy")
    there = {p.relative_to(tmp_path / "deploy").as_posix() for p in (tmp_path / "deploy").rglob("*") if p.is_file()}
    texts = {"first.txt", "requirements.txt", "app/LICENSE", "app/NOTICE"}
    assert there == texts | {f"app/{name}" for name in names("deploy")}
    asked = subprocess.run(
        [sys.executable, "-P", "-m", "components.deploy", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "deploy" / "app")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert asked.returncode == 0, asked.stderr
    lines = (tmp_path / "deploy" / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in lines if "==" in line} == distributions("deploy")


def test_images_with_tensorflow_share_its_layer(tmp_path: Path) -> None:
    first = {}
    for stage in STAGES:
        images.copy(stage, tmp_path / stage)
        first[stage] = (tmp_path / stage / "first.txt").read_text()
    [entry] = {text for text in first.values() if text}
    assert re.match(r"tensorflow-cpu==\S+ \\\n    --hash=sha256:", entry)
    assert {stage for stage in STAGES if first[stage]} == {s for s in STAGES if "tensorflow-cpu" in distributions(s)}


def test_the_dockerfile_knows_the_images() -> None:
    text = (images.ROOT / images.DOCKERFILE).read_text()
    targets = re.findall(r"^FROM (?:stage|serve) AS (\S+)$", text, re.MULTILINE)
    assert targets == STAGES
    installed = text.split("AS installed\n")[1]
    assert "STAGE" not in installed.split("AS stage\n")[0], "else stages with one lock do not share its layer"
