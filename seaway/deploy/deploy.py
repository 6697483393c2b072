"""Makes a published version the `canary`, waits until the server reports it AVAILABLE, and smoke-tests it.

The smoke test sends the version's golden examples over each protocol and compares every response with the recorded
outputs.
"""

import email.message
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from seaway.artifacts import artifact_metadata, golden, interface, model_repository, serving_profile
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.artifacts.golden import Golden
from seaway.client_tls import DEFAULT_TLS, ClientTls, is_closed, is_tls
from seaway.errors import InvalidInput, Refused, Unavailable
from seaway.kube import api_client, rollout
from seaway.protocols import client_codecs, tfserving

LABEL = model_repository.CANARY
TIMEOUT_S = 60.0  # for a server that watches the model repository
POLL_INTERVAL_S = 0.2
PROTOCOLS = (client_codecs.TFS, client_codecs.GRAPHPIPE, client_codecs.OIP, client_codecs.OIP_BINARY)
_MAX_SHOWN_CHARS = 200  # of an unexpected response


def deploy(
    url: str,
    repository: Path | None,
    name: str,
    version: int,
    timeout_s: float | None = None,
    namespace: str = "",
    replicas: int = 1,
    context: str = "",
    tls: ClientTls = DEFAULT_TLS,
) -> dict[str, float]:
    """Deploys the version as canary. Returns protocol → largest |Δ| from the golden outputs.

    With a `namespace` (in the cluster of kubectl's `context`), rolls the canary Deployment there out to the version,
    with `replicas` pods that respond at `url`; if `url` is "", skips the smoke test. If `repository` is None, its label
    stays unchanged, and a message says so. Without a `namespace`, the server at `url` watches the repository. If the
    version has a serving profile, its settings go into the canary's pod template; a running server keeps its own.
    `tls`: for a `url` at https://.

    Raises NotFound if the repository lacks the version; Unavailable if the server does not serve it within `timeout_s`
    (default: 60, on a cluster 300) or something else listens there; Refused if it fails to load or responds differently
    from the golden examples, if so many replicas cannot mount the claim, or if the namespace serves another model.
    """
    if not repository and (url or not namespace):
        raise InvalidInput(
            "no model repository, which holds the golden examples to compare responses with: add --model-repository"
        )
    check_url(url)
    tls.check(url)
    if timeout_s is None:
        timeout_s = rollout.TIMEOUT_S if namespace else TIMEOUT_S
    contents = _read_version(repository, name, version) if repository else None
    serves = f"{name}/{version}" + (f"@{contents[0].sha256}" if contents else "")
    settings = serving_profile.settings(repository, name, contents[0]) if repository and contents else {}
    if namespace:
        api = api_client.connect(context)
        rollout.check_model(api, namespace, name)
        rollout.check_replicas(api, namespace, rollout.CANARY, replicas)
        rollout.apply(api, namespace, rollout.CANARY, serves, f"{LABEL}: {serves}", replicas, settings)
    if repository:
        model_repository.set_label(repository, name, LABEL, version)
    if namespace:
        rollout.wait(api, namespace, rollout.CANARY, timeout_s)
        print(f"{namespace}/{rollout.CANARY} serves {serves}, with {serving_profile.describe(settings)}", flush=True)
    elif settings:
        print(
            f"note: {name}/{version} has a serving profile, {serving_profile.describe(settings)}; the server at {url} "
            "runs with the settings that it was started with"
        )
    if not contents:
        print(
            f"note: the {LABEL} label was not updated, because no model repository was given, where the version's "
            "serving profile would be too; on a machine that mounts it, repeat this command with --model-repository DIR"
        )
    backend = settings.get(serving_profile.BACKEND, "") if namespace else ""
    return _verify_server(url, *contents, version, timeout_s, tls, backend) if contents and url else {}


def check_url(url: str) -> None:
    """Raises InvalidInput for a gRPC address."""
    if client_codecs.is_grpc(url):
        raise InvalidInput(
            f"{url}: a canary is deployed and tested over HTTP: give the server's http:// or https:// URL; a pipeline "
            "has the parameter grpc_url for its gRPC address"
        )


def _read_version(repository: Path, name: str, version: int) -> tuple[ArtifactMetadata, Golden]:
    folder = model_repository.existing(repository, name, version)
    metadata = artifact_metadata.check(folder, "version", at=model_repository.METADATA_FILE)
    return metadata, golden.read(folder / model_repository.EXTRA / golden.GOLDEN)


def _verify_server(
    url: str, metadata: ArtifactMetadata, examples: Golden, version: int, timeout_s: float, tls: ClientTls, backend: str
) -> dict[str, float]:
    url = url.rstrip("/")
    wait(url, metadata.name, version, timeout_s, tls)
    print(f"{metadata.name}/{version} is available at {url} as {LABEL}", flush=True)
    differences = {
        protocol.title: _max_difference(url, protocol, metadata, version, examples, timeout_s, tls, backend)
        for protocol in PROTOCOLS
    }
    for title, difference in differences.items():
        print(f"golden examples over {title}: match {metadata.reference}, max |Δ| {difference:.2g}")
    return differences


# ---- waiting


