"""The content of the images, without Docker; tests/e2e/test_images.py starts them."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from seaway.pipeline import images

STAGES = [*images.STAGES]
# Imports that a stage's lock may leave out: (module, stages, reason).
EXCEPTIONS = [
    (
        "torchvision",
        {"explore", "validate", "load"},
        "downloads `emnist:`; explore reports that it is not in the image",
    ),
    ("tensorflow", {"serve-onnx"}, "the other backend"),
    ("absl", {"serve-onnx"}, "the other backend"),
    ("onnxruntime", {"serve-tfs"}, "the other backend"),
    ("PIL", {"serve-tfs"}, "decodes images outside the graph: the other backend"),
]
NAMESPACES = {"google.protobuf": "protobuf"}  # of top-level modules with several owners


def names(stage: str) -> set[str]:
    return {path.relative_to(images.ROOT).as_posix() for path in images.sources(stage)}


def locked(lock: Path) -> dict[str, str]:
    """Returns distribution → version."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def distributions(stage: str) -> set[str]:
    return {name for lock in images.locks(stage) for name in locked(lock)}


@cache
def imports(stage: str) -> dict[str, str]:
    """Returns third-party modules that the stage's files import, at the top or later → one of those files."""
    importers = {}
    for path in images.sources(stage):
        for node in ast.walk(ast.parse(path.read_bytes())) if path.suffix == ".py" else ():
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top != images.PACKAGE:
                    importers[next((m for m in NAMESPACES if module.startswith(m)), top)] = path.name
    return importers


@cache
def owners() -> dict[str, set[str]]:
    known = {m: {re.sub(r"[-_.]+", "-", d).lower() for d in ds} for m, ds in metadata.packages_distributions().items()}
    return known | {module: {owner} for module, owner in NAMESPACES.items()}


def test_every_component_folder_is_an_image_with_a_lock_and_a_readme() -> None:
    folders = {path.name for path in (images.ROOT / "components").iterdir() if path.is_dir()}
    assert folders == set(STAGES)
    for folder in folders:
        files = {path.name for path in (images.ROOT / "components" / folder).iterdir()} - {"__pycache__"}
        own = {"component.py"} if not folder.startswith("serve") else set()
        assert files == own | {"README.md", "requirements.in", "requirements.txt"}, folder
    assert [lock for stage in STAGES for lock in images.locks(stage) if not lock.is_file()] == []


def test_an_image_holds_its_entry_modules_and_all_their_imports() -> None:
    files = names("train")
    assert {"seaway/train/train.py", "seaway/train/__main__.py", "seaway/data/datasets.py"} <= files
    assert {"seaway/__init__.py", "seaway/train/__init__.py", "seaway/nets/__init__.py"} <= files
    others = ("seaway/serve/", "seaway/convert/", "seaway/train/tune/", "components/")
    assert not any(file.startswith(others) for file in files)
    assert {"seaway/load/run.py", "seaway/load/locustfile.py"} <= names("load"), "modules started as programs count too"
    assert {"seaway/serve/page/index.html", "seaway/example/characters/1/saved_model.pb"} <= names("serve")
    assert names("serve") == names("serve-onnx")


