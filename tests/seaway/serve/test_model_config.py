"""TensorFlow Serving's config files, and the models that they name as a source for the model manager."""

import random
import re
import time
from pathlib import Path

import pytest

from seaway.artifacts import model_repository
from seaway.errors import InvalidInput
from seaway.serve import text_config
from seaway.serve.supervisor.model_config import ConfiguredModel, ConfiguredModels, read_config
from seaway.serve.supervisor.scan import ModelContents

CONFIG = """# two models
model_config_list {
  config {
    name: "half"
    base_path: "/models/half"
    model_platform: 'tensorflow'
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
    version_labels: { key: "canary", value: 2 };
    logging_config {
      log_collector_config { type: "" filename_prefix: "/tmp/l" }
      sampling_config { sampling_rate: 0.5 }
    }
  }
  config < name: "other" base_path: "/models/" "other" model_type: TENSORFLOW >
}
"""


def write(file: Path, *configs: str) -> Path:
    """A config file; each of `configs` is `name base_path more`."""
    blocks = []
    for config in configs:
        name, base_path, more = config.split(" ", 2) if config.count(" ") > 1 else (*config.split(" "), "")
        blocks.append(f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}')
    file.write_text(f"model_config_list {{ {' '.join(blocks)} }}")
    return file


def versions(base_path: Path, *numbers: int) -> None:
    for number in numbers:
        (base_path / str(number)).mkdir(parents=True)


# ---- the text


