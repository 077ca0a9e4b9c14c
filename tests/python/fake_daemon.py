"""The daemon's side of hookbus.v1.Providers over plain grpcio, step by step as a test wants it."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from conftest import PATIENCE_S, ROOT
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    (ROOT / "proto/src/generated/hookbus.v1.bin").read_bytes()
).file:
    POOL.Add(_file)


def message(kind: str, **fields: Any) -> Any:
    """A message of hookbus.v1 by its name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"hookbus.v1.{kind}"))(**fields)


class Connection:
    """One stream of a provider's."""

    def __init__(self) -> None:
        self.heard: queue.Queue[Any] = queue.Queue()
        self.to_say: queue.Queue[Any] = queue.Queue()
        self.ended = False

    def say(self, **frame: Any) -> None:
        self.to_say.put(message("DaemonFrame", **frame))

    def end(self) -> None:
        """Ends the stream."""
        self.to_say.put(None)

    def hears(self, kind: str) -> Any:
        """The next frame, which is of this kind."""
        frame = self.heard.get(timeout=PATIENCE_S)
        assert frame is not None, "the provider has gone"
        assert frame.WhichOneof("frame") == kind, frame
        return getattr(frame, kind)

    def answers(self, count: int) -> list[Any]:
        """So many answers, in their order."""
        found: list[Any] = []
        while len(found) < count:
            found += self.hears("answers").answers
        assert len(found) == count
        return found


class FakeDaemon:
    """Listens on a socket; each stream is a `Connection`."""

    def __init__(self, socket: Path) -> None:
        self.address = f"unix://{socket}"
        self.connections: queue.Queue[Connection] = queue.Queue()
        self.server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=lambda data: message("ProviderFrame").FromString(data),
            response_serializer=lambda frame: frame.SerializeToString(),
        )
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("hookbus.v1.Providers", {"Serve": handler}),)
        )
        self.server.add_insecure_port(self.address)
        self.server.start()

    def _serve(self, frames: Any, context: grpc.ServicerContext) -> Any:
        connection = Connection()
        if not context.add_callback(connection.end):  # however it ends: a worker that waited on would keep this process
            return

        def hear() -> None:
            try:
                for frame in frames:
                    connection.heard.put(frame)
            except grpc.RpcError:
                pass
            connection.heard.put(None)

        ThreadPoolExecutor(1).submit(hear)
        self.connections.put(connection)
        while (frame := connection.to_say.get()) is not None:
            if isinstance(frame, tuple):
                context.abort(*frame)
            yield frame

    def connection(self, *hooks: Any, module: str = "my_hooks") -> Connection:
        """The next provider, introduced and with an assignment."""
        connection = self.connections.get(timeout=PATIENCE_S)
        assert connection.hears("introduction").module == module
        connection.say(assignment=message("Assignment", hooks=hooks))
        return connection

    def stop(self) -> None:
        self.server.stop(0).wait()


def hook(type: str, name: str = "", **args: int) -> Any:
    """A request of the daemon's configuration."""
    values = {key: message("Value", integer=value) for key, value in args.items()}
    return message("HookRequest", type=type, name=name, args=values)


def opened(run: int = 1, **more: Any) -> Any:
    return message("RunOpened", run=run, name="digits", run_id="digits@1", world_size=1, **more)


def call(id: int, run: int = 1, hook: str = "Own", point: str = "after_train_iter", iter: int = 0, **more: Any) -> Any:
    at = message("Position", iter=iter, inner_iter=iter)
    return message("Call", id=id, run=run, hook=hook, point=point, at=at, deadline_ms=50, **more)
