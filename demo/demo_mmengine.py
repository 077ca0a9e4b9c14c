"""Shows HookbusHook in MMEngine's Runner on two ranks beside MMDetection's own hooks, and checks what it shows.

    python demo/demo_mmengine.py --bin target/release

It needs torch, MMEngine and MMDetection's hooks: `make demo-mmengine` has them. Exit status 0 if all of it was seen;
else 1, and one line that says what was not.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from beside import HERE, NotSeen, Operator, heading, require, show

sys.path.insert(0, str(HERE.parent / "tests" / "python"))
sys.path.insert(0, str(HERE.parent / "tests" / "python" / "with_mmengine"))

from conftest import ROOT, Daemon
from trainings import Records, Training, begun

RANKS = 2
HOOKS = [
    dict(type="CheckInvalidLossHook", interval=4),
    dict(type="NumClassCheckHook"),
    dict(type="MemoryProfilerHook", interval=3),
    dict(type="SetEpochInfoHook"),
    dict(type="SyncNormHook"),
    dict(type="YOLOXModeSwitchHook", num_last_epochs=1, skip_type_keys=("Mosaic", "MixUp")),
]
SWITCH = 2  # of four epochs, with num_last_epochs=1
ORDER_ITER, REASON = 4, "seen enough"
NAN_RANK, NAN_ITER = 1, 7  # a due one
MEMORY_LINE = "Memory information available_memory: "


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release", help="where the binaries are")
    binaries = parser.parse_args().bin.resolve()
    hookbus = binaries / "hookbus"
    if not hookbus.exists():
        print(f"demo: {hookbus} is not built; `make demo-mmengine` builds it", file=sys.stderr)
        return 1
    os.environ["HOOKBUSD"] = str(binaries / "hookbusd")
    try:
        with tempfile.TemporaryDirectory(prefix="hb") as folder:  # short: a socket's path has 108 bytes at most
            say_what_trains()
            iterations = same_part(Path(folder))
            stop_part(hookbus, Path(folder), iterations)
            nan_part(Path(folder))
    except (NotSeen, AssertionError, subprocess.TimeoutExpired) as missing:
        print(f"\ndemo: NOT SEEN: {last_line(missing)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\ndemo: {error}; `make demo-mmengine` builds what is needed", file=sys.stderr)
        return 1
    closing_words()
    return 0


def last_line(error: Exception) -> str:
    """Of what a rank that failed has said, what it died of."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def say_what_trains() -> None:
    print(
        f"MMEngine's Runner on {RANKS} ranks (gloo; a process each, as torchrun starts them). In its config:\n\n"
        '    custom_imports = dict(imports=["hookbus.adapters.mmengine"], allow_failed_imports=False)\n'
        '    custom_hooks = [dict(type="HookbusHook", hooks=['
    )
    for hook in HOOKS:
        words = ", ".join(f"{name}={value!r}".replace("'", '"') for name, value in hook.items())
        print(f"        dict({words}),")
    print("    ])]", flush=True)


def same_part(folder: Path) -> int:
    """Both trainings at the same time; returns how many iterations they have."""
    heading("1. The same training with MMDetection's own hooks in the process, and with HookbusHook")
    with (
        a_daemon(folder) as daemon,
        training(folder, "original") as genuine,
        training(folder, "hookbus", daemon) as ours,
        ThreadPoolExecutor() as pool,
    ):
        theirs, records = pool.map(Training.records, (genuine, ours))
        lines = [memory_lines(log(each)) for each in (genuine, ours)]
    seen = require_the_same(theirs, records)
    for row in epochs(theirs, records):
        print("  {:<7}{:<13}{:<16}{:<16}{:<9}{:<8}{}".format(*row).rstrip())
    for whose, written in zip(("MMDetection's hook", "HookbusHook"), lines, strict=True):
        require(bool(written), f"a line of MemoryProfilerHook in the log of the training with {whose}")
    print()
    show("|", lines[1][0])
    print("\n  seen: " + "\n        ".join(seen))
    return len(theirs[0]["iterations"])


def stop_part(hookbus: Path, folder: Path, iterations: int) -> None:
    """Both ranks wait until the order is on its way, so that it comes in time on any machine."""
    heading("2. An operator stops it")
    with a_daemon(folder) as daemon, training(folder, "hookbus", daemon, ask_at=[ORDER_ITER]) as ours:
        for rank in range(RANKS):
            ours.at(rank, ORDER_ITER)
        order = Operator(hookbus, daemon.address).begin("send", "train", "stop", "--reason", REASON)
        for rank in range(RANKS):
            ours.go(rank)
        show(":", order.rest())
        records = ours.records()
        lines = [line.partition(" - WARNING - ")[2] for line in log(ours).splitlines() if line.endswith(REASON)]
    require(bool(lines), "the operator's reason in the training's log")
    print()
    show("|", lines[0])
    iteration = require_same_end(records)
    require(ORDER_ITER < iteration < iterations, f"a stop before the end (both ranks made {iteration} iterations)")
    print(f"\n  seen: both ranks ended after {iteration} of {iterations} iterations")


