"""Result files of this version and of earlier ones."""

import json
from pathlib import Path

import pytest

from seaway.errors import DataError
from seaway.load import result_files

EARLIER = Path(__file__).with_name("load-schema-2.json")  # written before the fields had today's names


def test_a_result_of_an_earlier_version_is_read():
    [result] = result_files.read_json(EARLIER)
    assert (result.duration_s, result.warmup_s, result.discriminative) == (2, 1, True)
    assert [(ms, count) for ms, count in result.latency_histogram] == [(pytest.approx(12.0, rel=0.01), 2)]
    assert result.errors_over_time["HTTP 500"] == ((1, 1),)
    assert [(second.correct, second.errors) for second in result.over_time] == [(1, 0), (1, 1), (1, 1)]
    assert [(replica.responses, replica.max_abs) for replica in result.replicas] == [(4, None)]
    assert (result.generator.backlog, result.generator.lag_p99_ms) == (2, pytest.approx(0.2, rel=0.01))
    assert result.server_metrics == {"requests: waiting to be computed": ((1.5, 2.0),)}


def test_a_result_is_written_with_the_keys_of_earlier_versions(tmp_path):
    results = result_files.read_json(EARLIER)
    result_files.write_json(tmp_path / "load.json", results)
    assert result_files.read_json(tmp_path / "load.json") == results
    written, earlier = (json.loads(file.read_text())["runs"] for file in (tmp_path / "load.json", EARLIER))
    assert written == earlier
    assert list(written[0]) == list(earlier[0])


def test_a_result_of_an_earlier_version_is_compared():
    table = result_files.compare(*[result_files.read_json(EARLIER)] * 2)
    assert "| REST, batch 1 | correct responses/s | 1 | 1 | 1.00 |" in table


def test_uniform_arrivals_are_the_default_of_results_without_arrivals(tmp_path):
    document = json.loads(EARLIER.read_text())
    del document["runs"][0]["arrivals"]
    (tmp_path / "load.json").write_text(json.dumps(document))
    assert result_files.read_json(tmp_path / "load.json")[0].arrivals == "uniform"


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"schema_version": 1}', "has schema 1, but this is for 2"), ("[]", "not a result"), ("{", "not a result")],
)
def test_other_files_are_errors(tmp_path, content, message):
    (tmp_path / "load.json").write_text(content)
    with pytest.raises(DataError, match=message):
        result_files.read_json(tmp_path / "load.json")
