"""Toy servers that speak TLS, or gRPC."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import toy
from responder import NAME, serving

from seaway.artifacts import interface
from seaway.protocols import oip_grpc, tfs_grpc
from seaway.protocols.calls import ModelVersionInfo, RawRequest, Signature


def wrap(server, pair, client_ca=None, tls_1_2=False):
    """Makes an HTTP server speak TLS; with `client_ca` it requires a certificate of that CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if tls_1_2:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")


@contextmanager
def https(repository, pair, client_ca=None, tls_1_2=False):
    """The responder with TLS."""
    with serving(repository) as server:
        wrap(server, pair, client_ca, tls_1_2)
        yield server


@contextmanager
def grpcs(repository, pair, client_ca=None):
    """Serves the toy model's predictions over gRPC with TLS; yields the URL."""
    import grpc

    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.cert.read_bytes())],
        client_ca and client_ca.read_bytes(),
        require_client_auth=client_ca is not None,
    )
    with _over_grpc(repository, lambda server, address: server.add_secure_port(address, credentials)) as port:
        yield f"grpcs://127.0.0.1:{port}"


@contextmanager
def plain_grpc(repository):
    """The same without TLS."""
    with _over_grpc(repository, lambda server, address: server.add_insecure_port(address)) as port:
        yield f"grpc://127.0.0.1:{port}"


@contextmanager
def _over_grpc(repository, listen):
    import grpc

    server = grpc.server(ThreadPoolExecutor(4))
    with serving(repository) as responder:  # for its model
        server.add_generic_rpc_handlers((_handlers(responder),))
        port = listen(server, "127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait()


def _handlers(responder):
    import grpc

    def predict(codec, verb):
        def answer(body, context):
            version, metadata, weights = responder.version(0)
            default = interface.default_outputs(metadata.outputs)
            model = ModelVersionInfo(NAME, version, "", {"serving_default": Signature(metadata.inputs, default)})
            call = codec.read(RawRequest(verb, body, {}), model)
            outputs = toy.infer(weights, call.inputs, metadata.outputs[1].name)
            reply = codec.write(call, {tensor.name: outputs[tensor.name] for tensor in default}, model)
            context.set_trailing_metadata([("seaway-model", f"{NAME}/{version}@{metadata.sha256}")])
            return reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)

        return grpc.unary_unary_rpc_method_handler(answer)

    methods = {
        f"/{tfs_grpc.PREDICTION}/Predict": predict(tfs_grpc, "Predict"),
        f"/{oip_grpc.SERVICE}/ModelInfer": predict(oip_grpc, "ModelInfer"),
    }

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details):
            return methods.get(details.method)

    return Handlers()
