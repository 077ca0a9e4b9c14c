"""What the journal costs: events a CPU-second, bytes an event, commits, acknowledgement, and gates beside it."""

from __future__ import annotations

import http.client
import re
import socket
import statistics
import time
from collections import deque
from contextlib import closing
from pathlib import Path

import gates
from hookbusd import Daemon
from measure import info, loops, no_drops, row, settle

import hookbus

OFF = "[journal]\nenabled = false\n"


class _Unix(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("hookbusd")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def metric(daemon: Daemon, name: str) -> float:
    with closing(_Unix(daemon.address.removeprefix("unix://"))) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"bench: /metrics has no {name}")
    return float(found[1])


def written_bytes(daemon: Daemon) -> int:
    """Of all files of the state directory."""
    return sum(file.stat().st_size for file in Path(daemon.folder.name, "state").iterdir())


def ingest() -> None:
    """Events in a CPU-second of the whole daemon, its sampler included, while one trainer emits flat out."""
    for toml, what, target in (
        (OFF, "ingest, 2 metrics, decoded, a CPU-second", 1e6),
        ("", "ingest, 2 metrics, journaled, a CPU-second", 0.2e6),
    ):
        with Daemon(toml) as daemon, hookbus.attach("bench", address=daemon.address) as bus:
            two, count, rates, total = loops(bus.event)["2"], 100_000, [], 0
            two(count)
            settle(bus)
            total += count
            for _ in range(5):
                events, cpu, start = 0, daemon.cpu_seconds(), time.perf_counter()
                # long enough for the clock's ticks of 10 ms not to matter
                while time.perf_counter() < start + 2 or daemon.cpu_seconds() < cpu + 0.5:
                    two(count)
                    settle(bus)  # so that nothing is dropped
                    events += count
                rates.append((events / (daemon.cpu_seconds() - cpu), events / (time.perf_counter() - start)))
                total += events
            no_drops(bus)
            rate, wall = (statistics.median(each) for each in zip(*rates, strict=True))
            row(what, f"{wall:,.0f} /s of wall time", rate, target, "/s", True)
            info("  daemon, resident, after that", f"{daemon.resident_bytes() / 1e6:.2f} MB")
            if toml != OFF:
                commits = metric(daemon, "hookbus_journal_commits_total")
                mean = metric(daemon, "hookbus_journal_commit_seconds_total") / commits
                longest = metric(daemon, "hookbus_journal_commit_longest_seconds")
                info("  bytes an event with 2 metrics, in the file", f"{written_bytes(daemon) / total:.1f} bytes")
                text = f"{mean * 1000:.2f} / {longest * 1000:.1f} ms"
                info(f"  commits, {total / commits:,.0f} events each: mean / longest", text)


def training() -> None:
    """A loop of 2 ms iterations of ten events, one with two metrics: bytes, and how long an acknowledgement takes."""
    iterations, count, lags = 2000, 0, []
    with Daemon() as daemon, hookbus.attach("bench", address=daemon.address) as bus:
        waiting: deque[tuple[int, float]] = deque()
        for _ in range(iterations):
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            for _ in range(9):
                bus.event("before_train_iter")
            bus.event("after_train_iter", loss=0.5, lr=0.1)
            count += 10
            acked, now = bus.status()["acked"], time.perf_counter()
            while waiting and waiting[0][0] <= acked:
                lags.append(now - waiting.popleft()[1])
            waiting.append((count, now))
        settle(bus)
        no_drops(bus)
        text = f"{written_bytes(daemon) / count:.1f} bytes"
        info("a training, 10 events an iteration: in the file, each", text)
    lags.sort()
    median, worst = statistics.median(lags), lags[len(lags) * 99 // 100]
    row("  acknowledged, p99 (a commit each 100 ms)", f"median {median * 1000:.0f} ms", worst * 1000, 1000.0, "ms")


def gate() -> None:
    """No gate waits for a commit: 3,000 gates, each written down, some hundred commits among them."""

    def percentiles(toml: str) -> tuple[float, float]:
        times = []
        with Daemon(gates.TOML + toml) as daemon, hookbus.attach("bench", address=daemon.address) as bus:
            bus.event("before_train")
            for number in range(3300):
                start = time.perf_counter()
                bus.event("after_train_iter", loss=float("nan"))
                if number >= 300:
                    times.append(time.perf_counter() - start)
            settle(bus)
        times.sort()
        return statistics.median(times) * 1e6, times[len(times) * 99 // 100] * 1e6

    (median, p99), (bare_median, bare_p99) = percentiles(""), percentiles(OFF)
    row("gate, journaled: p99 / median", f"{p99:.0f} / {median:.0f} us", p99 / median, 3.0)
    row("gate, median: journaled / not", f"{median:.0f} / {bare_median:.0f} us", median / bare_median, 1.2)
    info("gate, not journaled: p99 / median", f"{bare_p99:.0f} / {bare_median:.0f} us")


def rows() -> None:
    ingest()
    training()
    gate()
