"""The two hooks through the whole path: a Python loop, the wire, the daemon, and back."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

import pytest
from conftest import ROOT, Daemon

Run = Callable[..., "subprocess.CompletedProcess[str]"]

MEMORY_LINE = re.compile(
    r"Memory information available_memory: \d+ MB, used_memory: \d+ MB, memory_utilization: [\d.]+ %, "
    r"available_swap_memory: \d+ MB, used_swap_memory: \d+ MB, swap_memory_utilization: [\d.]+ %, "
    r"current_process_memory: (\d+) MB"
)

LOSSES = """
import hookbus, json, sys
first_bad, interval, value = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
reported = 0
try:
    hooks = [dict(type="CheckInvalidLossHook", interval=interval)]
    with hookbus.attach("losses", hooks=hooks, max_epochs=3) as bus:
        for epoch in bus.epochs():
            for i in bus.iters(range(7)):
                n = epoch * 7 + i
                reported = n
                bus.report(loss=value if n >= first_bad else 0.5)
except hookbus.TrainingStopped as stop:
    print(json.dumps(dict(at=reported, by=stop.by, reason=stop.reason)))
else:
    print(json.dumps(dict(at=None)))
"""


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("first_bad", "interval", "stopped_at"),
    [(0, 1, 0), (5, 1, 5), (5, 4, 7), (7, 4, 7), (8, 10, 9), (10, 50, None), (3, 0, None)],
)
def test_an_invalid_loss_stops_at_the_first_due_iteration(
    run_script: Run, daemon: Daemon, first_bad: int, interval: int, stopped_at: int | None, value: str
) -> None:
    done = run_script(LOSSES, daemon, str(first_bad), str(interval), value)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["at"] == stopped_at, done.stderr
    if stopped_at is not None:
        assert got["by"] == "CheckInvalidLossHook"
        assert done.stderr.count("loss become infinite or NaN!") == 1


def test_a_stop_reaches_the_daemons_record(run_script: Run, daemon: Daemon) -> None:
    run_script(LOSSES, daemon, "5", "4", "nan")
    shown = json.dumps(daemon.ask("show", "losses"))
    assert "CheckInvalidLossHook" in shown
    assert "stopped" in shown


def test_the_memory_line_is_in_the_trainers_logger(run_script: Run, daemon: Daemon) -> None:
    text = """
import hookbus, logging, sys
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
hooks = [dict(type="MemoryProfilerHook", interval=2)]
with hookbus.attach("memory", hooks=hooks, max_epochs=2, logger=logging.getLogger("mine")) as bus:
    for epoch in bus.epochs():
        for i in bus.iters(range(5)):
            bus.report(loss=1.0)
with open("/proc/self/statm") as f: print("RSS", int(f.read().split()[1]) * 4096 // 2**20)
"""
    done = run_script(text, daemon)
    lines = [line for line in done.stdout.splitlines() if MEMORY_LINE.search(line)]
    assert len(lines) == 4, done.stdout + done.stderr  # inner iterations 1 and 3 of both epochs
    assert all(line.startswith("mine INFO Memory information") for line in lines)
    rss = int(done.stdout.rsplit("RSS ", 1)[1])
    shown = [int(MEMORY_LINE.search(line)[1]) for line in lines]  # type: ignore[index]
    assert all(abs(value - rss) <= 8 for value in shown), (shown, rss)


def test_the_loss_stop_is_exact_with_a_dead_daemon(run_script: Run, daemon: Daemon) -> None:
    text = LOSSES.replace(
        "        for epoch in bus.epochs():",
        "        import os; os.kill(int(sys.argv[4]), 9)\n        for epoch in bus.epochs():",
    )
    done = run_script(text, daemon, "5", "4", "nan", str(daemon.process.pid))
    assert json.loads(done.stdout)["at"] == 7, done.stderr


def test_a_daemon_killed_in_mid_training_changes_no_loss(run_script: Run, daemon: Daemon) -> None:
    # the real training; the daemon is killed from inside, at the end of its first epoch
    train = (ROOT / "demo" / "train_digits.py").read_text()
    killing = train.replace(
        "    def end_of_epoch(epoch: int) -> None:\n",
        "    def end_of_epoch(epoch: int) -> None:\n        if 'KILL' in os.environ and epoch == 0:\n"
        "            os.kill(int(os.environ['KILL']), 9)\n",
    )
    assert killing != train
    alone = run_script(killing, None, "--no-bus", "--epochs", "3", "--dump", "alone.json")
    assert alone.returncode == 0, alone.stderr
    with_bus = run_script(killing, daemon, "--epochs", "3", "--dump", "bus.json", KILL=str(daemon.process.pid))
    assert with_bus.returncode == 0, with_bus.stderr
    assert daemon.process.wait() == -9
    dumps = [json.loads((run_script.folder / name).read_text()) for name in ("alone.json", "bus.json")]  # type: ignore[attr-defined]
    assert dumps[0] == dumps[1]
    assert len(dumps[0]["losses"]) == 3 * 44


MISSING = """
import hookbus
with hookbus.attach("missing", hooks=[dict(type="CheckInvalidLossHook", interval=2)], max_epochs=1) as bus:
    for epoch in bus.epochs():
        for i in bus.iters(range(9)):
            if i % 2 == 0:
                bus.report(loss=0.5)
            elif i == 1:
                bus.report(loss=0.5)
            else:
                bus.report(accuracy=0.5)
"""


def test_a_loss_that_is_missing_where_it_is_due_is_said_once(run_script: Run, daemon: Daemon) -> None:
    done = run_script(MISSING, daemon)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("hookbus: CheckInvalidLossHook looks at loss, and this iteration reports none"), line
