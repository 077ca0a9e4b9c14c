"""Hooks of one's own: what the training thread pays for one in another process, and how many events it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hookbusd import BINARY, Daemon
from measure import compare, info, loops, no_drops, row, settle

import hookbus

FLOOD = 300_000  # events a second
LASTS_S = 3.0
ROUNDS = 9
NO_RECORD = "[record]\nenabled = false\n"
RULE = """
[[hooks]]
type = "Rule"
at = "after_train_iter"
when = "loss > 1000.0"
do = "incident('high')"
"""
CLASS = '''
import hookbus

@hookbus.HOOKS.register_module()
class Counts(hookbus.Hook):
    """Looks at each loss, and decides nothing."""

    fields = ("loss",)
    high = 0

    def after_train_iter(self, event, cx):
        if event["loss"] > 1000.0:
            self.high += 1
'''


def rows() -> None:
    with tempfile.TemporaryDirectory(prefix="hbh") as folder:
        module = Path(folder) / "counting.py"
        module.write_text(CLASS)
        provided = (
            f'[providers]\npython = "{sys.executable}"\n[[hooks]]\ntype = "Counts"\nmodule = "{module}"\n{NO_RECORD}'
        )
        pairs = [emits(provided) for _ in range(ROUNDS)]
        pairs.sort(key=lambda pair: pair[0] / pair[1])
        a, b = pairs[ROUNDS // 2]
        text = f"{a:.0f} / {b:.0f} ns, of {ROUNDS} rounds"
        row("emit, a hook in Python / a rule in the daemon", text, a / b, 1.1)
        least, most = (one / other for one, other in (pairs[0], pairs[-1]))
        info("  the least and the most of the rounds", f"{least:.2f} x, {most:.2f} x")
        with Daemon(provided) as daemon, hookbus.attach("provided", address=daemon.address) as bus:
            flood(daemon, bus)


def emits(provided: str) -> list[float]:
    """Nanoseconds of an emit that a hook in Python sees, and of one that a rule does.

    Which cores the daemons and the clients' threads come to lie on is chance, and stays so as long as they live: each
    round has new ones.
    """
    with (
        Daemon(RULE + NO_RECORD) as built_in,
        Daemon(provided) as other,
        hookbus.attach("built-in", address=built_in.address) as one,
        hookbus.attach("provided", address=other.address) as two,
    ):

        def settled() -> None:
            settle(one)
            settle(two)
            time.sleep(0.05)  # what waits for the provider: a flood of the block before is none of the next one's

        theirs, ours = (loops(bus.event)["2"] for bus in (one, two))
        found = compare((ours, 20_000), (theirs, 20_000), between=settled)
        no_drops(one)
        no_drops(two)
        return found


def flood(daemon: Daemon, bus: hookbus.Bus) -> None:
    """How many calls a second a hook in Python answers where more events come than it takes, and at half of that."""
    most = paced(daemon, bus, FLOOD, "a hook in Python, flooded")
    paced(daemon, bus, most / 2, "at half of that rate")


def paced(daemon: Daemon, bus: hookbus.Bus, rate: float, what: str) -> float:
    """So many events a second for some seconds, a burst each 2 ms. Returns the calls a second that came of them."""
    before = seen(daemon, "provided")
    start = time.perf_counter()
    sent = 0
    while (now := time.perf_counter() - start) < LASTS_S:
        for _ in range(int(rate * now) - sent):
            bus.event("after_train_iter", loss=0.5, lr=0.1)
        sent = max(sent, int(rate * now))
        time.sleep(0.002)
    settle(bus)
    after = seen(daemon, "provided")
    calls, missed, spent = (after[name] - before[name] for name in ("calls", "missed", "time_s"))
    each = spent / max(1, calls) * 1e3
    text = f"{calls / LASTS_S:,.0f} calls/s of {sent / LASTS_S:,.0f} events/s"
    info(what, text)
    info("  missed; from an event to its answer", f"{missed:,.0f}; {each:.2f} ms in the mean")
    return calls / LASTS_S


def seen(daemon: Daemon, run: str) -> dict[str, float]:
    command = [str(BINARY.with_name("hookbus")), "--address", daemon.address, "show", run, "--json"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (hook,) = [hook for hook in shown["hooks"] if hook["type"] == "Counts"]
    return hook
