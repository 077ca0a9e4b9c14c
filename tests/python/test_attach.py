"""Attaching: with a daemon, without one, twice, in a fork; and what an import costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

from conftest import Daemon, clean_environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]

LOOP = """
import hookbus, sys
with hookbus.attach("loop", hooks=[dict(type="CheckInvalidLossHook", interval=1)], max_epochs=2) as bus:
    for epoch in bus.epochs():
        for batch in bus.iters(range(3)):
            bus.report(loss=float("nan"))
            print(epoch, batch)
"""


def test_without_a_daemon_there_is_one_warning_and_the_training_goes_on(run_script: Run) -> None:
    done = run_script(LOOP, HOOKBUS_ADDRESS="unix:///nowhere/hookbusd.sock")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    for word in ("CheckInvalidLossHook", "/nowhere/hookbusd.sock", "hookbus run"):
        assert word in lines[0]


def test_without_an_address_there_is_no_wait(run_script: Run) -> None:
    text = """
import time, hookbus
began = time.perf_counter()
hookbus.attach("x").close()
print(time.perf_counter() - began)
"""
    done = run_script(text)
    assert float(done.stdout) < 1, done.stdout


def test_a_refused_hook_is_one_line_and_the_rest_holds(run_script: Run, daemon: Daemon) -> None:
    text = """
import hookbus
hooks = [dict(type="NoSuchHook"), dict(type="CheckInvalidLossHook", interval=1)]
with hookbus.attach("refused", hooks=hooks) as bus:
    try:
        bus.report(loss=float("inf"))
    except hookbus.TrainingStopped as stop:
        print("stopped", stop.by)
"""
    done = run_script(text, daemon)
    assert done.stdout == "stopped CheckInvalidLossHook\n", done.stderr
    assert len([line for line in done.stderr.splitlines() if "NoSuchHook" in line]) == 1


def test_two_attaches_are_two_runs(run_script: Run, daemon: Daemon) -> None:
    text = """
import hookbus
with hookbus.attach("one") as one, hookbus.attach("one") as two:
    for bus in (one, two):
        bus.report(loss=1.0)
        print(bus.status()["run_id"])
"""
    done = run_script(text, daemon)
    ids = done.stdout.split()
    assert len(set(ids)) == 2, done.stdout + done.stderr


def test_the_scripts_name_is_the_runs_name_and_the_environment_wins(run_script: Run, daemon: Daemon) -> None:
    text = "import hookbus\nwith hookbus.attach() as bus: print(bus.status()['run_id'])"
    assert run_script(text, daemon).stdout.startswith("train")
    assert run_script(text, daemon, HOOKBUS_RUN="other").stdout.startswith("other")


def test_a_forked_child_is_a_silent_no_op(run_script: Run, daemon: Daemon) -> None:
    text = """
import os, sys, hookbus
bus = hookbus.attach("fork", hooks=[dict(type="CheckInvalidLossHook", interval=1)])
bus.event("before_train")
child = os.fork()
if child == 0:
    for _ in range(1000):
        bus.report(loss=float("nan"))   # would stop the parent
    bus.close()
    sys.exit(7)                         # through atexit, as multiprocessing's children may
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
bus.report(loss=1.0)
print(bus.status()["connected"])
bus.close()
"""
    done = run_script(text, daemon)
    assert done.stdout.split() == ["7", "True"], done.stderr
    assert done.stderr == ""


def test_a_loss_that_is_no_number_is_one_error_and_no_exception(run_script: Run, daemon: Daemon) -> None:
    text = """
import hookbus
import numpy as np
with hookbus.attach("odd", hooks=[dict(type="CheckInvalidLossHook", interval=1)]) as bus:
    for _ in range(5):
        bus.report(loss=VALUE)
    bus.report(loss=float("nan"))
"""
    for value in ('"0.5"', "np.array([1.0, 2.0])"):
        done = run_script(text.replace("VALUE", value), daemon)
        assert "TrainingStopped" in done.stderr, done.stderr  # the last, honest nan
        errors = [line for line in done.stderr.splitlines() if "loss" in line and "TrainingStopped" not in line]
        errors = [line for line in errors if "infinite or NaN" not in line and not line.startswith(" ")]
        assert len(errors) == 1, (value, done.stderr)


def test_ctrl_c_ends_a_training_as_ever(run_script: Run, daemon: Daemon) -> None:
    text = """
import hookbus, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
try:
    with hookbus.attach("ctrl-c") as bus:
        for i in bus.iters(range(10)):
            if i == 3:
                os.kill(os.getpid(), signal.SIGINT)
            bus.report(loss=1.0)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert run_script(text, daemon).stdout == "interrupted\n"
    assert "KeyboardInterrupt" in str(daemon.ask("show", "ctrl-c"))


def test_threads_may_report(run_script: Run, daemon: Daemon) -> None:
    text = """
import hookbus, threading
with hookbus.attach("threads") as bus:
    threads = [threading.Thread(target=lambda: [bus.event("x", n=1.0) for _ in range(1000)]) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(bus.status()["dropped"])
"""
    done = run_script(text, daemon)
    assert done.stdout == "0\n", done.stderr


def test_an_exception_reaches_the_record_without_with(run_script: Run, daemon: Daemon) -> None:
    done = run_script(
        "import hookbus\nbus = hookbus.attach('left')\nbus.report(loss=1.0)\nraise OSError('gone')", daemon
    )
    assert done.returncode == 1
    assert "OSError: gone" in str(daemon.ask("show", "left"))


def test_an_import_is_quick_and_brings_no_framework() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import sys, hookbus; print(*sys.modules)"],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=True,
    )
    heavy = {"numpy", "torch", "mmengine", "grpc", "google", "logging", "asyncio", "json", "threading"}
    assert not heavy & set(done.stdout.split())
    spent = re.search(r"\|\s+(\d+) \|\s*hookbus$", done.stderr, re.M)
    assert spent is not None
    limit_us = 10_000 * (1 if (os.cpu_count() or 1) > 8 else 5)  # a shared core may be slow; the bench has the number
    assert int(spent[1]) < limit_us, f"{spent[1]} us"
