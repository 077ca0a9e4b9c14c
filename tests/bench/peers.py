"""The peers beside an emit: what people log with instead. Each that is not installed says so."""

from __future__ import annotations

import logging
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from hookbusd import Daemon
from measure import Work, compare, info, loops, not_measured, one_ms_loop, settle

import hookbus

PACK = struct.Struct("<BQdd").pack  # a point, an iteration and two metrics: less than any schema would send


class GrpcPeer:
    """A grpcio server in a process of its own, over a Unix socket, and a client of it; a context manager."""

    def __init__(self) -> None:
        import grpc

        self._folder = tempfile.TemporaryDirectory(prefix="hb")
        address = f"unix:{self._folder.name}/g.sock"
        server = [sys.executable, str(Path(__file__).with_name("grpc_echo.py")), address]
        self._process = subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._process.stdout is None or self._process.stdout.readline() != b"ready\n":
            self._process.kill()
            self._process.communicate()
            raise RuntimeError("the grpcio server did not start")
        self._channel = grpc.insecure_channel(address)
        self._queues: list[queue.SimpleQueue[object]] = []

    def _requests(self) -> tuple[queue.SimpleQueue[object], Iterator[object]]:
        """A queue and what drains it into a stream: an event in it is set when all before it is sent, None ends it."""
        waiting: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._queues.append(waiting)

        def drain() -> Iterator[object]:
            while (message := waiting.get()) is not None:
                if isinstance(message, threading.Event):
                    message.set()
                else:
                    yield message

        return waiting, drain()

    def ping(self, message: bytes) -> Work:
        """Ping-pong on one bidirectional stream."""
        waiting, requests = self._requests()
        answers = self._channel.stream_stream("/bench.Peer/Echo")(requests)

        def ping(count: int) -> None:
            for _ in range(count):
                waiting.put(message)
                next(answers)

        return ping

    def writer(self) -> tuple[Callable[..., None], Callable[[], None]]:
        """Something to call like an emit, which writes to a stream, and a wait until all is sent."""
        waiting, requests = self._requests()
        self._sunk = self._channel.stream_unary("/bench.Peer/Sink").future(requests)
        put, iteration = waiting.put, 0

        def event(point: str, *, loss: float, lr: float) -> None:
            nonlocal iteration
            iteration += 1
            put(PACK(1, iteration, loss, lr))

        def sent() -> None:
            mark = threading.Event()
            put(mark)
            if not mark.wait(30):
                raise RuntimeError("the stream did not take all messages within 30 s")

        return event, sent

    def __enter__(self) -> GrpcPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for waiting in self._queues:
            waiting.put(None)
        self._channel.close()
        self._process.communicate()  # its standard input ends, and so does it
        self._folder.cleanup()


def memory_line(logger: logging.Logger) -> float:
    """Nanoseconds of MMDetection's MemoryProfilerHook a line: its three calls and its log line."""
    from memory_profiler import memory_usage
    from psutil import swap_memory, virtual_memory

    def line(count: int) -> None:
        for _ in range(count):
            host, swap = virtual_memory(), swap_memory()
            process = memory_usage()[0]  # measures once and then sleeps 0.1 s
            logger.info(
                f"Memory information available_memory: {round(host.available / 2**20)} MB, "
                f"used_memory: {round(host.used / 2**20)} MB, memory_utilization: {host.percent} %, "
                f"available_swap_memory: {round((swap.total - swap.used) / 2**20)} MB, "
                f"used_swap_memory: {round(swap.used / 2**20)} MB, swap_memory_utilization: {swap.percent} %, "
                f"current_process_memory: {round(process)} MB"
            )

    return compare((line, 3), blocks=7)[0]


def rows() -> None:
    """Every peer, each beside an emit of 2 metrics in turns with it."""
    with Daemon() as daemon, hookbus.attach("bench", address=daemon.address) as bus:

        def beside(what: str, peer: Work, count: int, settled: Callable[[], object] = lambda: None) -> None:
            def between() -> None:
                settle(bus)
                settled()

            ours, theirs = compare((loops(bus.event)["2"], 20_000), (peer, count), between=between)
            info(f"{what} / emit of 2", f"{theirs:,.0f} / {ours:,.0f} ns", theirs / ours)

        for what, measure in (
            ("prometheus_client Gauge.set x2", _prometheus),
            ("grpcio stream write of 2", _grpcio),
            ("wandb offline run.log of 2", _wandb),
        ):
            try:
                measure(what, beside)
            except Exception as error:  # a peer that fails is a row that says so, not the end of the bench
                not_measured(what, error)


def _prometheus(what: str, beside: Callable[..., None]) -> None:
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    loss, lr = (Gauge(name, name, registry=registry) for name in ("loss", "lr"))

    def work(count: int) -> None:
        for _ in range(count):
            loss.set(0.5)
            lr.set(0.1)

    beside(what, work, 20_000)


def _grpcio(what: str, beside: Callable[..., None]) -> None:
    with GrpcPeer() as peer:
        event, sent = peer.writer()
        two = loops(event)["2"]
        beside(what + ", only queued", two, 2_000, sent)

        def until_sent(count: int) -> None:
            two(count)
            sent()  # grpcio's Python thread has the interpreter meanwhile, so the training thread pays for it

        beside(what + ", until sent", until_sent, 2_000)
        info("1 ms iteration with 10 grpcio writes / without", *one_ms_loop(event, sent), "x")


def _wandb(what: str, beside: Callable[..., None]) -> None:
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
            os.environ[f"WANDB_{name}"] = folder
        os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
        import wandb

        run = wandb.init(project="bench", mode="offline", settings=wandb.Settings(silent=True, console="off"))

        def work(count: int) -> None:
            for _ in range(count):
                run.log({"loss": 0.5, "lr": 0.1})

        try:
            beside(what, work, 500)
        finally:
            run.finish()