def wait(url: str, name: str, version: int, timeout_s: float, tls: ClientTls = DEFAULT_TLS) -> None:
    """Returns once the server reports the version AVAILABLE; raises as `deploy` does."""
    deadline = time.monotonic() + timeout_s
    while True:
        state = _state(url, name, version, max(1.0, deadline - time.monotonic()), tls)
        if state == "AVAILABLE":
            return
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{url} does not serve {name}/{version} after {timeout_s:g} s: {state}; "
                "does it serve this model repository? If loading takes longer, raise --timeout"
            )
        time.sleep(POLL_INTERVAL_S)


def _state(url: str, name: str, version: int, timeout_s: float, tls: ClientTls) -> str:
    """Returns the version's state, or why the server does not report one yet. Raises if waiting cannot help."""
    address = f"{url}/v1/models/{name}/versions/{version}"
    try:
        status, body, _ = _send(address, None, {}, timeout_s, tls)
    except Unavailable as error:
        return str(error)
    if status >= 500:
        return f"it responds with {status} {_error_text(body)}"
    try:
        states = tfserving.read_status(body)
    except InvalidInput:
        if status == 404 and isinstance(_parse_json(body), dict):
            return _error_text(body)  # a model server that has not seen the version yet
        raise Unavailable(
            f"{address} responds with {status} {_error_text(body)!r}: something other than a model server listens "
            "there; stop it or use another port"
        ) from None
    for reported in states:
        if reported.version == version:
            if reported.state == "END" and reported.error:
                raise Refused(f"the server could not load {name}/{version}: {reported.error}")
            return reported.state
    return "not listed yet"


# ---- the smoke test


def _max_difference(
    url: str,
    protocol: client_codecs.Protocol,
    metadata: ArtifactMetadata,
    version: int,
    examples: Golden,
    timeout_s: float,
    tls: ClientTls,
    backend: str,
) -> float:
    """The largest distance from the golden outputs, of all that the protocol can carry, over all calls. `backend`: the
    engine that must respond, "" for any."""
    address, title = url + protocol.path(metadata.name, version), protocol.title
    names = protocol.carried({t.name: t.dtype for t in interface.default_outputs(metadata.outputs)})
    largest = 0.0
    for call in examples.whole():
        inputs = {tensor.name: call.inputs[tensor.name] for tensor in metadata.inputs}
        request = protocol.write(inputs, names, whole=call.inputs is not examples.inputs)
        status, content, response_headers = _send(address, *request, timeout_s, tls)
        if status != 200:
            raise Refused(f"{address}: golden examples got {status} {_error_text(content)!r} over {title}")
        served_by = response_headers.get(client_codecs.SERVED_BY)
        if served_by != f"{metadata.name}/{version}@{metadata.sha256}":
            raise Refused(
                f"{address}: {served_by or 'an unnamed model'} responded over {title} instead of "
                f"{metadata.name}/{version}@{metadata.sha256}; does the server use another model repository?"
            )
        if backend and (other := response_headers.get(client_codecs.BACKEND)) != backend:
            raise Refused(
                f"{address}: {other or 'an unnamed engine'} responded over {title} instead of {backend}, which the "
                "canary's pod template names; is this the canary's address, and does its image have that engine?"
            )
        try:
            outputs = protocol.read(content, response_headers, names)
        except InvalidInput as error:
            raise Refused(f"{address}: golden examples got no {title} response: {error}") from None
        for name in names:
            if name not in outputs:
                raise Refused(f"{address}: golden examples got a {title} response without the output {name!r}")
            array = client_codecs.restore_shape(outputs[name], call.outputs[name])
            compared = golden.compare(array, call.outputs[name], metadata.tolerances[name])
            if compared.wrong:
                raise Refused(
                    f"{address}: {compared.wrong} of {compared.rows} golden examples get responses over {title} whose "
                    f"output {name!r} differs from {metadata.reference}'s (max |Δ| {compared.max_abs:.3g}); "
                    f"{metadata.name}/{version} must not be promoted"
                )
            largest = max(largest, compared.max_abs)
    return largest


def _send(
    address: str, body: bytes | None, headers: dict[str, str], timeout_s: float, tls: ClientTls
) -> tuple[int, bytes, email.message.Message]:
    """Returns (status, body, headers) of a GET, or of a POST if `body` is given. Raises Unavailable, InvalidInput."""
    try:
        request = urllib.request.Request(address, body, headers)
    except ValueError:
        raise InvalidInput(f"{address}: not a URL; give the server's, e.g. http://127.0.0.1:8501") from None
    try:
        context = tls.ssl_context() if is_tls(address) else None
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers
    except (OSError, http.client.HTTPException) as error:
        reason = str(error.reason if isinstance(error, urllib.error.URLError) else error) or type(error).__name__
        if is_tls(address) and (advice := tls.advice(reason)):
            kind = Unavailable if is_closed(reason) else InvalidInput  # closed, perhaps by a server that restarts
            raise kind(f"{address}: {advice}") from None
        raise Unavailable(f"nothing responds at {address} ({reason})") from None


def _parse_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _error_text(body: bytes) -> str:
    """Returns the error that a JSON body reports, else the start of the body."""
    parsed = _parse_json(body)
    message = parsed.get("error") if isinstance(parsed, dict) else None
    return str(message or body.decode("utf-8", "replace")).strip()[:_MAX_SHOWN_CHARS]