@pytest.mark.parametrize("stage", [stage for stage in STAGES if not stage.startswith("serve")])
def test_an_image_holds_what_its_component_imports(stage: str) -> None:
    """The component's file is not in the image: KFP passes its function as text."""
    tree = ast.parse((images.ROOT / "components" / stage / "component.py").read_bytes())
    bodies = [node for function in tree.body if isinstance(function, ast.FunctionDef) for node in ast.walk(function)]
    modules = {node.module for node in bodies if isinstance(node, ast.ImportFrom) and node.module}
    files = {module.replace(".", "/") + ".py" for module in modules if module.startswith("seaway.")}
    assert files
    assert files <= names(stage)


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ("seaway/serve/supervisor/pool.py", {"serve", "serve-onnx", "serve-tfs"}),
        ("seaway/serve/page/page.css", {"serve", "serve-onnx", "serve-tfs"}),
        ("seaway/reporting/templates/report.css", {"explore", "train", "validate", "load"}),
        ("seaway/explore/report/templates/gallery.html.jinja", {"explore"}),
        ("seaway/train/tune/study.py", set()),
        ("seaway/cli/run.py", set()),
        ("seaway/convert/native/build.py", {"convert"}),
        ("components/convert/component.py", set()),
    ],
)
def test_a_changed_file_changes_only_the_images_that_use_it(changed: str, stages: set[str]) -> None:
    assert (images.ROOT / changed).is_file()
    assert {stage for stage in STAGES if changed in names(stage)} == stages


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two stages; `one` imports seaway.used and has a page."""
    for name, text in {
        "seaway/one/__main__.py": "from seaway import used\n",
        "seaway/one/page/page.html": "<p>",
        "seaway/one/aside.py": "",
        "components/one/component.py": "",
        "components/one/requirements.txt": "",
        "seaway/two/__main__.py": "",
        "components/two/requirements.txt": "",
        "components/Dockerfile": "FROM python\n",
        "components/kfp.txt": "",
        "seaway/used.py": "",
        "seaway/unused.py": "",
        "requirements/dev.txt": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "STAGES", ("one", "two"))
    monkeypatch.setattr(images, "DATA", {"seaway.one.__main__": "seaway/one/page"})
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ("seaway/one/__main__.py", {"one"}),
        ("seaway/one/page/page.html", {"one"}),
        ("seaway/one/aside.py", set()),
        ("components/one/component.py", set()),
        ("seaway/two/__main__.py", {"two"}),
        ("components/Dockerfile", {"one", "two"}),
        ("seaway/used.py", {"one"}),
        ("seaway/unused.py", set()),
        ("components/kfp.txt", {"one", "two"}),
        ("components/two/requirements.txt", {"two"}),
        ("requirements/dev.txt", set()),
    ],
)
def test_the_tag_follows_the_image_s_content(repository: Path, changed: str, stages: set[str]) -> None:
    def tags() -> dict[str, str]:
        images.digest.cache_clear()
        return {stage: images.image(stage) for stage in ("one", "two")}

    before = tags()
    with (repository / changed).open("a") as file:
        file.write("# changed\n")
    after = tags()
    images.digest.cache_clear()
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_the_reference_fits_a_registry_and_the_local_runner() -> None:
    reference = images.image("train", registry="ghcr.io/example")
    assert reference.startswith("ghcr.io/example/train:python3.11-")
    assert len(reference.rsplit("-", 1)[1]) == 12


def test_the_command_prints_references_and_knows_its_stages() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "seaway.pipeline.images", *arguments]
        return subprocess.run(command, cwd=images.ROOT, capture_output=True, text=True, timeout=60)

    assert run("deploy", "--registry", "r.example").stdout.split() == [images.image("deploy", "r.example")]
    assert run().stdout.split() == [images.image(stage) for stage in STAGES]
    assert "no stage 'deplyo'; choose from explore, train," in run("deplyo").stderr


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
    assert [p.read_bytes() for p in images.locks("train")] == [p.read_bytes() for p in images.locks("export")]


LOCKS = sorted({path for stage in STAGES for path in images.locks(stage)})


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_has_the_versions_of_development_with_hashes_and_no_urls(lock: Path) -> None:
    development = locked(images.ROOT / "requirements/dev.txt")
    versions = locked(lock)
    required = re.findall(r"^(\w[\w.-]*)", lock.with_suffix(".in").read_text(), re.MULTILINE)
    assert {name.lower() for name in required} <= versions.keys(), "make lock"
    assert {name: version for name, version in versions.items() if development.get(name) != version} == {}
    text = lock.read_text()
    assert "://" not in text
    assert "index" not in text
    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block


def test_the_build_context_is_the_content_of_the_images() -> None:
    patterns = [line for line in (images.ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    sent = {name for name in exclude_paths(str(images.ROOT), patterns) if (images.ROOT / name).is_file()}
    copied = {name for stage in STAGES for name in names(stage)}
    copied |= {lock.relative_to(images.ROOT).as_posix() for stage in STAGES for lock in images.locks(stage)}
    tagging = {"seaway/pipeline/__init__.py", "seaway/pipeline/images.py"}
    assert sent - {*tagging, "LICENSE", "NOTICE", ".dockerignore"} == copied


def test_a_copy_has_all_that_a_stage_needs(tmp_path: Path) -> None:
    images.copy("deploy", tmp_path / "deploy")
    files = {p.relative_to(tmp_path / "deploy").as_posix() for p in (tmp_path / "deploy").rglob("*") if p.is_file()}
    texts = {"first.txt", "requirements.txt", "app/LICENSE", "app/NOTICE"}
    assert files == texts | {f"app/{name}" for name in names("deploy")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "seaway.deploy", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "deploy" / "app")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
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


def test_the_dockerfile_has_a_target_for_each_image() -> None:
    text = (images.ROOT / images.DOCKERFILE).read_text()
    targets = re.findall(r"^FROM (?:stage|serve) AS (\S+)$", text, re.MULTILINE)
    assert targets == STAGES
    installed = text.split("AS installed\n")[1]
    assert "STAGE" not in installed.split("AS stage\n")[0], "else stages with one lock do not share its layer"
