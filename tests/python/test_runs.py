"""Whole runs, with the real daemon, client and operator: many ranks, two runs, a double, a restart, a full buffer."""

from __future__ import annotations

import re
import signal
import subprocess
import textwrap
from collections.abc import Callable

from conftest import PATIENCE_S, ROOT, Daemon, Start, binary, clean_environment, ended, operator, said, told

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ENDLESS = """
import hookbus, itertools, sys, time
with hookbus.attach("endless", max_epochs=1) as bus:
    for i in bus.iters(itertools.count()):
        bus.report(loss=1.0)
        if i == 0:
            print("training", flush=True)
        time.sleep(0.002)
"""


def test_an_operators_stop_ends_a_training_and_names_its_rank(start_script: Start, daemon: Daemon) -> None:
    training = start_script(ENDLESS, daemon.address)
    assert said(training) == "training"
    sent = operator(daemon, "send", "endless", "stop")
    assert sent.returncode == 0, sent.stderr
    assert re.search(r"rank 0|^\s*0\b", sent.stdout, re.MULTILINE), sent.stdout
    assert "applied" in sent.stdout
    code, _, err = ended(training)
    assert code != 0
    assert "TrainingStopped" in err
    assert daemon.ask("show", "endless")["run"]["phase"] == "stopped"


def test_a_stop_for_a_run_that_is_not_there_names_those_that_are(start_script: Start, daemon: Daemon) -> None:
    training = start_script(ENDLESS, daemon.address)
    assert said(training) == "training"
    sent = operator(daemon, "send", "other", "stop")
    assert sent.returncode != 0
    assert "endless" in sent.stderr


EIGHT = """
import hookbus
hooks = [dict(type="CheckInvalidLossHook", interval=4)]
with hookbus.attach("eight", hooks=hooks, max_epochs=1) as bus:
    print(bus.status()["run_id"], flush=True)
    input()
    for i in bus.iters(range(20)):
        at = i
        try:
            bus.report(loss=float("nan") if i >= 5 else 1.0)
        except hookbus.TrainingStopped as stop:
            print(at, stop.by, flush=True)
            break
"""


def test_eight_ranks_at_once_are_one_run_and_stop_at_one_iteration(start_script: Start, daemon: Daemon) -> None:
    launched = {"WORLD_SIZE": "8", "HOOKBUS_LAUNCH": "L1"}
    ranks = [start_script(EIGHT, daemon.address, RANK=str(rank), LOCAL_RANK=str(rank), **launched) for rank in range(8)]
    assert {said(rank) for rank in ranks} == {"eight@L1"}
    for rank in ranks:
        told(rank)
    for rank in ranks:
        code, out, err = ended(rank)
        assert (code, out.split()) == (0, ["7", "CheckInvalidLossHook"]), err
    shown = daemon.ask("show", "eight")
    assert shown["run"]["world_size"] == 8
    assert sorted(rank["rank"] for rank in shown["ranks"]) == list(range(8))
    assert {rank["position"]["iter"] for rank in shown["ranks"]} == {7}
    assert all(rank["dropped"] == 0 for rank in shown["ranks"])
    stops = [result["rank"] for result in shown["results"] if result["what"].startswith("stop")]
    assert sorted(stops) == list(range(8))


TWO = """
import hookbus
with hookbus.attach("same", max_epochs=1) as bus:
    print(bus.status()["run_id"], flush=True)
    input()
    bus.report(loss=1.0)
"""


def test_two_trainings_from_one_shell_are_two_runs(start_script: Start, daemon: Daemon) -> None:
    trainings = [start_script(TWO, daemon.address) for _ in range(2)]
    names = [said(training) for training in trainings]
    assert len(set(names)) == 2
    for training in trainings:
        told(training)
        assert ended(training)[0] == 0
    runs = {run["id"]: run["phase"] for run in daemon.ask("runs")}
    assert {runs[name] for name in names} == {"finished"}


def test_the_same_live_rank_again_is_fenced_and_trains_on(start_script: Start, daemon: Daemon) -> None:
    first = start_script(TWO, daemon.address, HOOKBUS_LAUNCH="L1")
    assert said(first) == "same@L1"
    second = start_script(TWO, daemon.address, HOOKBUS_LAUNCH="L1")
    said(second)
    told(second)
    code, _, err = ended(second)
    assert code == 0, err
    assert "rank 0" in err
    assert len(err.splitlines()) == 1, err
    told(first)
    code, _, err = ended(first)
    assert (code, err) == (0, "")
    assert daemon.ask("show", "same")["ranks"][0]["position"]["iter"] == 0


REPLAY = """
import hookbus, sys
with hookbus.attach("replay", max_epochs=1) as bus:
    for i in bus.iters(range(300)):
        if i in (100, 200):
            print("at", i, flush=True)
            input()
        bus.report(loss=float(i))
    print("all", flush=True)
    input()
    print(bus.status()["dropped"])
"""


