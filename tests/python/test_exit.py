"""The end of a process: what was reported arrives without a close, and nothing hangs, whatever became of the daemon."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE_S, Daemon, Start, binary, clean_environment, ended, said, told

Run = Callable[..., "subprocess.CompletedProcess[str]"]

EVENTS = 1000  # more than one flush
TRAIN = f"""
import atexit, multiprocessing, os, signal, sys, threading
import hookbus

def train(run, **more):
    bus = hookbus.attach(run, **more)
    for n in range({EVENTS}):
        bus.event("after_train_iter", loss=float(n))
    return bus
"""


def arrived(daemon: Daemon, run: str) -> tuple[int, str]:
    """How many events of a run came, and how its rank ended."""
    (rank,) = daemon.ask("show", run)["ranks"]
    assert rank["dropped"] == 0
    return rank["events"], rank["reason"]


def wait_for_step(training: subprocess.Popen[str]) -> None:
    assert said(training) == "ready"


ENDS = {
    "its last line": ("train('x')", 0, "finished"),
    "an exception": ("train('x')\nraise KeyError('a')", 1, "KeyError: 'a'"),
    "an exit status": ("train('x')\nsys.exit(3)", 3, "finished"),
    "a signal handler": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))\ntrain('x')\nos.kill(os.getpid(), signal.SIGTERM)\n"
        "signal.pause()",
        4,
        "finished",
    ),
    "another thread": ("threading.Thread(target=train, args=['x']).start()", 0, "finished"),
    "a daemon thread": (
        "it = threading.Thread(target=train, args=['x'], daemon=True)\nit.start()\nit.join()",
        0,
        "finished",
    ),
    "after a fork that exits": ("train('x')\nif os.fork() == 0: sys.exit(0)\nos.wait()", 0, "finished"),
    "after a fork that leaves": ("train('x')\nif os.fork() == 0: os._exit(0)\nos.wait()", 0, "finished"),
    "after a fork that raises": (
        "with train('x') as bus:\n    if os.fork() == 0: raise KeyError\n    os.wait()",
        0,
        "finished",
    ),
    "after a fork of multiprocessing": (
        "bus = train('x')\n"
        "child = multiprocessing.get_context('fork').Process(target=bus.event, args=['before_train'])\n"
        "child.start()\nchild.join()\nsys.exit(child.exitcode)",
        0,
        "finished",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_reported_arrives_without_a_close(run_script: Run, daemon: Daemon, end: str) -> None:
    script, code, reason = ENDS[end]
    done = run_script(TRAIN + script, daemon)
    assert done.returncode == code, done.stderr
    assert arrived(daemon, "x") == (EVENTS, reason)


def test_a_thread_that_goes_on_emitting_does_not_hold_the_goodbye_up(run_script: Run, daemon: Daemon) -> None:
    script = """
import time
bus = train("x")
def endless():
    while True:
        for _ in range(20):
            bus.event("y", loss=1.0)
        time.sleep(0.0002)  # what a daemon can take
threading.Thread(target=endless, daemon=True).start()
"""
    done = run_script(TRAIN + script, daemon)
    assert done.returncode == 0, done.stderr
    (rank,) = daemon.ask("show", "x")["ranks"]
    assert rank["reason"] == "finished"


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_a_child_that_attaches_itself_says_goodbye_for_itself(run_script: Run, daemon: Daemon, how: str) -> None:
    script = f"""
if __name__ == "__main__":
    train("parent")
    child = multiprocessing.get_context("{how}").Process(target=train, args=["child"])
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""
    done = run_script(TRAIN + script, daemon)
    assert done.returncode == 0, done.stderr
    assert arrived(daemon, "child") == (EVENTS, "finished")
    assert arrived(daemon, "parent") == (EVENTS, "finished")


def test_a_forked_child_that_attaches_itself_says_goodbye_for_itself(run_script: Run, daemon: Daemon) -> None:
    done = run_script(TRAIN + "train('parent')\nif os.fork() == 0:\n    train('child')\nelse:\n    os.wait()", daemon)
    assert done.returncode == 0, done.stderr
    assert arrived(daemon, "child") == (EVENTS, "finished")
    assert arrived(daemon, "parent") == (EVENTS, "finished")