def nan_part(folder: Path) -> None:
    heading(f"3. A loss that is NaN on rank {NAN_RANK} alone")
    print(
        f"  At iteration {NAN_ITER}, where CheckInvalidLossHook looks. In the process it would see the loss of its\n"
        f"  own rank only, and stop rank {NAN_RANK} alone.\n"
    )
    with a_daemon(folder) as daemon, training(folder, "hookbus", daemon, nan=[NAN_RANK, NAN_ITER]) as ours:
        records = ours.records()
    for rank, record in enumerate(records):
        last, ended = record["iterations"][-1], record["ended"]
        loss = float.fromhex(last["losses"]["loss"])
        require(ended is not None, f"the stop on rank {rank}")
        show("|", f"rank {rank}: loss {loss:.9g} at iteration {last['iter']}; {ended['kinds'][0]}: {ended['text']}")
        require(ended["kinds"][:2] == ["TrainingStopped", "AssertionError"], f"a stop on rank {rank}, not {ended}")
        require(math.isfinite(loss) == (rank != NAN_RANK), f"a loss that is NaN on rank {NAN_RANK} alone")
    iteration = require_same_end(records)
    require(iteration == NAN_ITER, f"the stop at iteration {NAN_ITER} (it was at {iteration})")
    print(f"\n  seen: both ranks stopped at iteration {iteration}")


def closing_words() -> None:
    heading("With a training of your own")
    print(
        "  hookbus run -- python tools/train.py my_config.py     # a daemon beside it, and a report at its end\n"
        "  docs/migration.md                                     # from MMDetection's lines to these, line by line"
    )


@contextmanager
def a_daemon(folder: Path) -> Iterator[Daemon]:
    """One for both ranks: they are on one node."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        daemon = Daemon(Path(place), "")
        try:
            yield daemon
        finally:
            daemon.kill()


def training(
    folder: Path, hooks: str, daemon: Daemon | None = None, **settings: Any
) -> AbstractContextManager[Training]:
    return begun(folder, {"hooks": hooks, "asked": HOOKS, **settings}, RANKS, [daemon] if daemon else [])


def log(training: Training) -> str:
    """What rank 0's Runner has written to its log file."""
    return "".join(path.read_text() for path in training.folder.glob("*/*.log"))


def memory_lines(log: str) -> list[str]:
    return [line[line.index(MEMORY_LINE) :] for line in log.splitlines() if MEMORY_LINE in line]


def epochs(theirs: Records, ours: Records) -> Iterator[Sequence[object]]:
    """Rows of a table: the last iteration of each epoch."""
    yield "EPOCH", "HOOKS", "LOSS, RANK 0", "LOSS, RANK 1", "RATE", "MOSAIC", "L1 LOSS"
    length = len(theirs[0]["iterations"]) // len(theirs[0]["epochs"])
    for epoch in range(len(theirs[0]["epochs"])):
        for whose, records in (("in-process", theirs), ("HookbusHook", ours)):
            last = [record["iterations"][(epoch + 1) * length - 1] for record in records]
            losses = [f"{float.fromhex(each['losses']['loss']):.9g}" for each in last]  # digits that tell float32 apart
            switched = records[0]["epochs"][epoch]["use_l1"]
            rate = f"{float.fromhex(last[0]['lr'][0]):g}"
            yield epoch, whose, *losses, rate, "on" if last[0]["skipped"] == [0] else "off", "on" if switched else "off"


def require_the_same(theirs: Records, ours: Records) -> list[str]:
    """Compares all that the ranks of both trainings recorded; returns what was seen."""
    for rank, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        require(their["ended"] is None, f"a training with MMDetection's hooks that goes well ({their['ended']})")
        for what, value in their.items():
            require(our[what] == value, f"the same {what} on rank {rank} with HookbusHook as with MMDetection's hooks")
        switched = [row["use_l1"] for row in our["epochs"]]
        require(switched == [epoch >= SWITCH for epoch in range(len(switched))], f"the switch at epoch {SWITCH}")
        require(our["set_epoch"] == list(range(len(switched))), "set_epoch with each epoch")
        require(all(before != after for _, before, after in our["norms"]), "norm layers that are averaged")
    weights = {record["weights"] for record in ours}
    require(len(weights) == 1, "the same weights on all ranks")
    count = sum(len(record["iterations"]) for record in ours)
    return [
        f"the same to the last bit, on both ranks: {count} losses and their learning rates,",
        f"the switch at epoch {SWITCH}, {len(ours[0]['norms'])} averages of the norm layers, the validations' scores,",
        f"{len(ours[0]['checkpoints'])} checkpoints, and the weights (SHA-256 {weights.pop()[:16]}...)",
    ]


def require_same_end(records: Records) -> int:
    """The iteration at which all ranks ended."""
    ends = {tuple(record["stopped_at"]) for record in records}
    require(len(ends) == 1, f"ranks that end at the same iteration (they ended at {sorted(ends)})")
    made = {len(record["iterations"]) for record in records}
    require(len(made) == 1, f"ranks that make as many iterations (they made {sorted(made)})")
    return ends.pop()[1]


if __name__ == "__main__":
    sys.exit(main())
