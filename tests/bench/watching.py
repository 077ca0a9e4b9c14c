"""What looking costs: the probes of memory, and many ranks with viewers attached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import gates
import journal
from hookbusd import BINARY, Daemon
from measure import info, not_measured, row

OPERATOR = BINARY.with_name("hookbus")
RANKS = BINARY.parent / "examples" / "ranks"
BARE = BINARY.parent / "examples" / "bare"
CHILDREN = 8
SAMPLED_S = 20.0
BARE_S = 10.0
VIEWERS = 8
# ranks, and iterations a second of each, with ten events and a gate in each: of 64 ranks 6,400 events and 640 gates a
# second; and flat out, in which the ranks take all that is left of the machine
LOADS = ((64, 10.0), (512, 2.0), (64, 0.0), (512, 0.0))
LOADED_S = 8.0
# forks children that do nothing, says so, and waits
PARENT = f"""
import hookbus, multiprocessing, sys
fork = multiprocessing.get_context("fork")
stop = fork.Event()
for _ in range({CHILDREN}):
    fork.Process(target=stop.wait, daemon=True).start()
with hookbus.attach("bench", address=sys.argv[1]) as bus:
    bus.event("before_train")
    print("ready", flush=True)
    input()
stop.set()
"""


def ask(daemon: Daemon, *words: str) -> dict:
    done = subprocess.run([OPERATOR, "--address", daemon.address, *words, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


@contextmanager
def trainer(daemon: Daemon) -> Iterator[None]:
    command = [sys.executable, "-c", PARENT, daemon.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("bench: the trainer with its children did not begin")
        yield
        process.stdin.write("\n")
        process.stdin.close()


def bare() -> float | None:
    """Microseconds a wake of a loop that only reads the two files of the fast probes: what nobody can be below here."""
    if not BARE.exists():
        not_measured("a bare loop", f"{BARE} is not built: make bench builds it")
        return None
    command = [BARE, str(os.getpid()), str(BARE_S)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def each_us(before: dict[str, dict], after: dict[str, dict], name: str) -> float:
    """Processor time of one look of a probe: where the machine is busy it has looked less often than it should have."""

    def more(what: str) -> float:
        return after[name][what] - before.get(name, {}).get(what, 0)

    return more("cpu_s") / max(more("reads"), 1) * 1e6


def probes() -> None:
    """Processor time of each probe beside a trainer with eight children, as the sampler counts it on its own thread.

    Most of what the fast ones cost is the machine's: a wake, with caches gone cold since the last. So a loop is
    measured before and after that has that too, and does nothing else.
    """
    least = [bare()]
    with Daemon() as daemon, trainer(daemon):
        before = {probe["name"]: probe for probe in ask(daemon, "memory", "bench")["probes"]}
        start, whole = time.perf_counter(), daemon.cpu_seconds()
        time.sleep(SAMPLED_S)
        after = {probe["name"]: probe for probe in ask(daemon, "memory", "bench")["probes"]}
        lasted, whole = time.perf_counter() - start, daemon.cpu_seconds() - whole
    least.append(bare())
    share = {
        name: (probe["cpu_s"] - before.get(name, {}).get("cpu_s", 0.0)) / lasted * 100 for name, probe in after.items()
    }
    if not share:
        not_measured("probes", "the daemon tells of none")
        return
    fast = sum(share.get(name, 0.0) for name in ("host", "process", "children"))
    text = f"{fast:.4f} % of a core"
    row(f"host and main process at 10 Hz, {CHILDREN} children at 1 Hz", text, fast, 0.05, "%")
    loop = sum(each for each in least if each is not None) / 2
    if loop:
        ours = sum(each_us(before, after, name) for name in ("host", "process"))
        row("  host and main process / a bare loop", f"{ours:.0f} / {loop:.0f} us a wake", ours / loop, 1.25)
    for name in sorted(share):
        if name not in ("host", "process", "children"):
            row(f"  {name}, beside its budget", f"{share[name]:.4f} %", share[name], after[name]["budget_percent"], "%")
    info("  the whole daemon meanwhile", f"{whole / lasted * 100:.2f} % of a core")


@contextmanager
def scraped(daemon: Daemon) -> Iterator[None]:
    """Somebody asks for /metrics once a second."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1.0):
            journal.metric(daemon, 'hookbus_sampler_reads_total{probe="host"}')

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        yield
    finally:
        over.set()
        scraper.join()


