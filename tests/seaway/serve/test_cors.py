"""Calls from pages of other sites, as browsers make them, to servers without models."""

import socket
import urllib.request

import pytest

PAGE, OTHER = "https://page.example", "https://other.example"
PREDICT, INFER, GRAPHPIPE = "/v1/models/m:predict", "/v2/models/m/infer", "/graphpipe/m"


def preflight(server, path, origin):
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    return server.request("OPTIONS", path, headers={"Origin": origin, **wanted} if origin else wanted)


def allowed(reply):
    return {
        name.lower().removeprefix("access-control-allow-"): reply.headers.get_all(name)
        for name in reply.headers
        if name.lower().startswith("access-control-allow-")
    }


def test_no_other_site_by_default(server):
    for reply in (server.request("GET", "/v1/models/half", headers={"Origin": PAGE}), preflight(server, PREDICT, PAGE)):
        assert (reply.status, allowed(reply), reply.headers["Vary"]) == (200, {}, None)
    assert preflight(server, INFER, PAGE).status == 405


def test_all_sites_as_in_tensorflow_serving(start, tmp_path):
    """http_server.cc and http_rest_api_util.cc of TensorFlow Serving 2.20, with --rest_api_enable_cors_support."""
    server = start(tmp_path, "--backend", "onnx", "--cors-origin", "*")
    theirs = {"origin": ["*"], "methods": ["POST, GET"], "headers": ["Content-Type"]}
    for reply, status in (
        (preflight(server, PREDICT, PAGE), 200),
        (preflight(server, PREDICT, "null"), 400),
        (preflight(server, PREDICT, ""), 400),
        (server.request("POST", PREDICT, b"{", {"Origin": PAGE}), 400),
        (server.request("GET", "/v1/models", headers={"Origin": PAGE}), 400),
        (server.get("/healthz"), 200),
        (server.request("POST", GRAPHPIPE, b"", {"Content-Length": "1000000000"}), 413),
        (preflight(server, GRAPHPIPE, ""), 405),
    ):
        assert (reply.status, allowed(reply)) == (status, theirs)
    for path in (INFER, GRAPHPIPE, "/", "/healthz", "/v2"):
        reply = preflight(server, path, PAGE)
        assert (reply.status, reply.body) == (200, b"")
        assert allowed(reply) == {**theirs, "headers": ["Content-Type", "Inference-Header-Content-Length"]}
    assert "Inference-Header-Content-Length" in server.get("/v2").headers["Access-Control-Expose-Headers"]
    with urllib.request.urlopen(f"{server.admin_url}/status", timeout=60) as reply:
        assert not any(name.lower().startswith("access-control") for name in reply.headers)


def test_only_the_given_sites(start, tmp_path):
    server = start(tmp_path, "--backend", "onnx", "--cors-origin", PAGE, "--cors-origin", "http://localhost:3000")
    for origin in (PAGE, "http://localhost:3000", OTHER, f"{PAGE}.evil.example", "null", ""):
        named = origin in (PAGE, "http://localhost:3000")
        for reply in (
            preflight(server, INFER, origin),
            server.request("GET", "/v2", headers={"Origin": origin} if origin else {}),
            server.request("POST", INFER, b"", {"Content-Length": "1000000000", "Origin": origin}),
        ):
            assert allowed(reply).get("origin") == ([origin] if named else None)
            assert reply.headers["Vary"] == "origin"


def test_ipv6_addresses_in_urls(start, tmp_path):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = start(tmp_path, "--backend", "onnx", "--host", "::1")
    for url, port in ((server.url, server.port), (server.admin_url, server.admin_port)):
        assert url == f"http://[::1]:{port}"
        with urllib.request.urlopen(f"{url}/healthz", timeout=60) as reply:
            assert reply.read() == b"ok\n"
    second = start(tmp_path, "--backend", "onnx")
    assert second.url == f"http://127.0.0.1:{second.port}"
