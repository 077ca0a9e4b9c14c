"""The third part of the demo: a training that is steered by hooks, which decide ahead, and by an operator's orders.

What the optimizer and the network had in each iteration is compared with what was decided, to the last bit.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from beside import Operator, Order, heading, require, run_beside_daemon, show

EPOCH_LINE = re.compile(r"epoch (\d+): ")
SENT_LINE = re.compile(r"order (\S+) sent to rank 0\n")
FACTOR, FROM_ITER, RELEASED_AT_EPOCH = 0.5, 150, 6  # the operator's orders


def steering_part(hookbus: Path, folder: Path) -> None:
    """A training under a curve, sizes and a mode decided ahead; an operator halves its rate, and gives it back."""
    heading("3. Steering: what hooks decide ahead, and what an operator orders from a second process")
    print(
        "  YOLOXLrUpdaterHook sets the learning rate of each iteration, SyncRandomSizeHook another input size each\n"
        "  third epoch, YOLOXModeSwitchHook takes the augmentation RandomShift away before the end. An operator\n"
        "  halves the learning rate and gives it back. After each epoch the training waits for the demo, so that\n"
        "  orders come in time on any machine.\n"
    )
    pace, dump = folder / "pace", folder / "steered.json"
    pace.mkdir()
    terminal = SecondTerminal(hookbus)

    def look(line: str, address: str) -> None:
        if epoch := EPOCH_LINE.match(line):
            terminal.after(int(epoch[1]), address)
            (pace / epoch[1]).touch()

    code, _ = run_beside_daemon(hookbus, "train_steered.py", [], ["--paced", str(pace), "--dump", str(dump)], look)
    require(code == 0, f"a steered training that ends well (it ended with status {code})")
    trained = json.loads(dump.read_text())
    lines = check(trained, terminal.results, terminal.orders)
    print("\n  what the training had, by its own record:\n")
    for row in stretches(trained):
        print("    {:<5}  {:<10}  {:<18}  {:<7}  {:<7}  {}".format(*row).rstrip())
    print("\n  seen: " + "\n        ".join(lines))


class SecondTerminal:
    """What the operator does while the training waits after an epoch."""

    def __init__(self, hookbus: Path) -> None:
        self.hookbus = hookbus
        self.given: list[Order] = []
        self.orders: list[str] = []  # ids
        self.results: list[dict[str, Any]] = []  # the daemon's record: what was applied where

    def after(self, epoch: int, address: str) -> None:
        if epoch == 2:
            self.operator = Operator(self.hookbus, address)
            note = f"half the learning rate from iteration {FROM_ITER} on"
            self.order(note, "lr", "--scale", str(FACTOR), "--at-iter", str(FROM_ITER))
        elif epoch == 4:
            print()
            note = f"the planned learning rate from epoch {RELEASED_AT_EPOCH} on"
            self.order(note, "lr", "--release", "--at-epoch", str(RELEASED_AT_EPOCH))
        elif epoch in (3, RELEASED_AT_EPOCH):
            self.given.pop().end()  # it was due in this epoch
        elif epoch == 7:
            self.results = json.loads(self.operator.read("show", "digits", "--json"))["results"]
            page = self.operator.read("show", "digits")
            print("\n  $ hookbus show digits        # of its answer, the results")
            show(":", page[page.index("\nresults\n") + 1 :].partition("\n\n")[0])
            print(flush=True)

    def order(self, note: str, *what: str) -> None:
        order = self.operator.begin("send", "digits", *what)
        sent = SENT_LINE.fullmatch(order.first)
        require(sent is not None, f"the operator's order on its way: {order.first.strip()}")
        self.given.append(order)
        self.orders += sent.groups() if sent else ()
        # What goes to a training keeps its order: with this line in its log, it has the order above too.
        self.operator.ask("send", "digits", "log", note)


def check(trained: dict[str, Any], results: Sequence[dict[str, Any]], orders: Sequence[str]) -> list[str]:
    """Compares what was decided with what the training had and with the daemon's record; returns what was seen."""
    had, per_epoch = trained["trained_with"], trained["iters_per_epoch"]
    rates, sizes, switch = planned_rates(trained), planned_sizes(trained), planned_switch(trained)
    released = RELEASED_AT_EPOCH * per_epoch
    require(len(had) == len(rates), f"all {len(rates)} iterations (there were {len(had)})")
    pixels = had[0]["pixels"]  # until the first change, the trainer's own
    for i, (one, planned) in enumerate(zip(had, rates, strict=True)):
        held = FROM_ITER <= i < released
        rate, whose = (planned * FACTOR, f"{FACTOR} of the curve's") if held else (planned, "the curve's")
        require(one["lr"] == rate, f"{whose} learning rate at iteration {i}: {rate!r} (it was {one['lr']!r})")
        pixels = sizes.get(i // per_epoch, pixels)
        require(one["pixels"] == pixels, f"{pixels} pixels at iteration {i} (they were {one['pixels']})")
        steps = ["RandomShift"] if i // per_epoch < switch else []
        require(one["steps"] == steps, f"the augmentations {steps} at iteration {i} (they were {one['steps']})")
    require(len({one["pixels"] for one in had}) > 1, "an input size that changes")
    require(len(orders) == 2, f"two orders of the operator (there were {len(orders)})")
    require_applied(results, "YOLOXLrUpdaterHook", [0])
    # the schedule itself at the beginning, then each of its changes
    require_applied(results, "SyncRandomSizeHook", [0, *(epoch * per_epoch for epoch in sizes)])
    require_applied(results, "YOLOXModeSwitchHook", [switch * per_epoch])
    require_applied(results, orders[0], [FROM_ITER])
    require_applied(results, orders[1], [released])
    changes = ", ".join(f"{pixels} x {pixels} from epoch {epoch} on" for epoch, pixels in sizes.items())
    return [
        f"{len(had)} learning rates, bit for bit those of the curve's formula, and exactly {FACTOR} of it in",
        f"iterations {FROM_ITER} to {released - 1}: both orders were applied where the operator wanted them;",
        f"the input sizes drawn from the seed: {changes};",
        f"the mode switch at epoch {switch} = {trained['epochs']} - 2 - 1: no augmentation from there on",
    ]


def require_applied(results: Sequence[dict[str, Any]], whose: str, iters: list[int]) -> None:
    """In the daemon's record: what this hook decided or this order asked for was applied, before these iterations."""
    there = [one["result"] for one in results if whose in (one["by"], one["result"]["id"])]
    said = [f"{one['outcome']} at iteration {one['at']['iter']}" for one in there]
    due = [f"applied at iteration {i}" for i in iters]
    require(said == due, f"in the daemon's record, {whose} {', '.join(due)} (it has: {', '.join(said) or 'nothing'})")


def planned_rates(trained: dict[str, Any]) -> list[float]:
    """The curve by its formula: that of YOLOXLrUpdaterHook with by_epoch=False and warmup_by_epoch=True."""
    hook, base, per_epoch = arguments(trained, "YOLOXLrUpdaterHook"), trained["lr"], trained["iters_per_epoch"]
    end = trained["epochs"] * per_epoch
    warmup, last = hook["warmup_iters"] * per_epoch, hook["num_last_epochs"] * per_epoch
    target = base * hook["min_lr_ratio"]

    def rate(i: int) -> float:
        if i < warmup:
            return base * (hook["warmup_ratio"] * ((i + 1) / warmup) ** 2)
        if i + 1 >= end - last:
            return target
        return target + 0.5 * (base - target) * (math.cos(math.pi * ((i + 1 - warmup) / (end - warmup - last))) + 1)

    return [rate(i) for i in range(end)]


def planned_sizes(trained: dict[str, Any]) -> dict[int, int]:
    """The epochs from which a new size holds, and its pixels, drawn from the seed as SyncRandomSizeHook draws."""
    hook, seed = arguments(trained, "SyncRandomSizeHook"), trained["seed"].to_bytes(8, "little")
    least, most = hook["ratio_range"]

    def pixels(k: int) -> int:
        digest = hashlib.sha256(b"hookbus size" + seed + k.to_bytes(8, "little")).digest()
        return 32 * (least + (int.from_bytes(digest[:8], "little") * (most - least + 1) >> 64))

    return {epoch: pixels(k) for k, epoch in enumerate(range(hook["interval"], trained["epochs"], hook["interval"]))}


def planned_switch(trained: dict[str, Any]) -> int:
    """The epoch from which YOLOXModeSwitchHook's mode holds."""
    return trained["epochs"] - arguments(trained, "YOLOXModeSwitchHook")["num_last_epochs"] - 1


def arguments(trained: dict[str, Any], hook: str) -> dict[str, Any]:
    """What the training asked this hook for."""
    return next(one for one in trained["hooks"] if one["type"] == hook)


def stretches(trained: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Rows of a table: iterations in which the same held."""

    def alike(pair: tuple[dict[str, Any], float]) -> tuple[int, float, int, str]:
        one, planned = pair
        return one["epoch"], one["lr"] / planned, one["pixels"], ", ".join(one["steps"]) or "-"

    yield "EPOCH", "ITERATIONS", "LEARNING RATE", "x CURVE", "SIZE", "AUGMENTATION"
    i = 0
    for (epoch, factor, pixels, steps), group in itertools.groupby(
        zip(trained["trained_with"], planned_rates(trained), strict=True), alike
    ):
        rates = [one["lr"] for one, _ in group]
        rate = f"{rates[0]:.5f} to {rates[-1]:.5f}"
        yield str(epoch), f"{i} to {i + len(rates) - 1}", rate, f"{factor:g}", f"{pixels} x {pixels}", steps
        i += len(rates)