def test_a_config_with_all_that_people_write(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(CONFIG)
    assert read_config(file) == {
        "half": ConfiguredModel("half", Path("/models/half"), 0, frozenset({1, 2}), {"stable": 1, "canary": 2}),
        "other": ConfiguredModel("other", Path("/models/other")),
    }


@pytest.mark.parametrize(
    "policy, newest, specific",
    [
        ("", 1, None),
        ("model_version_policy {}", 1, None),
        ("model_version_policy { latest {} }", 1, None),
        ("model_version_policy { latest { num_versions: 3 } }", 3, None),
        ("model_version_policy: { all: {} }", 0, None),
        ("model_version_policy { specific { versions: [7, 0x10] } }", 0, frozenset({7, 16})),
    ],
)
def test_version_policies(tmp_path, policy, newest, specific):
    [model] = read_config(write(tmp_path / "c", f"m /m {policy}")).values()
    assert (model.newest, model.specific) == (newest, specific)


def test_the_config_that_a_model_repository_has_for_tensorflow_serving(tmp_path):
    versions(tmp_path / 'it"s', 1, 2)
    versions(tmp_path / "other", 3)
    model_repository.set_label(tmp_path, 'it"s', "stable", 1)
    models = read_config(tmp_path / model_repository.CONFIG)
    assert models == {
        'it"s': ConfiguredModel('it"s', tmp_path / 'it"s', 0, frozenset({1}), {"stable": 1}),
        "other": ConfiguredModel("other", tmp_path / "other", 0, frozenset({3})),
    }


@pytest.mark.parametrize("content", ["", "# nothing\n", "model_config_list {}", "model_config_list: {\n}\n"])
def test_an_empty_config(tmp_path, content):
    (tmp_path / "c").write_text(content)
    assert read_config(tmp_path / "c") == {}


@pytest.mark.parametrize(
    "content, said",
    [
        ("model_config_list {\n config { nam: 'x' } }", r"c:2: .*ModelConfig.* has no field named \"nam\""),
        ("model_config_list {\n config {\n name: 3 } }", r"c:3: .*name: 3.*Expected string"),
        ("model_config_list { config { model_version_policy { latest { num_versions: -1 } } } }", "num_versions: -1"),
        ("model_config_list { config { version_labels { key: 'a' value: 99999999999999999999 } } }", "out of range"),
        ("model_config_list { config { name: 'a' name: 'b' } }", 'multiple "name" fields'),
        ("model_config_list { config { model_version_policy { all {} latest {} } } }", "policy_choice"),
        ("model_config_list { config { ", "c:1: .*Expected"),
        ("model_config_list { config { name: 'a\n' } }", "c:1: .*missing ending quote"),
        (r"model_config_list { config { name: '\q' } }", r"invalid escape"),
        ("custom_model_config { type_url: 'x' }", "custom_model_config"),
        ("\x00\x01", "c:1"),
        ("model_config_list { config { name: 'a' base_path: '/m' } }", 'model_platform: "tensorflow"'),
        ("model_config_list { config { name: 'a' base_path: '/m' model_platform: 'sklearn' } }", "model_platform"),
        ("model_config_list { config { base_path: '/m' model_platform: 'tensorflow' } }", "no name"),
        ("model_config_list { config { name: 'a' base_path: 'm' model_platform: 'tensorflow' } }", "not absolute"),
        ("model_config_list { config { name: 'a' base_path: 's3://b/m' model_platform: 'tensorflow' } }", "s3://b/m"),
        (
            "model_config_list { config { name: 'a' base_path: '/m' model_platform: 'tensorflow' }"
            "config { name: 'a' base_path: '/n' model_platform: 'tensorflow' } }",
            "listed twice",
        ),
    ],
)
def test_an_error_names_the_file_the_line_and_the_field(tmp_path, content, said):
    (tmp_path / "c").write_text(content)
    with pytest.raises(InvalidInput) as error:
        read_config(tmp_path / "c")
    assert str(error.value).startswith(str(tmp_path / "c"))
    assert re.search(said, str(error.value)), error.value


def test_a_file_that_is_missing_or_too_large_or_not_text(tmp_path):
    with pytest.raises(InvalidInput, match="does not exist"):
        read_config(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"#" * (text_config.MAX_BYTES + 1))
    with pytest.raises(InvalidInput, match="larger than"):
        read_config(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"model_config_list { \xff }")
    with pytest.raises(InvalidInput, match="not UTF-8 at byte 20"):
        read_config(tmp_path / "c")


@pytest.mark.parametrize("nested", ["model_config_list {", "{", "[", "<", "model_config_list { config {"])
def test_deep_nesting_is_refused(nested):
    with pytest.raises(InvalidInput):
        text_config.parse((nested * 50_000).encode(), "ModelServerConfig", "c")


def test_damaged_configs_are_read_or_refused():
    random.seed(23)
    pieces = [
        "{",
        "}",
        "<",
        ">",
        "[",
        "]",
        ":",
        '"',
        "'",
        "\\",
        "\\x",
        "\\U00110000",
        "-",
        "0x",
        "1e999",
        "\0",
        "é",
        "#",
    ]
    read = 0
    for _ in range(3000):
        text = CONFIG
        for _ in range(random.randint(1, 4)):
            start = random.randrange(len(text))
            end = min(start + random.choice([0, 1, 1, 5, 50]), len(text))
            text = text[:start] + random.choice([*pieces, "", text[start:end] * 2]) + text[end:]
        try:
            text_config.parse(text.encode(), "ModelServerConfig", "c")
            read += 1
        except InvalidInput as error:
            assert str(error).startswith("c")
    assert 0 < read < 3000


# ---- the source


def contents(source: ConfiguredModels, states=None) -> dict[str, tuple[list[int], int] | None]:
    found = source(states or {}).models
    return {name: (sorted(model.folders), model.newest) if model else None for name, model in found.items()}


def test_policies_choose_the_versions(tmp_path):
    versions(tmp_path, 1, 2, 30)
    models = [
        ConfiguredModel("latest", tmp_path),
        ConfiguredModel("two", tmp_path, newest=2),
        ConfiguredModel("all", tmp_path, newest=0),
        ConfiguredModel("specific", tmp_path, newest=0, specific=frozenset({1, 30, 99})),
        ConfiguredModel("none", tmp_path, newest=0, specific=frozenset({4})),
    ]
    source = ConfiguredModels(models)
    assert contents(source) == {
        "latest": ([1, 2, 30], 1),
        "two": ([1, 2, 30], 2),
        "all": ([1, 2, 30], 3),
        "specific": ([1, 30], 2),
    }
    assert source({}).errors == [
        f"{tmp_path}: no version 99 of model 'specific'",
        f"{tmp_path}: no version 4 of model 'none'",
    ]


def test_a_base_path_that_is_the_model_itself_is_version_1(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "variables").mkdir()
    source = ConfiguredModels([ConfiguredModel("m", tmp_path)])
    assert source({}).models == {"m": ModelContents({1: tmp_path}, {})}


def test_a_model_whose_base_path_is_missing_or_empty_keeps_its_versions(tmp_path):
    versions(tmp_path / "there", 1)
    (tmp_path / "empty").mkdir()
    names = ("there", "empty", "missing")
    source = ConfiguredModels([ConfiguredModel(name, tmp_path / name) for name in names])
    assert contents(source) == {"there": ([1], 1), "empty": None, "missing": None}
    errors = source({}).errors
    assert [str(tmp_path / "empty") in errors[0], str(tmp_path / "missing") in errors[1]] == [True, True]


def test_base_paths_are_listed_once_or_again(tmp_path):
    versions(tmp_path, 1)
    once = ConfiguredModels([ConfiguredModel("m", tmp_path)], list_every_s=float("inf"))
    often = ConfiguredModels([ConfiguredModel("m", tmp_path)], list_every_s=0)
    assert contents(once) == contents(often) == {"m": ([1], 1)}
    versions(tmp_path, 2)
    assert contents(once) == {"m": ([1], 1)}
    assert contents(often) == {"m": ([1, 2], 1)}


def reloaded(file: Path, **options: object) -> ConfiguredModels:
    return ConfiguredModels(read_config(file).values(), file, list_every_s=3600, read_every_s=0, **options)


def test_a_new_config_replaces_the_old_one_and_a_broken_one_does_not(tmp_path):
    versions(tmp_path / "a", 1)
    versions(tmp_path / "b", 1, 2)
    file = write(tmp_path / "c", f"a {tmp_path}/a")
    source = reloaded(file)
    assert contents(source) == {"a": ([1], 1)}
    write(file, f"b {tmp_path}/b model_version_policy {{ all {{}} }}")
    assert contents(source) == {"b": ([1, 2], 2)}  # at once, although base paths are listed once an hour
    file.write_text("model_config_list { config { nam")
    assert contents(source) == {"b": ([1, 2], 2)}
    [error] = source({}).errors
    assert error.startswith(f"the new model config is not used: {file}:1")
    file.unlink()
    assert contents(source) == {"b": ([1, 2], 2)}
    file.write_text("")  # as in TensorFlow Serving, an empty file changes nothing; an empty list does
    assert contents(source) == {"b": ([1, 2], 2)}
    write(file, f"a {tmp_path}/a")
    assert contents(source) == {"a": ([1], 1)}
    assert not source({}).errors


def test_a_config_is_read_again_only_at_its_time(tmp_path):
    versions(tmp_path / "a", 1)
    file = write(tmp_path / "c", f"a {tmp_path}/a")
    source = ConfiguredModels(read_config(file).values(), file, list_every_s=0)
    write(file, f"b {tmp_path}/a")
    assert contents(source) == {"a": ([1], 1)}
    later = ConfiguredModels(read_config(file).values(), file, list_every_s=0, read_every_s=0.2)
    write(file, f"c {tmp_path}/a")
    deadline = time.monotonic() + 30
    while contents(later) != {"c": ([1], 1)}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_label_needs_a_version_that_is_available(tmp_path):
    versions(tmp_path, 1, 2)
    policy = "model_version_policy { all {} }"
    first = f"version_labels {{ key: 'l' value: 1 }} {policy}"
    file = write(tmp_path / "c", f"m {tmp_path} {first}")
    with pytest.raises(InvalidInput, match="label 'l' points at version 1, which is not available"):
        reloaded(file)  # at start, no version is
    write(file, f"m {tmp_path} {policy}")
    source = reloaded(file)
    assert source({}).models["m"].labels == {}
    write(file, f"m {tmp_path} {first}")
    refused = source({"m": {1: "LOADING", 2: "AVAILABLE"}})
    assert "label 'l' points at version 1" in refused.errors[0]
    assert refused.models["m"].labels == {}
    accepted = source({"m": {1: "AVAILABLE"}})
    assert (accepted.errors, accepted.models["m"].labels) == ([], {"l": 1})


def test_with_the_flag_only_a_new_label_may_point_at_an_unavailable_version(tmp_path):
    versions(tmp_path, 1, 2)

    def config(number: int) -> Path:
        return write(tmp_path / "c", f"m {tmp_path} version_labels {{ key: 'l' value: {number} }}")

    source = reloaded(config(1), allow_unavailable=True)
    assert source({}).models["m"].labels == {"l": 1}
    config(2)
    refused = source({"m": {1: "AVAILABLE"}})
    assert "label 'l' points at version 2" in refused.errors[0]
    assert refused.models["m"].labels == {"l": 1}
    assert source({"m": {1: "AVAILABLE", 2: "AVAILABLE"}}).models["m"].labels == {"l": 2}
