from pathlib import Path
from urllib.parse import urlsplit

import pytest

from seaway.errors import InvalidInput
from seaway.platform import cgroup
from seaway.serve.settings import Settings, from_environment


def test_what_the_environment_gives():
    environment = {"SEAWAY_VOLUME": "/models", "SEAWAY_PORT": "0", "SEAWAY_ACCESS_LOG": "yes", "PORT": "1"}
    assert from_environment(environment) == {"volume": Path("/models"), "port": 0, "access_log": True}
    typed = {"SEAWAY_ADMIN_PORT": "8502", "SEAWAY_BATCH_DELAY_MS": "0.5", "SEAWAY_ALLOW_OP": "ReadFile, WriteFile"}
    assert from_environment(typed) == {"admin_port": 8502, "batch_delay_ms": 0.5, "allow_op": ("ReadFile", "WriteFile")}
    origins = {"SEAWAY_CORS_ORIGIN": "https://a.example, http://localhost:3000"}
    assert from_environment(origins) == {"cors_origin": ("https://a.example", "http://localhost:3000")}


def test_bodies_are_held_within_the_memory():
    assert Settings(Path("x"), max_body_bytes=1000, max_held_bytes=2000).held_bytes == 2000
    assert Settings(Path("x"), max_body_bytes=5000, max_held_bytes=2000).held_bytes == 5000  # one must fit


@pytest.mark.parametrize("name, value", [("PORT", "x"), ("ACCESS_LOG", "perhaps"), ("POLL_SECONDS", "")])
def test_a_value_that_does_not_read_is_named(name, value):
    with pytest.raises(InvalidInput, match=f"SEAWAY_{name}='{value}'"):
        from_environment({f"SEAWAY_{name}": value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"default_version": "newest"},
        {"poll_seconds": 0},
        {"workers": -1},
        {"backend": "torch"},
        {"model_version": 1},  # of no model
        {"max_batch": 0},
        {"pod": "two\r\nlines"},
        {"cors_origin": ("example.com",)},
        {"cors_origin": ("https://example.com/",)},
        {"cors_origin": ("https://example.com\r\nx: y",)},
    ],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(InvalidInput):
        Settings(Path("x"), **wrong)


@pytest.mark.parametrize(
    "host, url",
    [
        ("127.0.0.1", "http://127.0.0.1:8501/"),
        ("localhost", "http://localhost:8501/"),
        ("::1", "http://[::1]:8501/"),
        ("::", "http://[::]:8501/"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:8501/"),
    ],
)
def test_urls_that_a_client_can_read(host, url):
    assert Settings(Path("x"), host=host).url(8501) == url
    assert urlsplit(url).port == 8501


def test_workers_share_the_cores():
    for workers in (1, 2, 64):
        settings = Settings(Path("x"), workers=workers)
        assert settings.worker_count == workers
        assert 1 <= settings.thread_count <= max(1, cgroup.cores() // workers)
    assert 1 <= Settings(Path("x")).worker_count <= cgroup.cores()


def test_a_file_is_no_volume(tmp_path):
    (tmp_path / "models").touch()
    with pytest.raises(InvalidInput, match="models: a file"):
        Settings(tmp_path / "models")
