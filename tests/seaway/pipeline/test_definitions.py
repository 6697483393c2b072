"""A user's own pipelines as files: how they are loaded, errors for broken ones, how they are compiled."""

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
    """write("mine.py", text) → its path; restores sys.path afterwards."""
    original_path = sys.path[:]

    def write(name: str, text: str, head: str = HEAD + OWN) -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + text)
        return str(file)

    yield write
    sys.path[:] = original_path


def dag(name: str, body: str = "    twice(number=number)\n") -> str:
    return f'\n@dsl.pipeline(name="{name}")\ndef {name}(number: int = 1):\n{body}'


def test_seaway_s_pipelines_by_name() -> None:
    assert definitions.pipeline_names() == ["characters", "ship"]
    assert definitions.pipeline("ship").name == "seaway-ship"
    for name in ("nonsense", "mine", "mine/", "characters.yaml"):
        with pytest.raises(NotFound, match=f"--pipeline {name}: choose from characters, ship, or give a file, e.g."):
            definitions.pipeline(name)


def test_a_missing_component_is_reported_with_the_available_ones() -> None:
    with pytest.raises(NotFound, match="no component 'explor'; choose from convert, deploy, explore,"):
        definitions.component("explor")
    with pytest.raises(NotFound, match=r"export/component\.py has no component 'nonsense'"):
        definitions.component("export", "nonsense")


def test_a_file_and_a_module_beside_it(write: Write) -> None:
    write("numbers_beside.py", "SEVEN = 7\n", head="")
    mine = definitions.pipeline(
        write("mine.py", "from numbers_beside import SEVEN\n" + dag("mine", f"{TWICE}SEVEN)\n"))
    )
    assert mine.name == "mine"
    assert 7 in [value["runtimeValue"]["constant"] for value in task_inputs(mine, "twice").values()]


TWICE = "    twice(number="


def task_inputs(pipeline: Any, task: str) -> dict[str, Any]:
    """Returns a task's input parameters, as in the IR."""
    parameters: dict[str, Any] = pipeline_spec(pipeline)["root"]["dag"]["tasks"][task]["inputs"]["parameters"]
    return parameters


def pipeline_spec(pipeline: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(pipeline.pipeline_spec)


def test_a_path_from_home_and_a_relative_one(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(write("mine.py", dag("mine")))
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.chdir(file.parent)
    assert definitions.pipeline("~/mine.py") is definitions.pipeline("mine.py") is definitions.pipeline(str(file))


def test_two_files_of_the_same_name_are_two_modules(write: Write) -> None:
    a, b = (definitions.pipeline(write(f"{team}/mine.py", dag(team))) for team in ("a", "b"))
    c = definitions.pipeline(write("c/a/mine.py", dag("c")))
    assert (a.name, b.name, c.name) == ("a", "b", "c")
    assert len({one.pipeline_func.__module__ for one in (a, b, c)}) == 3
    assert [Path(str(sys.modules[one.pipeline_func.__module__].__file__)).parent.name for one in (a, b)] == ["a", "b"]
    assert "twice" in inspect.getsource(a.pipeline_func)
    assert Path(inspect.getfile(b.pipeline_func)).parent.name == "b"


def test_a_file_s_own_pipeline_takes_precedence_over_imported_ones(write: Write) -> None:
    write("inner_beside.py", dag("inner"))
    alone = write("alone.py", "from inner_beside import inner\nalias = inner\n")
    assert definitions.pipeline(alone).name == "inner"
    outer = write("outer.py", "from inner_beside import inner\n" + dag("outer", "    inner(number=number)\n"))
    assert definitions.pipeline(outer).name == "outer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            dag("one") + dag("two"),
            r"mine\.py holds one and two: give a file with one @dsl\.pipeline function",
        ),
        ("", r"mine\.py holds no pipeline: give a file with one"),
        ("\ndef broken(:\n", r"mine\.py:8: the import fails: SyntaxError: invalid syntax"),
        ("\nimport not_there_at_all\n", r"mine\.py:8: the import fails: ModuleNotFoundError: No module named 'not_"),
        ("\n1 / 0\n", r"mine\.py:8: the import fails: ZeroDivisionError: division by zero"),
        (
            dag("mine", "    twice(numbr=number)\n"),
            r"mine\.py:10: the import fails: TypeError: twice\(\) got an unexp",
        ),
    ],
    ids=["two", "none", "syntax", "module", "error", "argument"],
)
def test_errors_in_a_file_name_its_line(write: Write, text: str, message: str) -> None:
    already_loaded = {*sys.modules}
    with pytest.raises(InvalidInput, match=message):
        definitions.pipeline(write("mine.py", text))
    left = [name for name in {*sys.modules} - already_loaded if name.endswith("_mine")]
    assert len(left) == ("holds" in message), "a module that failed to load is not kept"


