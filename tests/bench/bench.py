"""What the training thread pays, as ratios against something measured in the same run.

Real daemon, real client. Not measured here yet: grpcio, wandb and prometheus_client as peers, ingest, many ranks.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hookbus

ROOT = Path(__file__).resolve().parents[2]
DAEMON = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "hookbusd"


class Daemon:
    """A private daemon with this TOML."""

    def __init__(self, toml: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hb")
        folder = Path(self.folder.name)
        (folder / "c.toml").write_text(toml)
        ready = folder / "ready"
        self.address = f"unix://{folder}/d.sock"
        flags = ["--config", folder / "c.toml", "--socket", folder / "d.sock", "--ready-file", ready]
        self.process = subprocess.Popen([DAEMON, *map(str, flags), "--log-level", "error"])
        deadline = time.monotonic() + 30
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: {DAEMON} did not become ready")
            time.sleep(0.005)

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def median_ns(work: Callable[[int], None], count: int, blocks: int = 9) -> float:
    """Nanoseconds a call: the median of several blocks."""
    work(count)
    times = []
    for _ in range(blocks):
        start = time.perf_counter_ns()
        work(count)
        times.append((time.perf_counter_ns() - start) / count)
    return statistics.median(times)


def plain(point: str, **fields: float) -> None:
    """The call that an emit is compared with: same signature, same call form."""


def loops(call: Callable[..., None]) -> dict[str, Callable[[int], None]]:
    def two(count: int) -> None:
        for _ in range(count):
            call("after_train_iter", loss=0.5, lr=0.1)

    def eight(count: int) -> None:
        for _ in range(count):
            call("after_train_iter", loss=0.5, lr=0.1, a=1.0, b=2.0, c=3.0, d=4.0, e=5.0, f=6.0)

    def bare(count: int) -> None:
        for _ in range(count):
            call("after_val_iter")

    return {"2": two, "8": eight, "0": bare}


def row(what: str, measured: str, ratio: float, target: float) -> None:
    print(f"{what:<46}{measured:>22}{ratio:>9.2f} x{target:>9.2f} x  {'met' if ratio <= target else 'MISSED'}")


def emits() -> None:
    daemon = Daemon("")
    peers = loops(plain)
    with hookbus.attach("bench", address=daemon.address) as bus:
        ours = loops(bus.event)
        for fields, target in (("2", 4.0), ("8", 7.0)):
            # fewer events than the buffer holds in a block, so that what is measured is the emit
            a, b = median_ns(ours[fields], 20_000), median_ns(peers[fields], 20_000)
            row(f"emit, {fields} metrics / a plain call", f"{a:.0f} / {b:.0f} ns", a / b, target)
        bus.status()
    print(f"{'daemon, resident, after that':<46}{daemon.resident_mib():>18.1f} MiB     target when idle: 8 MB")
    daemon.stop()
    daemon = Daemon("[record]\nenabled = false\n")
    with hookbus.attach("bench", address=daemon.address) as bus:
        a, b = median_ns(loops(bus.event)["0"], 200_000), median_ns(peers["0"], 200_000)
        row("an event that nobody wants / a plain call", f"{a:.0f} / {b:.0f} ns", a / b, 1.3)
    print(f"{'daemon, resident, idle':<46}{daemon.resident_mib():>18.1f} MiB     target: 8 MB")
    daemon.stop()


def one_ms_loop() -> None:
    def work(until_ns: int) -> None:
        while time.thread_time_ns() < until_ns:
            pass

    def loop(event: Callable[..., None] | None, iterations: int) -> float:
        start = time.perf_counter()
        for _ in range(iterations):
            work(time.thread_time_ns() + 1_000_000)
            if event is not None:
                for _ in range(10):
                    event("after_train_iter", loss=0.5, lr=0.1)
        return time.perf_counter() - start

    daemon = Daemon("")
    with hookbus.attach("bench", address=daemon.address) as bus:
        pairs = [(loop(bus.event, 500), loop(None, 500)) for _ in range(7)]
    daemon.stop()
    ratio = statistics.median(a / b for a, b in pairs)
    row("1 ms iteration with 10 events / without", f"{pairs[0][0]:.3f} / {pairs[0][1]:.3f} s", ratio, 1.02)


def gate() -> None:
    # the peer runs in a process of its own, on another core
    code = "import socket,sys\ns=socket.socket(fileno=int(sys.argv[1]))\nwhile d:=s.recv(64): s.sendall(d)"
    raw, far = socket.socketpair()
    peer = subprocess.Popen([sys.executable, "-c", code, str(far.fileno())], pass_fds=[far.fileno()])

    def ping(count: int) -> None:
        for _ in range(count):
            raw.sendall(b"x" * 60)
            raw.recv(64)

    toml = '[limits]\nstall_budget = 0.0\n[[hooks]]\ntype = "CheckInvalidLossHook"\ninterval = 1\npolicy = "observe"\n'
    daemon = Daemon(toml)
    with hookbus.attach("bench", address=daemon.address) as bus:
        nan = float("nan")

        def ask(count: int) -> None:
            for _ in range(count):
                bus.event("after_train_iter", loss=nan)

        bus.event("before_train")
        a, b = median_ns(ask, 500), median_ns(ping, 500)
        timeouts = bus.status()["gate_timeouts"]
    daemon.stop()
    peer.kill()
    peer.wait()
    row("gate / raw socket ping-pong", f"{a / 1000:.0f} / {b / 1000:.0f} us", a / b, 2.0)
    if timeouts:
        print(f"  {timeouts} gates timed out: the figure is none")


if __name__ == "__main__":
    print(f"{'what':<46}{'measured':>22}{'ratio':>11}{'target':>11}")
    emits()
    one_ms_loop()
    gate()
