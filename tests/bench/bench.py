"""What a training pays for hookbus, as ratios against something measured in the same run, beside targets.

Real daemon, real client. The peers come last, because some leave threads behind. `bench.py emits gate`: only these.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import gates
import hooks
import journal
import peers
import steering
import watching
from hookbusd import ROOT, Daemon
from measure import compare, head, info, loops, no_drops, not_measured, one_ms_loop, plain, row, settle

import hookbus

TORCH_PYTHON = ROOT / ".venv-torch" / "bin" / "python"
MEMORY_LINE = "MemoryProfiler line"


def emits() -> None:
    theirs = loops(plain)
    with Daemon() as daemon, hookbus.attach("bench", address=daemon.address) as bus:
        ours = loops(bus.event)
        for fields, target in (("2", 4.0), ("8", 7.0)):
            # fewer events than the buffer holds in a block, so that what is measured is the emit
            a, b = compare((ours[fields], 20_000), (theirs[fields], 20_000), between=lambda: settle(bus))
            row(f"emit, {fields} metrics / a plain call", f"{a:.0f} / {b:.0f} ns", a / b, target)
        no_drops(bus)
    with Daemon("[record]\nenabled = false\n") as daemon, hookbus.attach("bench", address=daemon.address) as bus:
        a, b = compare((loops(bus.event)["0"], 200_000), (theirs["0"], 200_000))
        row("an event that nobody wants / a plain call", f"{a:.0f} / {b:.0f} ns", a / b, 1.3)


def loop() -> None:
    with Daemon() as daemon, hookbus.attach("bench", address=daemon.address) as bus:
        text, ratio = one_ms_loop(bus.event, lambda: settle(bus))
        row("1 ms iteration with 10 events / without", text, ratio, 1.02)
        no_drops(bus)


def memory_line() -> None:
    """What the training thread pays for one line: in the process as the original does it, and through the daemon."""
    logger = logging.getLogger("bench.memory")
    logger.propagate = False
    lines = _Counter()
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    hook = {"type": "MemoryProfilerHook", "interval": 1}
    with (
        # every event is one line here; without the daemon's own record, as only the hook is compared
        Daemon("[record]\nenabled = false\n") as daemon,
        hookbus.attach("bench", address=daemon.address, hooks=[hook], logger=logger) as bus,
    ):
        blocks = []
        for _ in range(10):
            spent = 0
            for _ in range(100):
                start = time.perf_counter_ns()
                bus.event("after_train_iter", loss=0.5)  # lines that have arrived are written to the log in here
                spent += time.perf_counter_ns() - start
                time.sleep(0.002)  # a training step; flat out no line would arrive between two events
            blocks.append(spent / 100)
        settle(bus)
        bus.event("after_train_iter", loss=0.5)
    ours, seen = statistics.median(blocks[1:]), lines.seen
    if not seen:
        not_measured(MEMORY_LINE, "the daemon wrote no line")
        return
    try:
        theirs = peers.memory_line(logger)
    except ImportError as error:
        info(MEMORY_LINE + " through the daemon", f"{ours / 1000:.1f} us")
        not_measured(MEMORY_LINE + " in the process", error)
        return
    text = f"{theirs / 1e6:.1f} ms / {ours / 1000:.1f} us"
    info(MEMORY_LINE + " in the process / ours, log incl.", text, theirs / ours)
    if seen < 900:
        print(f"  only {seen} of 1001 lines came back: the figure above is of less")


class _Counter(logging.Handler):
    """Formats each line and throws it away, as cheap as a log can be."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)
        self.seen += 1


def import_time() -> None:
    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    codes = ("import hookbus", "pass")
    seconds(codes[0])
    ours, bare = (statistics.median(each) for each in zip(*[map(seconds, codes) for _ in range(15)], strict=True))
    text = f"{ours * 1000:.1f} - {bare * 1000:.1f} ms"
    row("import hookbus: interpreter with it - without", text, (ours - bare) * 1000, 10.0, "ms")


def resident() -> None:
    sessions = 32
    with Daemon() as daemon:
        time.sleep(1)
        idle = daemon.resident_bytes()
        row("daemon, resident, idle for 1 s", f"{idle / 1e6:.2f} MB", idle / 1e6, 8.0, "MB")
        with ExitStack() as open_until_the_end:

            def attach(first: int, count: int) -> int:
                for number in range(first, first + count):
                    bus = hookbus.attach(f"bench{number}", address=daemon.address)
                    open_until_the_end.enter_context(bus)
                    loops(bus.event)["2"](100)
                    settle(bus)
                time.sleep(1)
                return daemon.resident_bytes()

            before = attach(0, 4)  # the first ones pay for what all share
            after = attach(4, sessions)
        each = (after - before) / sessions / 1000
        text = f"{before / 1e6:.2f} -> {after / 1e6:.2f} MB"
        row(f"daemon, resident, each of {sessions} runs of 100 events", text, each, 40.0, "KB")


def mmengine() -> None:
    """In the environment that has torch. Where that fails so does the bench: it is made by `make bench`."""
    script = Path(__file__).with_name("mmengine_loop.py")
    done = subprocess.run([TORCH_PYTHON, script], check=False)
    if done.returncode:
        raise SystemExit(f"bench: {script.name} ended with {done.returncode}")


SECTIONS: dict[str, Callable[[], None]] = {
    "emits": emits,
    "loop": loop,
    "gate": gates.raw,
    "one-core": gates.one_core,
    "schedule": steering.schedule,
    "order": steering.order,
    "import": import_time,
    "resident": resident,
    "journal": journal.rows,
    "memory": memory_line,
    "watching": watching.rows,
    "hooks": hooks.rows,
    "mmengine": mmengine,
    "grpcio-gate": gates.grpcio,
    "peers": peers.rows,
}


def main() -> None:
    asked = sys.argv[1:] or list(SECTIONS)
    unknown = [name for name in asked if name not in SECTIONS]
    if unknown:
        raise SystemExit(f"bench: no {', '.join(unknown)}; there are: {' '.join(SECTIONS)}")
    head()
    for name in asked:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