# Each says that it is ready, waits for what is done to its daemon, and ends. TWENTY sessions that waited for a second
# each would take longer than is allowed.
STEP = "print('ready', flush=True)\ninput()\n"
TWENTY = 20
GATE = """
import logging  # before the end: an import by another thread just then is Python's own crash (3.11)
bus = train("x", hooks=[dict(type="CheckInvalidLossHook", interval=1)])
def endless():
    while True:
        try:
            bus.report(loss=float("nan"))
        except hookbus.TrainingStopped:
            pass
"""
STUCK = {
    "one session": "bus = train('x')\n" + STEP + "bus.event('after_train')",
    "many sessions": f"buses = [train('x') for _ in range({TWENTY})]\n" + STEP + "[bus.event('y') for bus in buses]",
    "closed by hand": "bus = train('x')\n" + STEP + "bus.event('y')\nbus.close()",
    "a signal handler": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nbus = train('x')\n"
    + STEP
    + "bus.event('y')\nos.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()",
    "a signal handler while a gate waits": GATE
    + STEP
    + """
def end(main):
    while sys._current_frames()[main].f_code.co_name != "report":  # it holds the GIL there unless it waits
        pass
    os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
threading.Thread(target=end, args=[threading.get_ident()], daemon=True).start()
endless()
""",
    "a thread": "it = threading.Thread(target=train, args=['x'])\nit.start()\nit.join()\n" + STEP,
    "a daemon thread that still emits": """
def endless(bus):
    while True:
        bus.event("y", loss=1.0)
bus = train("x")
threading.Thread(target=endless, args=[bus], daemon=True).start()
"""
    + STEP,
    "a daemon thread at a gate": GATE + STEP + "threading.Thread(target=endless, daemon=True).start()",
    "a fork that exits": "bus = train('x')\n" + STEP + "if os.fork() == 0: sys.exit(0)\nos.wait()",
    "a fork that leaves": "bus = train('x')\n" + STEP + "if os.fork() == 0: os._exit(0)\nos.wait()",
    "a fork of multiprocessing": "bus = train('x')\n"
    + STEP
    + "child = multiprocessing.get_context('fork').Process(target=bus.event, args=['y'])\nchild.start()\nchild.join()",
    "a fork that attaches": "bus = train('x')\n"
    + STEP
    + "if os.fork() == 0: hookbus.attach('y', timeout_s=0.1).event('y')\nelse: os.wait()",
}


@pytest.mark.parametrize("what", ["killed", "stopped"])
@pytest.mark.parametrize("end", STUCK)
def test_a_daemon_that_does_not_answer_holds_up_nobody(
    start_script: Start, daemon: Daemon, end: str, what: str
) -> None:
    timed = f"""
import time
atexit.register(lambda: print(time.monotonic() - began))
def begin():
    global began
    began = time.monotonic()
{STUCK[end]}
atexit.register(begin)
"""
    training = start_script(TRAIN + (timed if end == "many sessions" else STUCK[end]), daemon.address)
    wait_for_step(training)
    if what == "killed":
        daemon.kill()
    else:
        daemon.process.send_signal(signal.SIGSTOP)
    told(training)
    code, out, err = ended(training)
    assert code == 0, err
    if end == "many sessions":
        assert float(out) < TWENTY / 2


def test_a_session_whose_daemon_does_not_answer_takes_nothing_from_another_one(
    start_script: Start, start_daemon: Callable[..., Daemon]
) -> None:
    stuck, well = start_daemon(), start_daemon()
    script = f"one = train('one', address={stuck.address!r})\ntwo = train('two', address={well.address!r})\n"
    training = start_script(TRAIN + script + STEP + "one.event('y')\ntwo.event('y')", stuck.address)
    wait_for_step(training)
    stuck.process.send_signal(signal.SIGSTOP)
    told(training)
    code, _, err = ended(training)
    assert code == 0, err
    assert arrived(well, "two") == (EVENTS + 1, "finished")


def test_a_daemon_that_is_back_hears_the_end(start_script: Start, start_daemon: Callable[..., Daemon]) -> None:
    first = start_daemon()
    training = start_script(TRAIN + "bus = train('x')\n" + STEP + "bus.event('y')", first.address)
    wait_for_step(training)
    first.kill()
    second = start_daemon(socket=first.socket)
    told(training)
    code, _, err = ended(training)
    assert code == 0, err
    (rank,) = second.ask("show", "x")["ranks"]
    assert rank["reason"] == "finished"


def test_a_training_goes_on_where_hookbus_run_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN + "bus = train('x')\n" + STEP + "bus.event('y')\nbus.close()\nprint('trained')")
    training = subprocess.Popen(
        [str(binary("hookbus")), "run", "--", sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(HOOKBUSD=str(binary("hookbusd")), TMPDIR=str(tmp_path)),
    )
    wait_for_step(training)
    training.kill()
    training.wait()
    told(training)
    assert said(training) == "trained"
    training.communicate(timeout=PATIENCE_S)
