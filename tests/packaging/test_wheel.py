"""The wheel built from the sdist: its contents, and that it compiles pipelines to the same bytes as the checkout."""

import json
import os
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from seaway.pipeline import images

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ("characters", "ship")
# Arguments: the first entry of sys.path, the folder of packages, and the files to write.
COMPILE = """
import sys
first, packages, *files = sys.argv[1:]
sys.path = [*filter(None, [first]), *sys.path, *filter(None, [packages])]
import seaway
from seaway.cli.main import main
print(seaway.__file__)
for file in files:
    name = file.rpartition("/")[2].removesuffix(".yaml")
    sys.argv = ["seaway", "compile", file, "--pipeline", name]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel built from it."""
    folder = tmp_path_factory.mktemp("built")
    runpy.run_path(str(Path(__file__).with_name("installs.py")))["build"](folder)
    return folder


@pytest.fixture
def installed(built: Path, tmp_path: Path) -> Path:
    """The wheel, unpacked as by an installer."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "installed")
    return tmp_path / "installed"


def compile_in(where: Path | None, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Compiles every pipeline into `folder` with the seaway in `where`; None: with the environment's own."""
    folder.mkdir()
    files = [str(folder / f"{name}.yaml") for name in PIPELINES]
    no_site = ["-S"] if where else []  # so that no .pth leads to a checkout
    packages = sysconfig.get_path("purelib") if where else ""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", *no_site, "-c", COMPILE, str(where or ""), packages, *files]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def test_the_wheel_has_one_package(installed: Path) -> None:
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"seaway"}
    assert len(names) == 2
    for file in ("py.typed", "serve/page/index.html", "example/characters/1/saved_model.pb", "load/locustfile.py"):
        assert (installed / "seaway" / file).read_bytes() == (ROOT / "seaway" / file).read_bytes()
    (licences,) = installed.glob("*.dist-info/licenses")
    assert {path.name for path in licences.iterdir()} == {"LICENSE", "NOTICE"}
    modules = {path.relative_to(ROOT) for path in (ROOT / "seaway").rglob("*.py")}
    assert {path for path in modules if not (installed / path).is_file()} == set()


def test_the_wheel_has_the_checkout_s_definitions_and_tags(installed: Path) -> None:
    packaged = installed / "seaway" / "_kfp"
    files = {path.relative_to(packaged) for path in packaged.rglob("*") if path.is_file()}
    definitions = {path.relative_to(ROOT) for path in ROOT.glob("components/*/component.py")}
    definitions |= {path.relative_to(ROOT) for path in ROOT.glob("pipelines/*.py")}
    assert files == {*definitions, Path("images.json")}
    assert [file for file in definitions if (packaged / file).read_bytes() != (ROOT / file).read_bytes()] == []
    assert json.loads((packaged / "images.json").read_text()) == {stage: images.tag(stage) for stage in images.STAGES}
    assert not (ROOT / "seaway" / "_kfp").exists(), "a checkout uses its own files"


def test_a_wheel_an_editable_install_and_a_checkout_compile_to_the_same_bytes(installed: Path, tmp_path: Path) -> None:
    homes = {"wheel": installed, "checkout": ROOT, "editable": None}
    for name, where in homes.items():
        done = compile_in(where, tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert str((where or ROOT) / "seaway" / "__init__.py") in done.stdout.splitlines()
    for pipeline in PIPELINES:
        expected = (tmp_path / "checkout" / f"{pipeline}.yaml").read_bytes()
        assert images.image("convert").encode() in expected
        for name in homes:
            assert (tmp_path / name / f"{pipeline}.yaml").read_bytes() == expected, f"{pipeline} from the {name}"


def test_an_installed_package_without_an_image_tag_says_so(installed: Path, tmp_path: Path) -> None:
    file = installed / "seaway" / "_kfp" / "images.json"
    tags = json.loads(file.read_text())
    del tags["convert"]
    file.write_text(json.dumps(tags))
    done = compile_in(installed, tmp_path / "no-entry")
    assert done.returncode == 1
    assert "images.json: names no image for 'convert'" in done.stderr
    file.unlink()
    done = compile_in(installed, tmp_path / "no-file")
    assert done.returncode == 1
    assert "images.json is missing" in done.stderr
    assert list((tmp_path / "no-file").iterdir()) == []


@pytest.mark.parametrize(
    "missing",
    ["components/train/component.py", "components/train/requirements.txt", "components/kfp.txt", "pipelines"],
)
def test_no_wheel_is_built_without_one_of_its_files(built: Path, tmp_path: Path, missing: str) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as opened:
        members = [
            each for each in opened.getmembers() if not f"{each.name}/".partition("/")[2].startswith(f"{missing}/")
        ]
        opened.extractall(tmp_path, members=members, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert missing in done.stderr
    assert not list((tmp_path / "dist").glob("*"))
