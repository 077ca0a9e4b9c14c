"""What steering costs: a schedule in force, each iteration, and the way of an operator's order to eight ranks."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from hookbusd import BINARY, Daemon
from measure import Work, compare, not_measured, plain, row, settle

import hookbus

# the points of the loop are not wanted, so that only what is due at them is paid for
TOML = "[record]\nenabled = false\n"
EPOCHS, ITERS = 300, 10_000
YOLOX = {"type": "YOLOXLrUpdaterHook", "num_last_epochs": 15, "min_lr_ratio": 0.05, "by_epoch": False}

RANK = """
import hookbus, itertools, sys, time
class Optimizer:
    param_groups = [{"lr": 0.1}]
with hookbus.attach("bench", max_epochs=1) as bus:
    bus.bind(optimizer=Optimizer())
    bus.event("before_train")
    print("ready", flush=True)
    for _ in bus.iters(itertools.count()):
        time.sleep(0.001)
        bus.report(loss=0.5)
"""


class Optimizer:
    """One parameter group; setting its rate in Python is what an in-process scheduler hook does at least."""

    def __init__(self) -> None:
        self.param_groups = [{"lr": 0.1}]


def _top(call) -> Work:  # type: ignore[no-untyped-def]
    def work(count: int) -> None:
        for _ in range(count):
            call("before_train_iter")

    return work


def schedule() -> None:
    """The top of an iteration: without anything wanted, and with a learning rate of a schedule written each time."""
    with Daemon(TOML) as daemon:
        known = {"max_epochs": EPOCHS, "iters_per_epoch": ITERS}
        with hookbus.attach("bench", address=daemon.address, **known) as bus:
            bus.bind(optimizer=Optimizer())
            bus.event("before_train")
            a, b = compare((_top(bus.event), 200_000), (_top(plain), 200_000))
            row("top of an iteration, nothing new / a plain call", f"{a:.0f} / {b:.0f} ns", a / b, 1.3)
        with hookbus.attach("bench", address=daemon.address, hooks=[YOLOX], **known) as bus:
            optimizer = Optimizer()
            bus.bind(optimizer=optimizer)
            start = time.perf_counter()
            bus.event("before_train")
            waited = time.perf_counter() - start
            a, b = compare((_top(bus.event), 200_000), (_top(plain), 200_000))
            if optimizer.param_groups[0]["lr"] == 0.1:
                not_measured("top of an iteration, a schedule in force", "no learning rate was written")
                return
            text = f"{a:.0f} / {b:.0f} ns"
            row("top of an iteration, a schedule in force / a plain call", text, a / b, 3.0)
            settle(bus)
            megabytes = EPOCHS * ITERS * 8 / 1e6
            row(f"before_train waits for a curve of {megabytes:.0f} MB", f"{waited:.2f} s", waited, 5.0, "s")


def order() -> None:
    """From `hookbus send` to its exit status, on 8 ranks that iterate each millisecond, beside `hookbus runs`."""
    ranks = 8
    hookbus_binary = BINARY.with_name("hookbus")
    with Daemon() as daemon:
        env = {**os.environ, "HOOKBUS_ADDRESS": daemon.address, "WORLD_SIZE": str(ranks), "HOOKBUS_LAUNCH": "bench"}
        trainers = [
            subprocess.Popen(
                [sys.executable, "-c", RANK], env={**env, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True
            )
            for rank in range(ranks)
        ]
        try:
            for trainer in trainers:
                if trainer.stdout is None or trainer.stdout.readline() != "ready\n":
                    not_measured("an order to 8 ranks", "a rank did not start")
                    return

            def seconds(*words: str) -> float:
                start = time.perf_counter()
                subprocess.run([hookbus_binary, *words], env=env, check=True, stdout=subprocess.DEVNULL)
                return time.perf_counter() - start

            looks, sends = [], []
            for turn in range(15):
                looks.append(seconds("runs"))
                sends.append(seconds("send", "bench", "lr", "--scale", str(1 + turn)))
            look, send = statistics.median(looks), statistics.median(sends)
            what = f"send lr, applied on {ranks} ranks / hookbus runs"
            row(what, f"{send * 1000:.0f} / {look * 1000:.0f} ms", send / look, 5.0)
        finally:
            for trainer in trainers:
                trainer.kill()
                trainer.communicate()
