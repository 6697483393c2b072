"""gRPC servers that return the same bytes to every call: what grpcio itself costs, without a model.

    python -m benchmarks.serving.constant_server {threads,aio} RESPONSE.bin

`threads`: grpc.server with a pool of threads; `aio`: grpc.aio on uvloop. Prints its port.
"""

import argparse
import asyncio
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import uvloop

THREADS = 8
ADDRESS = "127.0.0.1:0"
OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """One handler for every method; messages are bytes on both sides."""

    def __init__(self, respond: Callable[[bytes, Any], Any]) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(respond)

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        return self._handler


def serve_threads(content: bytes) -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers((_Handlers(lambda request, context: content),))
    print(server.add_insecure_port(ADDRESS), flush=True)
    server.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    server.stop(None).wait()


async def serve_aio(content: bytes) -> None:
    async def respond(request: bytes, context: Any) -> bytes:
        return content

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((_Handlers(respond),))
    print(server.add_insecure_port(ADDRESS), flush=True)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.serving.constant_server")
    parser.add_argument("kind", choices=["threads", "aio"])
    parser.add_argument("response", type=Path)
    arguments = parser.parse_args()
    content = arguments.response.read_bytes()
    if arguments.kind == "threads":
        serve_threads(content)
    else:
        uvloop.run(serve_aio(content))


if __name__ == "__main__":
    main()
