"""Pipelines of a user's own, as files: what is found in them, what is told of a broken one, what becomes of one."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import local

from seaway.errors import InvalidInput, NotFound
from seaway.pipeline import cluster, definitions
from seaway.pipeline.compile import compile_pipeline

ROOT = Path(__file__).resolve().parents[3]
HEAD = "from kfp import dsl, kubernetes\nfrom seaway.pipeline.definitions import component\n"
OWN = """
@dsl.component(base_image="registry.example/team/python:1", install_kfp_package=False)
def twice(number: int) -> int:
    return 2 * number
"""
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """write("mine.py", text) → its path; what its import leaves in sys.path goes again."""
    before = sys.path[:]

    def write(name: str, text: str, head: str = HEAD + OWN) -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + text)
        return str(file)

    yield write
    sys.path[:] = before


def dag(name: str, body: str = "    twice(number=number)\n") -> str:
    return f'\n@dsl.pipeline(name="{name}")\ndef {name}(number: int = 1):\n{body}'


def test_ours_by_their_names() -> None:
    assert definitions.names() == ["characters", "ship"]
    assert definitions.pipeline("ship").name == "seaway-ship"
    for name in ("nonsense", "mine", "mine/", "characters.yaml"):
        with pytest.raises(NotFound, match=f"no pipeline '{name}': there are characters, ship; or give a file, as"):
            definitions.pipeline(name)


def test_a_component_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="no component 'explor': there are convert, deploy, explore,"):
        definitions.component("explor")
    with pytest.raises(NotFound, match=r"export/component\.py: has no component 'nonsense'"):
        definitions.component("export", "nonsense")


def test_a_file_and_what_lies_beside_it(write: Write) -> None:
    write("numbers_beside.py", "SEVEN = 7\n", head="")
    mine = definitions.pipeline(
        write("mine.py", "from numbers_beside import SEVEN\n" + dag("mine", f"{TWICE}SEVEN)\n"))
    )
    assert mine.name == "mine"
    assert 7 in [value["runtimeValue"]["constant"] for value in given(mine, "twice").values()]


TWICE = "    twice(number="


def given(pipeline: Any, task: str) -> dict[str, Any]:
    """What a task is given, as the IR has it."""
    found: dict[str, Any] = pipeline_spec(pipeline)["root"]["dag"]["tasks"][task]["inputs"]["parameters"]
    return found


def pipeline_spec(pipeline: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(pipeline.pipeline_spec)


def test_a_path_from_home_and_a_relative_one(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(write("mine.py", dag("mine")))
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.chdir(file.parent)
    assert definitions.pipeline("~/mine.py") is definitions.pipeline("mine.py") is definitions.pipeline(str(file))


def test_two_files_of_one_name_are_two(write: Write) -> None:
    a, b = (definitions.pipeline(write(f"{team}/mine.py", dag(team))) for team in ("a", "b"))
    c = definitions.pipeline(write("c/a/mine.py", dag("c")))
    assert (a.name, b.name, c.name) == ("a", "b", "c")
    assert len({one.pipeline_func.__module__ for one in (a, b, c)}) == 3
    assert [Path(str(sys.modules[one.pipeline_func.__module__].__file__)).parent.name for one in (a, b)] == ["a", "b"]
    assert "twice" in inspect.getsource(a.pipeline_func)
    assert Path(inspect.getfile(b.pipeline_func)).parent.name == "b"


def test_a_file_s_own_pipeline_is_meant_and_not_one_that_it_uses(write: Write) -> None:
    write("inner_beside.py", dag("inner"))
    alone = write("alone.py", "from inner_beside import inner\nalias = inner\n")
    assert definitions.pipeline(alone).name == "inner"
    outer = write("outer.py", "from inner_beside import inner\n" + dag("outer", "    inner(number=number)\n"))
    assert definitions.pipeline(outer).name == "outer"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            dag("one") + dag("two"),
            r"mine\.py: holds one and two: give a file with one function that has @dsl\.pipeline",
        ),
        ("", r"mine\.py: holds none: give a file with one function"),
        ("\ndef broken(:\n", r"mine\.py:8: importing it fails: SyntaxError: invalid syntax"),
        ("\nimport not_there_at_all\n", r"mine\.py:8: importing it fails: ModuleNotFoundError: No module named 'not_"),
        ("\n1 / 0\n", r"mine\.py:8: importing it fails: ZeroDivisionError: division by zero"),
        (
            dag("mine", "    twice(numbr=number)\n"),
            r"mine\.py:10: importing it fails: TypeError: twice\(\) got an unexp",
        ),
    ],
    ids=["two", "none", "syntax", "module", "error", "argument"],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line(write: Write, text: str, told: str) -> None:
    before = {*sys.modules}
    with pytest.raises(InvalidInput, match=told):
        definitions.pipeline(write("mine.py", text))
    left = [name for name in {*sys.modules} - before if name.endswith("_mine")]
    assert len(left) == ("holds" in told), "half a module is none"


def test_a_fault_beside_the_file_is_told_where_it_is(write: Write) -> None:
    write("broken_beside.py", "\n\nNONE.append\n", head="")
    with pytest.raises(InvalidInput, match=r"broken_beside\.py:3: importing it fails: NameError"):
        definitions.pipeline(write("mine.py", "import broken_beside\n" + dag("mine")))


def test_a_stage_that_is_not_there_is_told_in_its_own_words(write: Write) -> None:
    with pytest.raises(NotFound, match="no component 'explor'"):
        definitions.pipeline(write("mine.py", 'component("explor")\n' + dag("mine")))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.py: there is no such file"):
        definitions.pipeline(str(tmp_path / "none.py"))
    with pytest.raises(NotFound, match=r"folder\.py: there is no such file"):
        (tmp_path / "folder.py").mkdir()
        definitions.pipeline(str(tmp_path / "folder.py"))


def test_loaded_components_run_as_processes(write: Write, tmp_path: Path) -> None:
    """kfp reads their source: of a module that has no import name, and after a second of the same stem."""
    returns = dag("returns", "    return twice(number=number).output\n").replace("):", ") -> int:")
    second = HEAD + OWN.replace("2 *", "3 *")
    files = [write("a/mine.py", returns), write("b/mine.py", returns, head=second)]
    pipelines = [definitions.pipeline(file) for file in files]
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    assert [one(number=7).outputs["Output"] for one in pipelines] == [14, 21]


# ---- on a cluster


def compiled(file: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(executor → container, executor → what it asks of Kubernetes)"""
    compile_pipeline(file, folder / "ir.yaml", "ghcr.io/example", "team-models")
    ir, platform = yaml.safe_load_all((folder / "ir.yaml").read_text())
    containers = {name: one["container"] for name, one in ir["deploymentSpec"]["executors"].items()}
    return containers, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