def busy_seconds() -> float:
    """Processor time of all that runs on this machine, its idle time not counted."""
    with open("/proc/stat") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def many(ranks: int, viewers: int, rate: float) -> None:
    """Gates of ranks, so many iterations a second each, while viewers watch all of them at 10 Hz and /metrics is read
    each second. Rate 0: as fast as they can, which leaves the machine no core."""
    if not RANKS.exists():
        not_measured(f"{ranks} ranks", f"{RANKS} is not built: make bench builds it")
        return
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(gates.TOML))
        idle = daemon.resident_bytes()
        command = [RANKS, daemon.address, str(ranks), str(rate), str(LOADED_S)]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            not_measured(f"{ranks} ranks", "they did not attach")
            return
        watching = []
        for _ in range(viewers):
            # who looks sits elsewhere: what its own processor time costs the gates is not the daemon's doing
            asked = [OPERATOR, "--address", daemon.address, "memory", "ranks", "--watch", "0.1", "--json"]
            watch = ["nice", "-n", "19", *asked]
            watching.append(stack.enter_context(subprocess.Popen(watch, stdout=subprocess.PIPE)))
        for watch in watching:
            assert watch.stdout is not None
            watch.stdout.readline()
            # what they print is nobody's; a full pipe would only make them slow viewers
            stack.enter_context(subprocess.Popen(["cat"], stdin=watch.stdout, stdout=subprocess.DEVNULL))
            watch.stdout.close()
        if viewers:
            stack.enter_context(scraped(daemon))
        resident = daemon.resident_bytes()
        start, daemons, all_of_it = time.perf_counter(), daemon.cpu_seconds(), busy_seconds()
        process.stdin.write("\n")
        process.stdin.flush()
        measured = json.loads(process.stdout.readline())
        lasted = time.perf_counter() - start
        daemons, all_of_it = daemon.cpu_seconds() - daemons, busy_seconds() - all_of_it
        loaded = daemon.resident_bytes()
        for watch in watching:
            watch.terminate()
    how = f"{rate:g} it/s" if rate else "flat out"
    what = f"{ranks} ranks, {how}, {viewers} viewers: gate p99 / median"
    if measured["timeouts"] or not measured["gates"]:
        not_measured(what, f"{measured['timeouts']} of {measured['gates']} gates had no answer in time")
    else:
        median, p99 = measured["median_us"], measured["p99_us"]
        text = f"{p99:.0f} / {median:.0f} us"
        if rate:
            row(what, text, p99 / median, 3.0)
        else:
            info(what, f"{text}, {p99 / median:.1f}x")
    info("  the load", f"{measured['events_per_s']:.0f} events/s, {measured['gates']} gates in {LOADED_S:g} s")
    shares = [seconds / lasted for seconds in (daemons, measured["cpu_s"], all_of_it)]
    info(f"  cores: daemon, ranks, all of it, of {os.cpu_count()}", " / ".join(f"{share:.2f}" for share in shares))
    sizes = f"{loaded / 1e6:.1f} / {resident / 1e6:.1f} / {idle / 1e6:.1f} MB"
    info("  daemon, resident: loaded / attached / idle", sizes)
    each = [(size - idle) / ranks / 1e3 for size in (loaded, resident)]
    info("  resident, each rank: loaded / attached", f"{each[0]:.0f} / {each[1]:.0f} KB")


def rows() -> None:
    probes()
    for ranks, rate in LOADS:
        many(ranks, 0, rate)
        many(ranks, VIEWERS, rate)