def test_errors_in_a_module_beside_the_file_name_its_line(write: Write) -> None:
    write("broken_beside.py", "\n\nNONE.append\n", head="")
    with pytest.raises(InvalidInput, match=r"broken_beside\.py:3: the import fails: NameError"):
        definitions.pipeline(write("mine.py", "import broken_beside\n" + dag("mine")))


def test_a_missing_component_in_a_file_keeps_its_own_message(write: Write) -> None:
    with pytest.raises(NotFound, match="no component 'explor'"):
        definitions.pipeline(write("mine.py", 'component("explor")\n' + dag("mine")))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.py: no such file"):
        definitions.pipeline(str(tmp_path / "none.py"))
    with pytest.raises(NotFound, match=r"folder\.py: no such file"):
        (tmp_path / "folder.py").mkdir()
        definitions.pipeline(str(tmp_path / "folder.py"))


def test_loaded_components_run_as_processes(write: Write, tmp_path: Path) -> None:
    """kfp reads their source, although the modules cannot be imported by name and two have the same stem."""
    returns = dag("returns", "    return twice(number=number).output\n").replace("):", ") -> int:")
    second = HEAD + OWN.replace("2 *", "3 *")
    files = [write("a/mine.py", returns), write("b/mine.py", returns, head=second)]
    pipelines = [definitions.pipeline(file) for file in files]
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    assert [one(number=7).outputs["Output"] for one in pipelines] == [14, 21]


# ---- on a cluster


def compiled(file: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (executor → container, executor → its Kubernetes settings)."""
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


def test_own_components_keep_their_image_and_seaway_s_come_from_the_registry(write: Write, tmp_path: Path) -> None:
    containers, kubernetes = compiled(write("mine.py", STAGES), tmp_path)
    images = {name: one["image"].rpartition(":")[0] for name, one in containers.items()}
    own = {name for name, image in images.items() if image == "registry.example/team/python"}
    assert len(own) == 3
    assert {images[name] for name in images.keys() - own} == {
        f"ghcr.io/example/{stage}" for stage in ("explore", "preflight", "run_summary")
    }
    for name in images.keys() - own:
        assert kubernetes[name]["securityContext"]["runAsUser"] == "10001"
    mounted = {name for name, settings in kubernetes.items() if "pvcMount" in settings}
    assert mounted == {"exec-explore", "exec-explore-2"}, "for each use of a stage"


def test_own_components_get_defaults_for_unset_settings(write: Write, tmp_path: Path) -> None:
    containers, kubernetes = compiled(write("mine.py", STAGES), tmp_path)
    defaults = {
        "resourceCpuRequest": "500m",
        "resourceCpuLimit": "2",
        "resourceMemoryRequest": "1Gi",
        "resourceMemoryLimit": "8Gi",
    }
    resources = {name: {key: one["resources"][key] for key in defaults} for name, one in containers.items()}
    [customised] = [
        name for name, one in kubernetes.items() if one.get("securityContext", {}).get("runAsUser") == "1234"
    ]
    assert resources["exec-twice"] == defaults
    assert resources[customised] == defaults | {"resourceCpuRequest": "1", "resourceCpuLimit": "3"}
    assert (kubernetes["exec-twice"]["activeDeadlineSeconds"], kubernetes[customised]["activeDeadlineSeconds"]) == (
        str(cluster.DEFAULT_RESOURCES.timeout_s),
        "120",
    )
    assert "securityContext" not in kubernetes["exec-twice"], "its image sets the user"
    ir, _ = yaml.safe_load_all((tmp_path / "ir.yaml").read_text())
    tries = [one["retryPolicy"]["maxRetryCount"] for one in tasks(ir) if one["componentRef"]["name"] == "comp-twice-3"]
    assert tries == [7]


def tasks(ir: dict[str, Any]) -> list[dict[str, Any]]:
    return [task for one in ir["components"].values() for task in one.get("dag", {}).get("tasks", {}).values()]


def test_a_nested_pipeline_may_not_use_seaway_s_stages(write: Write, tmp_path: Path) -> None:
    """They would have no registry and no claim; a user's own components are allowed."""
    inner = dag("inner", '    component("explore")(source="strokes:434", fingerprint="", cache="/c")\n')
    outer = dag("outer", "    inner(number=number)\n")
    write("inner_with_stages.py", inner)
    with pytest.raises(
        InvalidInput, match="inner is a pipeline that uses Seaway's stages: use them in the outer pipeline"
    ):
        compiled(write("mine.py", "from inner_with_stages import inner\n" + outer), tmp_path)
    write("inner_with_own.py", dag("inner"))
    containers, _ = compiled(write("fine.py", "from inner_with_own import inner\n" + outer), tmp_path)
    assert "registry.example/team/python:1" in json.dumps(containers)
