"""Mistakes in a command line: one line each, all at once where they can be, and before anything starts."""

import re
import sys
from pathlib import Path

import pytest

from seaway.artifacts import model_repository
from seaway.cli import main, options
from seaway.errors import NotFound

DEAD = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("command", "said", "status"),
    [
        ("load --user 3", "load run: there is no option --user: did you mean --users\\? See `.* load run --help`", 2),
        ("load --duration 5", "load run: there is no option --duration: did you mean --time\\? See `.*`", 2),
        (
            f"load {DEAD} --protocol rest",
            "seaway: no protocol 'rest', did you mean tfs\\? choose one of tfs \\(REST.*",
            1,
        ),
        (f"load {DEAD} --limit p99", "seaway: --limit 'p99': give NAME=VALUE, e.g. --limit p99_ms=500", 1),
        (f"load {DEAD} --limit p99=5", "seaway: --limit: unknown limit 'p99'; .*; did you mean p99_ms\\?", 1),
        (
            f"load {DEAD}/api/v1/models/x:predict",
            f"seaway: '{DEAD}/api/v1/models/x:predict' is the URL of a request; give that of the server, {DEAD}/api",
            1,
        ),
        (f"load {DEAD}/?x=1", f"seaway: '{DEAD}/\\?x=1' is the URL of a request; give that of the server, {DEAD}/", 1),
        ("load --xyzzy", "load run: there is no option --xyzzy; see `.*`", 2),
        ("load --users 0", "load run: Invalid value for '--users': it must be greater than or equal to 1; see `.*`", 2),
        ("load --rate x", "load run: Invalid value for '--rate': it must be a number; see `.*`", 2),
        ("lineage abc", "lineage: Invalid value for 'version': it must be a whole number; see `.*`", 2),
        (
            "serve --backend x",
            "serve: Invalid value for '--backend': 'x' is not one of 'savedmodel', 'onnx'; see `.*`",
            2,
        ),
        ("verfy", "seaway: No such command 'verfy'. Did you mean 'verify'\\? See `.*`", 2),
        ("verify", "verify: Missing argument 'URL'; see `.*`", 2),
        (f"verify {DEAD}", f"seaway: {DEAD}: no response .*; is the server running there\\?", 1),
        (f"load {DEAD}", f"seaway: {DEAD}: no response .*", 1),
        (f"load capacity {DEAD} --limit p99_ms=5", f"seaway: {DEAD}: no response .*", 1),
        (f"evaluate {DEAD}", f"seaway: {DEAD}: no response .*", 1),
        (f"evaluate --url {DEAD}", f"seaway: {DEAD}: no response .*", 1),
        (
            "run --net resnet --name a/b --training speed=3",
            "seaway: --name a/b .*\\n'resnet' is not a network that Seaway knows: .*\\nspeed: .*",
            1,
        ),
        ("run --net python:nowhere:f", "seaway: --net python:nowhere:f: there is no module 'nowhere' in .*", 1),
        (
            "ship python:nowhere:f --input 3q --input 3:flat --name a/b",
            "seaway: MODEL python:nowhere:f: .*\\n--name a/b .*\\n--input 3q: .*\\n--input 3:flat: dtype .*",
            1,
        ),
        ("ship python:nowhere --input 3", "seaway: MODEL python:nowhere: write python:MODULE:FUNCTION, .*", 1),
        ("lineage 1", "seaway: .seaway/models: no such model repository; .*", 1),
    ],
)
def test_a_mistake(
    command: str,
    said: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seaway", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main.main()
    error = capsys.readouterr().err
    assert re.fullmatch(f"{said}\n", error.removeprefix("seaway ")), error
    assert ended.value.code == status
    assert list(tmp_path.iterdir()) == [], "nothing was started"


def test_a_similar_name_of_a_model_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("digits", "letters"):
        model_repository.publish(tmp_path, name, lambda folder: (folder / "saved_model.pb").write_bytes(b""))
    for command in ("versions", "lineage 1"):
        words = ["seaway", *command.split(), "--name", "digit", "--model-repository", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit):
            main.main()
        error = capsys.readouterr().err
        assert error == f"seaway: {tmp_path} has no model 'digit': did you mean 'digits'? It has digits, letters\n"


def test_the_only_model_is_the_default(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no models yet: make one with `seaway run` or `seaway ship`"):
        options.model_name(tmp_path, "")
    model_repository.publish(tmp_path, "digits", lambda folder: (folder / "saved_model.pb").write_bytes(b""))
    assert options.model_name(tmp_path, "") == "digits"
    assert options.model_name(tmp_path, "other") == "other"
    model_repository.publish(tmp_path, "letters", lambda folder: (folder / "saved_model.pb").write_bytes(b""))
    with pytest.raises(NotFound, match="has the models digits, letters: choose one with --name"):
        options.model_name(tmp_path, "")