def wait_for(what: str, fact: Callable[[], object]) -> None:
    """Asks until it is so; the wait is the test's patience, never its meaning."""
    import time

    until = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < until, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.02)


def test_a_restarted_daemon_gets_what_was_not_settled(start_script: Start, start_daemon: Callable[..., Daemon]) -> None:
    first = start_daemon()
    training = start_script(REPLAY, first.address)
    assert said(training) == "at 100"
    wait_for("the first hundred", lambda: first.ask("show", "replay")["ranks"][0]["last"].get("loss") == 99)
    first.kill()
    told(training)
    assert said(training) == "at 200"
    again = start_daemon(socket=first.socket)
    wait_for("what was said to nobody", lambda: (rank := _rank(again, "replay")) and rank["last"].get("loss", 0) == 199)
    told(training)
    assert said(training) == "all"
    wait_for("the last", lambda: _rank(again, "replay")["last"].get("loss") == 299)
    told(training)
    code, out, err = ended(training)
    assert (code, out.strip()) == (0, "0"), err
    rank = _rank(again, "replay")
    assert (rank["position"]["iter"], rank["dropped"]) == (299, 0)
    assert again.ask("show", "replay")["run"]["phase"] == "finished"


def _rank(daemon: Daemon, run: str) -> dict:
    runs = [one for one in daemon.ask("runs") if one["name"] == run]
    return daemon.ask("show", runs[0]["id"])["ranks"][0] if runs else {}


FLOOD = """
import hookbus
with hookbus.attach("flood", max_epochs=1) as bus:
    print("attached", flush=True)
    input()
    padding = {f"metric_{n}": float(n) for n in range(64)}
    for i in bus.iters(range(40_000)):
        bus.report(loss=1.0, **padding)
    print(bus.status()["dropped"], flush=True)
    input()
"""


def test_a_full_buffer_drops_the_oldest_and_show_counts_them(start_script: Start, daemon: Daemon) -> None:
    training = start_script(FLOOD, daemon.address)
    assert said(training) == "attached"
    daemon.process.send_signal(signal.SIGSTOP)  # it is there and takes nothing: the worst daemon
    told(training)
    dropped = int(said(training))
    assert dropped > 0
    daemon.process.send_signal(signal.SIGCONT)
    wait_for("all of what was kept", lambda: _rank(daemon, "flood").get("acked") == 80_000)
    told(training)
    code, _, err = ended(training)
    assert code == 0, err
    (rank,) = daemon.ask("show", "flood")["ranks"]
    assert rank["dropped"] >= dropped
    assert sum(rank["dropped_points"].values()) == rank["dropped"]
    assert rank["dropped"] + rank["events"] == 80_000  # before and after each iteration: seen, or counted as not seen
    assert rank["position"]["iter"] == 39_999
    assert f"{rank['dropped']}" in operator(daemon, "show", "flood").stdout.replace(",", "").replace(" ", "")


def test_over_tcp_one_may_look_and_not_act(start_script: Start, start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon('[listen]\ntcp = "127.0.0.1:0"\n')
    tcp = next(one for one in daemon.ask("doctor")["daemon"]["listening"] if one.startswith("http"))
    training = start_script(ENDLESS, daemon.address)
    assert said(training) == "training"
    looked = subprocess.run(
        [str(binary("hookbus")), "--address", tcp, "runs"], capture_output=True, text=True, env=clean_environment()
    )
    assert "endless" in looked.stdout, looked.stderr
    acted = subprocess.run(
        [str(binary("hookbus")), "--address", tcp, "send", "endless", "stop"],
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert acted.returncode != 0
    assert len(acted.stderr.strip().splitlines()) == 1, acted.stderr
    assert training.poll() is None


def test_the_readmes_example_trains(run_script: Run, daemon: Daemon) -> None:
    # what is between them, for MMEngine, is taken by a daemon in test_hook_docs.py
    example, _, steered = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    bind = "    bus.bind(optimizer=optimizer, model=model)\n"
    assert bind in example
    example = example.replace(bind, textwrap.indent(steered, "    "))
    before = """
class Optimizer:
    param_groups = [{"lr": 0.1}]
class Scheduler:
    def step(self):
        pass
optimizer, model, loader, scheduler = Optimizer(), object(), list(range(3)), Scheduler()
augment = save = print
steps = []
def step(batch):
    steps.append(batch)
    return 0.5 if len(steps) < 50 else float("nan")
"""
    done = run_script(before + example, daemon)
    assert "TrainingStopped" in done.stderr, done.stderr
    shown = daemon.ask("show", "digits")
    assert shown["run"]["phase"] == "stopped"
    assert shown["run"]["position"]["iter"] == 49  # the invalid loss of iteration 49, where the hook is due
