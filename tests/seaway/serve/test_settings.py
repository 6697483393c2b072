from pathlib import Path
from urllib.parse import urlsplit

import pytest

from seaway.errors import InvalidInput
from seaway.platform import cgroup
from seaway.serve.settings import Settings, from_environment


def test_kubernetes_links_to_services_are_no_ports() -> None:
    """A Service named `seaway` sets SEAWAY_PORT in every pod of its namespace."""
    assert from_environment({"SEAWAY_PORT": "tcp://10.96.0.7:8501", "SEAWAY_ADMIN_PORT": "8502"}) == {
        "admin_port": 8502
    }


def test_settings_from_the_environment():
    environment = {"SEAWAY_MODEL_REPOSITORY": "/models", "SEAWAY_PORT": "0", "SEAWAY_ACCESS_LOG": "yes", "PORT": "1"}
    assert from_environment(environment) == {"model_repository": Path("/models"), "port": 0, "access_log": True}
    typed = {"SEAWAY_ADMIN_PORT": "8502", "SEAWAY_BATCH_DELAY_MS": "0.5", "SEAWAY_ALLOW_OP": "ReadFile, WriteFile"}
    assert from_environment(typed) == {"admin_port": 8502, "batch_delay_ms": 0.5, "allow_op": ("ReadFile", "WriteFile")}
    origins = {"SEAWAY_CORS_ORIGIN": "https://a.example, http://localhost:3000"}
    assert from_environment(origins) == {"cors_origin": ("https://a.example", "http://localhost:3000")}


def test_the_limit_on_all_bodies_fits_at_least_one():
    assert Settings(Path("x"), max_body_bytes=1000, max_held_bytes=2000).held_bytes_limit == 2000
    assert Settings(Path("x"), max_body_bytes=5000, max_held_bytes=2000).held_bytes_limit == 5000  # one must fit


@pytest.mark.parametrize("name, value", [("PORT", "x"), ("ACCESS_LOG", "perhaps"), ("POLL_INTERVAL_S", "")])
def test_an_invalid_value_is_named(name, value):
    with pytest.raises(InvalidInput, match=f"SEAWAY_{name}='{value}'"):
        from_environment({f"SEAWAY_{name}": value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"default_version": "newest"},
        {"poll_interval_s": 0},
        {"workers": -1},
        {"backend": "torch"},
        {"model_version": 1},  # without a model
        {"max_batch": 0},
        {"max_connections": 0},
        {"timeout_s": float("nan")},
        {"drain_s": float("nan")},
        {"batch_delay_ms": float("inf")},
        {"port": 65536},
        {"port": -1},
        {"admin_port": 70000},
        {"cors_origin": ("https://Example.com",)},  # never matches: browsers send lower case
        {"pod": "two\r\nlines"},
        {"cors_origin": ("example.com",)},
        {"cors_origin": ("https://example.com/",)},
        {"cors_origin": ("https://example.com\r\nx: y",)},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
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
def test_urls_are_valid_for_every_kind_of_host(host, url):
    assert Settings(Path("x"), host=host).url(8501) == url
    assert urlsplit(url).port == 8501


def test_workers_share_the_cores():
    for workers in (1, 2, 64):
        settings = Settings(Path("x"), workers=workers)
        assert settings.worker_count == workers
        assert 1 <= settings.thread_count <= max(1, cgroup.cores() // workers)
    assert 1 <= Settings(Path("x")).worker_count <= cgroup.cores()


def test_a_file_is_not_a_model_repository(tmp_path):
    (tmp_path / "models").touch()
    with pytest.raises(InvalidInput, match="models: this is a file"):
        Settings(tmp_path / "models")