STAGES = """
@dsl.pipeline(name="mine")
def mine(source: str = "strokes:434", cache: str = "/models/.cache", number: int = 1):
    data = component("explore")(source=source, fingerprint="", cache=cache)
    again = component("explore")(source="strokes:868", fingerprint="", cache=cache)
    counted = twice(number=number)
    with dsl.If(counted.output > 3):
        twice(number=counted.output)
    asked = twice(number=3).set_cpu_request("1").set_cpu_limit("3").set_retry(7)
    kubernetes.set_timeout(asked, 120)
    kubernetes.set_security_context(asked, run_as_user=1234)
"""


def test_own_components_keep_their_image_and_ours_come_from_the_registry(write: Write, tmp_path: Path) -> None:
    containers, kubernetes = compiled(write("mine.py", STAGES), tmp_path)
    images = {name: one["image"].rpartition(":")[0] for name, one in containers.items()}
    own = {name for name, image in images.items() if image == "registry.example/team/python"}
    assert len(own) == 3
    assert {images[name] for name in images.keys() - own} == {
        f"ghcr.io/example/{stage}" for stage in ("explore", "preflight", "outcome")
    }
    for name in images.keys() - own:
        assert kubernetes[name]["securityContext"]["runAsUser"] == "10001"
    mounted = {name for name, asked in kubernetes.items() if "pvcMount" in asked}
    assert mounted == {"exec-explore", "exec-explore-2"}, "of each use of a stage"


def test_own_components_get_what_they_do_not_ask_for(write: Write, tmp_path: Path) -> None:
    containers, kubernetes = compiled(write("mine.py", STAGES), tmp_path)
    usual = {
        "resourceCpuRequest": "500m",
        "resourceCpuLimit": "2",
        "resourceMemoryRequest": "1Gi",
        "resourceMemoryLimit": "8Gi",
    }
    found = {name: {key: one["resources"][key] for key in usual} for name, one in containers.items()}
    [asked] = [name for name, one in kubernetes.items() if one.get("securityContext", {}).get("runAsUser") == "1234"]
    assert found["exec-twice"] == usual
    assert found[asked] == usual | {"resourceCpuRequest": "1", "resourceCpuLimit": "3"}
    assert (kubernetes["exec-twice"]["activeDeadlineSeconds"], kubernetes[asked]["activeDeadlineSeconds"]) == (
        str(cluster.OTHER.minutes * 60),
        "120",
    )
    assert "securityContext" not in kubernetes["exec-twice"], "its image says who it runs as"
    ir, _ = yaml.safe_load_all((tmp_path / "ir.yaml").read_text())
    tries = [one["retryPolicy"]["maxRetryCount"] for one in tasks(ir) if one["componentRef"]["name"] == "comp-twice-3"]
    assert tries == [7]


def tasks(ir: dict[str, Any]) -> list[dict[str, Any]]:
    return [task for one in ir["components"].values() for task in one.get("dag", {}).get("tasks", {}).values()]


def test_a_pipeline_within_may_not_hold_our_stages(write: Write, tmp_path: Path) -> None:
    """They would come from no registry and have no volume; a component of the user's own may be there."""
    inner = dag("inner", '    component("explore")(source="strokes:434", fingerprint="", cache="/c")\n')
    outer = dag("outer", "    inner(number=number)\n")
    write("inner_of_ours.py", inner)
    with pytest.raises(InvalidInput, match="inner is a pipeline that uses Seaway's stages: use them in the outer one"):
        compiled(write("mine.py", "from inner_of_ours import inner\n" + outer), tmp_path)
    write("inner_of_own.py", dag("inner"))
    containers, _ = compiled(write("fine.py", "from inner_of_own import inner\n" + outer), tmp_path)
    assert "registry.example/team/python:1" in json.dumps(containers)
