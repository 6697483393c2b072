"""A load balancer of several replicas: each new connection goes to the next one, as behind a Kubernetes Service."""

import itertools
import select
import socket
import socketserver
import threading
from contextlib import contextmanager


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.create_connection(("127.0.0.1", next(self.server.ports))) as backend:
            other = {self.request: backend, backend: self.request}
            while True:
                for ready in select.select(list(other), [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    other[ready].sendall(data)


class _Balancer(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is normal


@contextmanager
def balancing(ports):
    """Yields the address of a balancer of the servers on these ports of 127.0.0.1."""
    with _Balancer(("127.0.0.1", 0), _Handler) as server:
        server.ports = itertools.cycle(ports)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)
