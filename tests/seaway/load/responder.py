"""A tiny real model server for the toy model's versions, over every protocol, that misbehaves on request."""

import itertools
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import toy

from seaway.artifacts import artifact_metadata, interface, model_repository
from seaway.errors import SeawayError
from seaway.protocols import graphpipe, oip, tfserving
from seaway.protocols.calls import ModelVersionInfo, RawRequest, Signature

NAME = "toy"


class Responder(ThreadingHTTPServer):
    """`fault` happens to every `every`-th inference after the first, to its output `faulty`; `states`, `digests`
    override the repository's. `backend`: the engine that it names, if any."""

    daemon_threads = True

    def __init__(self, repository, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repository = repository
        self.fault, self.every, self.delay_s, self.pod = "", 1, 0.0, ""
        self.backend = ""
        self.faulty = "scores"
        self.states, self.digests = {}, {}
        self.counter, self.paths = itertools.count(), []
        self.versions = {}
        self.exchange = Exchange()

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is normal

    def version(self, number):
        """(version, metadata, weights) of one version, or of the newest."""
        number = number or model_repository.versions(self.repository, NAME)[-1]
        if number not in self.versions:
            folder = model_repository.path(self.repository, NAME, number)
            self.versions[number] = (
                artifact_metadata.read(folder, model_repository.METADATA_FILE),
                np.load(folder / "saved_model.pb"),
            )
        return number, *self.versions[number]


class Exchange:
    """Swaps the outputs of two concurrent requests; a request that is alone gets its own."""

    def __init__(self):
        self.lock, self.waiting = threading.Condition(), None

    def swap(self, output):
        with self.lock:
            if self.waiting is not None:
                (other, received), self.waiting = self.waiting, None
                received.append(output)
                self.lock.notify_all()
                return other
            received = []
            self.waiting = (output, received)
            if self.lock.wait_for(lambda: received, timeout=0.2):
                return received[0]
            self.waiting = None
            return output


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.paths.append(self.path)
        if self.path == "/":
            return self.send(200, b"<html>some other program</html>", "text/html")
        version = int(self.path.rpartition("/")[2])
        default = "AVAILABLE" if version in model_repository.versions(self.server.repository, NAME) else None
        state, error = self.server.states.get(version, (default, ""))
        if state is None:
            return self.send(404, tfserving.write_error(f"Could not find version {version} of model {NAME}"))
        return self.send(200, tfserving.write_status([tfserving.VersionStatus(version, state, error)]))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        number = next(self.server.counter)
        fault = self.server.fault if number and number % self.server.every == 0 else ""
        if self.server.delay_s:
            time.sleep(self.server.delay_s)  # a slow model, not a wait for readiness
        path, _, version = self.path.removesuffix(":predict").removesuffix("/infer").partition("/versions/")
        if path not in (f"/v1/models/{NAME}", f"/v2/models/{NAME}", f"/graphpipe/{NAME}"):
            return self.send(404, tfserving.write_error(f"Servable not found for request: {path}"))
        if fault == "error":
            return self.send(500, tfserving.write_error("the model ran out of luck"))
        if fault == "drop":
            self.close_connection = True
            return None
        try:
            version, metadata, weights = self.server.version(int(version or 0))
            content, headers = self.infer(body, metadata, weights, fault, path.split("/")[1])
        except SeawayError as error:
            return self.send(error.status, tfserving.write_error(str(error)))
        if fault == "garbage":
            content = b"[]"
        digest = self.server.digests.get(version, metadata.sha256)
        return self.send(200, content, "application/json", f"{NAME}/{version}@{digest}", headers)

    def infer(self, body, metadata, weights, fault, kind):
        """(body, headers) of the response; `kind` is the path's first part."""
        call = None
        default = interface.default_outputs(metadata.outputs)
        names = [tensor.name for tensor in default]
        model = ModelVersionInfo(NAME, 1, "", {"serving_default": Signature(metadata.inputs, default)})
        if kind == "v1":
            inputs, _ = tfserving.read_inputs(tfserving.read_predict(body), metadata.inputs)
        elif kind == "v2":
            request = RawRequest("infer", body, {key.lower(): value for key, value in self.headers.items()})
            call = oip.read(request, model)
            inputs = call.inputs
        else:
            request = graphpipe.read_request(body)
            inputs, names = dict(request.inputs), request.outputs or names
        outputs = toy.infer(weights, inputs, metadata.outputs[1].name)
        if fault == "swap":
            outputs["scores"] = self.server.exchange.swap(outputs["scores"])
        outputs[self.server.faulty] = FAULTS.get(fault, lambda s: s)(outputs[self.server.faulty])
        if call is not None:
            reply = oip.write(call, {name: outputs[name] for name in call.outputs or names}, model)
            return reply.body if isinstance(reply.body, bytes) else b"".join(reply.body), reply.headers
        if kind == "v1":
            return tfserving.write_predict({name: outputs[name] for name in names}, row=True), {}
        return graphpipe.write_infer_response([outputs[name] for name in names]), {}

    def send(self, status, body, content_type="application/json", served_by=None, headers=()):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if served_by:
            self.send_header("Seaway-Model", served_by)
            if self.server.backend:
                self.send_header("Seaway-Backend", self.server.backend)
        if self.server.pod:
            self.send_header("Seaway-Pod", self.server.pod)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


FAULTS = {
    "constant": lambda scores: np.full_like(scores, 1 / 3),
    "nan": lambda scores: scores * np.float32("nan"),
    "shape": lambda scores: scores[:, :2],
    "off": lambda scores: scores + np.float32(0.001),
    "permuted": lambda scores: scores[:, ::-1],
}


@contextmanager
def serving(repository, port=0):
    """Runs a Responder on a port of 127.0.0.1 (0: a free one) until the end of the block."""
    server = Responder(repository, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
