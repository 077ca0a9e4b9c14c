"""What a training by MMEngine's Runner pays an iteration: with MMDetection's own hooks, and with HookbusHook.

Real Runner, real loop, real daemon, a tiny model; run in the environment that has torch. Each training is in a process
of its own a rank, and they take turns in blocks; the figures are of whole iterations, all that an epoch does included.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hookbusd import ROOT, Daemon
from measure import info, row

sys.path.insert(0, str(ROOT / "tests" / "python"))
sys.path.insert(0, str(ROOT / "tests" / "python" / "with_mmengine"))

from trainings import Training

MEMORY: dict[str, Any] = dict(type="MemoryProfilerHook", interval=50)
HOOKS = [
    dict(type="CheckInvalidLossHook", interval=50),
    dict(type="NumClassCheckHook"),
    dict(type="SetEpochInfoHook"),
    dict(type="YOLOXModeSwitchHook", num_last_epochs=15),
    dict(type="SyncNormHook"),
]
NONE, GENUINE, OURS, GENUINE_MEMORY, OURS_MEMORY = range(5)
TRAININGS: list[dict[str, Any]] = [
    dict(hooks="none", asked=[]),
    dict(hooks="original", asked=HOOKS),
    dict(hooks="hookbus", asked=HOOKS, hookbus={}),
    dict(hooks="original", asked=[*HOOKS, MEMORY]),
    dict(hooks="hookbus", asked=[*HOOKS, MEMORY], hookbus={}),
]
BLOCKS, ITERATIONS = 26, 100


def microseconds(ranks: int) -> list[list[float]]:
    """Of an iteration, for each training: a figure a block, without the first one, which warms up."""
    with Daemon() as daemon, tempfile.TemporaryDirectory(prefix="hb") as folder, ExitStack() as ended:
        running = []
        for number, settings in enumerate(TRAININGS):
            place = Path(folder) / str(number)
            place.mkdir()
            whole = {**settings, "blocks": BLOCKS, "iterations": ITERATIONS}
            script = Path(__file__).with_name("mmengine_rank.py")
            training = Training(place, whole, ranks, [daemon.address] * ranks, script)
            ended.callback(training.end)
            running.append(training)
            reached(training, ranks, 0)
        order = random.Random(0)
        for block in range(BLOCKS):
            # a processor that has slept in the block before is slower for a while: not always for the same training
            for training in order.sample(running, len(running)):
                go(training, ranks)
                reached(training, ranks, block + 1)
        for training in running:
            go(training, ranks)
        seconds = [training.records()[0] for training in running]  # rank 0's; the ranks go in step
        for number, training in enumerate(running):
            require_hooks(number, training)
    return [[block / ITERATIONS * 1e6 for block in blocks[1:]] for blocks in seconds]


def reached(training: Training, ranks: int, block: int) -> None:
    for rank in range(ranks):
        training.at(rank, block)


def go(training: Training, ranks: int) -> None:
    for rank in range(ranks):
        training.go(rank)


def require_hooks(number: int, training: Training) -> None:
    """The figure is of what it says: hookbus has nothing to report, and memory lines were written."""
    name = f"the training with {TRAININGS[number]}"
    log = training.said(0) + "".join(path.read_text() for path in training.folder.glob("*/*.log"))
    wrong = [line for line in log.splitlines() if "hookbus: " in line]
    if wrong:
        raise SystemExit(f"bench: {name}: {wrong[0]}")
    lines, due = log.count("Memory information"), BLOCKS * ITERATIONS // MEMORY["interval"]
    if number in (GENUINE_MEMORY, OURS_MEMORY) and lines < due * 0.9:  # late ones may come after the last block
        raise SystemExit(f"bench: {name}: {lines} memory lines, not {due}")


def rows(ranks: int) -> None:
    each = microseconds(ranks)

    def beside(what: str, one: int, other: int, target: float | None = None) -> None:
        what = f"MMEngine, {ranks} rank{'s' * (ranks > 1)}: {what}"
        text = f"{statistics.median(each[one]):,.0f} / {statistics.median(each[other]):,.0f} us an iteration"
        # of blocks that were run in the same turn: a machine that is busy for a while is so for both
        ratio = statistics.median(a / b for a, b in zip(each[one], each[other], strict=True))
        if target is None:
            info(what, text, ratio, "x")
        else:
            row(what, text, ratio, target)

    beside("5 genuine hooks / no hooks", GENUINE, NONE)
    beside("HookbusHook / no hooks", OURS, NONE)
    beside("HookbusHook / 5 genuine", OURS, GENUINE)
    beside("5 and MemoryProfiler / no hooks", GENUINE_MEMORY, NONE)
    beside("HookbusHook, same 6 / no hooks", OURS_MEMORY, NONE)
    beside("HookbusHook, same 6 / genuine", OURS_MEMORY, GENUINE_MEMORY, 1.0)


if __name__ == "__main__":
    for ranks in (1, 2):
        rows(ranks)
