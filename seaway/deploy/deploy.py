"""Puts a published version in front of a running server as `canary`, waits until it is AVAILABLE, and smokes it.

The smoke test sends the version's golden examples over each protocol and compares every answer with PyTorch's.
"""

import email.message
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from seaway.artifacts import card as cards
from seaway.artifacts import golden, store
from seaway.artifacts.card import Card
from seaway.artifacts.golden import Golden
from seaway.errors import InvalidInput, Refused, Unavailable
from seaway.kube import kube, rollout
from seaway.protocols import tfserving, wire

LABEL = "canary"
SECONDS = 60.0  # to wait for a server that follows the volume
POLL_SECONDS = 0.2
PROTOCOLS = (wire.TFS, wire.GRAPHPIPE, wire.OIP, wire.OIP_BINARY)
_SHOWN = 200  # characters of a stranger's answer


def deploy(
    url: str,
    volume: Path | None,
    name: str,
    version: int,
    timeout: float | None = None,
    namespace: str = "",
    replicas: int = 1,
    context: str = "",
) -> dict[str, float]:
    """Returns protocol → largest |Δ| from PyTorch over the golden examples.

    With a `namespace` the version is rolled out there (of the cluster that kubectl's `context` means), to `replicas` of
    the Deployment of canaries, before which `url` is; without it the server at `url` follows the volume. On a cluster
    nothing is asked where `url` is "", and a `volume` that is not here, None, is not changed, as is said.

    Raises NotFound for a version that the volume does not hold, Unavailable where the server does not come to serve it
    within `timeout` seconds (60, on a cluster 300) or something else listens there, Refused where it will not load or
    does not answer as PyTorch did, or where so many replicas cannot mount the volume.
    """
    if not volume and (url or not namespace):
        raise InvalidInput("the volume is missing: the golden examples to compare answers with are there; add --volume")
    timeout = (rollout.SECONDS if namespace else SECONDS) if timeout is None else timeout
    found = _read(volume, name, version) if volume else None
    serves = f"{name}/{version}" + (f"@{found[0].sha256}" if found else "")
    if namespace:
        api = kube.connect(context)
        rollout.check_replicas(api, namespace, rollout.CANARY, replicas)
        rollout.apply(api, namespace, rollout.CANARY, serves, f"{LABEL}: {serves}", replicas)
    if volume:
        store.set_label(volume, name, LABEL, version)
    if namespace:
        rollout.wait(api, namespace, rollout.CANARY, timeout)
        print(f"{namespace}/{rollout.CANARY} serves {serves}", flush=True)
    if not found:
        print(
            f"the label {LABEL} in the model volume was not changed and the digest is not known, since the volume was "
            "not given; where it is mounted, the same command with --volume DIR does both"
        )
    return _serves(url, *found, version, timeout) if found and url else {}


def _read(volume: Path, name: str, version: int) -> tuple[Card, Golden]:
    folder = store.existing(volume, name, version)
    return cards.check(folder, "version", at=store.CARD), golden.read(folder / store.EXTRA / golden.GOLDEN)


def _serves(url: str, card: Card, examples: Golden, version: int, timeout: float) -> dict[str, float]:
    url = url.rstrip("/")
    wait(url, card.name, version, timeout)
    print(f"{card.name}/{version} is AVAILABLE at {url}, as {LABEL}", flush=True)
    worst = {one.title: _ask(url, one, card, version, examples, timeout) for one in PROTOCOLS}
    for protocol, distance in worst.items():
        print(f"golden examples over {protocol}: as PyTorch, max |Δ| {distance:.2g}")
    return worst


# ---- waiting


def wait(url: str, name: str, version: int, timeout: float) -> None:
    """Returns once the server says that the version is AVAILABLE; see `deploy` for what it raises."""
    deadline = time.monotonic() + timeout
    while True:
        seen = _state(url, name, version, max(1.0, deadline - time.monotonic()))
        if seen == "AVAILABLE":
            return
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{url} does not serve {name}/{version} after {timeout:g} s: {seen}; "
                "does it serve this volume? if loading takes longer, raise --timeout"
            )
        time.sleep(POLL_SECONDS)


def _state(url: str, name: str, version: int, timeout: float) -> str:
    """AVAILABLE, or in words why not yet. Raises where waiting cannot help."""
    address = f"{url}/v1/models/{name}/versions/{version}"
    try:
        status, answer, _ = _send(address, None, {}, timeout)
    except Unavailable as error:
        return str(error)
    if status >= 500:
        return f"it answers {status} {_shown(answer)}"
    try:
        found = tfserving.read_status(answer)
    except InvalidInput:
        if status == 404 and isinstance(_json(answer), dict):
            return _shown(answer)  # a model server that has not seen the version yet
        raise Unavailable(
            f"{address} answers {status} {_shown(answer)!r}: something else than a model server listens there; "
            "end it or choose another port"
        ) from None
    for one in found:
        if one.version == version:
            if one.state == "END" and one.error:
                raise Refused(f"the server could not load {name}/{version}: {one.error}")
            return one.state
    return "not listed yet"


# ---- the smoke test


def _ask(url: str, one: wire.Protocol, card: Card, version: int, examples: Golden, timeout: float) -> float:
    address, protocol = url + one.path(card.name, version), one.title
    output = card.outputs[0].name
    body, headers = one.write({tensor.name: examples.inputs[tensor.name] for tensor in card.inputs}, output)
    status, answer, told = _send(address, body, headers, timeout)
    if status != 200:
        raise Refused(f"{address}: golden examples got {status} {_shown(answer)!r} over {protocol}")
    served_by = told.get(wire.SERVED_BY)
    if served_by != f"{card.name}/{version}@{card.sha256}":
        raise Refused(
            f"{address}: {served_by or 'an unnamed model'} answered over {protocol} instead of "
            f"{card.name}/{version}@{card.sha256}; does the server serve another volume?"
        )
    try:
        got = one.read(answer, told, output)
    except InvalidInput as error:
        raise Refused(f"{address}: golden examples got no {protocol} answer: {error}") from None
    compared = golden.compare(got, examples.outputs[output], card.tolerances[output])
    if compared.wrong:
        raise Refused(
            f"{address}: {compared.wrong} of {compared.rows} golden examples are answered over {protocol} otherwise "
            f"than by PyTorch (max |Δ| {compared.max_abs:.3g}); {card.name}/{version} must not be promoted"
        )
    return compared.max_abs


def _send(
    address: str, body: bytes | None, headers: dict[str, str], timeout: float
) -> tuple[int, bytes, email.message.Message]:
    """(status, body, headers) of a GET, or of a POST where there is a body. Raises Unavailable, InvalidInput."""
    try:
        request = urllib.request.Request(address, body, headers)
    except ValueError:
        raise InvalidInput(f"{address}: not an address; give the server's like http://127.0.0.1:8501") from None
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise Unavailable(f"nobody answers at {address} ({reason})") from None


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _shown(body: bytes) -> str:
    found = _json(body)
    message = found.get("error") if isinstance(found, dict) else None
    return str(message or body.decode("utf-8", "replace")).strip()[:_SHOWN]
