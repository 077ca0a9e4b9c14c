"""The peer of the gate and of the stream: the least server that grpcio can be. `grpc_echo.py ADDRESS` says "ready"."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc


def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def sink(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    for _ in requests:
        pass
    return b""


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    methods = {  # no serializers: bytes as they are
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Sink": grpc.stream_unary_rpc_method_handler(sink),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Peer", methods),))
    server.add_insecure_port(sys.argv[1])
    server.start()
    print("ready", flush=True)
    sys.stdin.read()  # ends with who started it
    server.stop(None)


if __name__ == "__main__":
    main()
