"""What a gate costs beside other ways to ask another process. `gates.py --core N`: all of it pinned to that core."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hookbusd import Daemon
from measure import Work, compare, not_measured, row
from peers import GrpcPeer

import hookbus

# the trainer asks at each NaN, and is told to go on
TOML = '[limits]\nstall_budget = 0.0\n[[hooks]]\ntype = "CheckInvalidLossHook"\ninterval = 1\npolicy = "observe"\n'
MESSAGE = b"x" * 60


@contextmanager
def raw_ping() -> Iterator[Work]:
    """Ping-pong with a process of its own over a socket pair, without a thread, a protocol or a check.

    Across two cores where there are two: left alone, the scheduler puts both ends on one core now and then, and the
    figure would be that of another thing.
    """
    cores = os.sched_getaffinity(0)
    here, there = {min(cores)}, {max(cores)}
    code = "import socket,sys\ns=socket.socket(fileno=int(sys.argv[1]))\nwhile d:=s.recv(64): s.sendall(d)"
    near, far = socket.socketpair()
    peer = subprocess.Popen([sys.executable, "-c", code, str(far.fileno())], pass_fds=[far.fileno()])
    os.sched_setaffinity(peer.pid, there)
    far.close()

    def ping(count: int) -> None:
        os.sched_setaffinity(0, here)
        for _ in range(count):
            near.sendall(MESSAGE)
            near.recv(64)
        os.sched_setaffinity(0, cores)

    try:
        yield ping
    finally:
        near.close()  # the peer reads the end and leaves
        peer.wait()


def against(peer: Work, count: int = 500) -> tuple[float, float, int]:
    """Nanoseconds of a gate and of the peer, and gates that timed out."""
    nan = float("nan")
    with Daemon(TOML) as daemon, hookbus.attach("bench", address=daemon.address) as bus:

        def ask(count: int) -> None:
            for _ in range(count):
                try:
                    bus.event("after_train_iter", loss=nan)
                except hookbus.TrainingStopped:
                    pass  # no answer within the deadline; it is counted

        bus.event("before_train")
        ours, theirs = compare((ask, count), (peer, count))
        return ours, theirs, bus.status()["gate_timeouts"]


def show(what: str, measured: tuple[float, float, int], target: float) -> None:
    ours, theirs, timeouts = measured
    if timeouts:
        not_measured(what, f"{timeouts} gates had no answer within their deadline; is the machine busy?")
    else:
        row(what, f"{ours / 1000:.0f} / {theirs / 1000:.0f} us", ours / theirs, target)


def raw() -> None:
    with raw_ping() as ping:
        show("gate / raw ping-pong across cores", against(ping), 2.0)


def one_core() -> None:
    """In a fresh process, so that its threads, the peer and the daemon all inherit the one core."""
    what = "gate / raw ping-pong, all on one core"
    core = max(os.sched_getaffinity(0))
    child = [sys.executable, __file__, "--core", str(core)]
    done = subprocess.run(child, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        not_measured(what, f"the pinned process ended with {done.returncode}")
    else:
        show(what, tuple(json.loads(done.stdout)), 4.0)


def grpcio() -> None:
    what = "gate / grpcio stream ping-pong"
    try:
        peer = GrpcPeer()
    except (ImportError, RuntimeError) as error:
        not_measured(what, error)
        return
    with peer:
        show(what, against(peer.ping(MESSAGE)), 0.33)


def _pinned(core: int) -> None:
    os.sched_setaffinity(0, {core})
    with raw_ping() as ping:
        print(json.dumps(against(ping)))


if __name__ == "__main__":
    _pinned(int(sys.argv[sys.argv.index("--core") + 1]))
