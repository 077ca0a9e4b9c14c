"""Hooks of one's own with the real daemon and real loops: what they decide is done, and no more of them is felt."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE_S, Daemon, Start, binary, clean_environment, ended, said
from own_hooks import HEAD
from test_hook_guide import CHECK, PLATEAU

Serve = Callable[..., "subprocess.Popen[str]"]

TRAIN = """
import json, math, sys, hookbus
epochs, iters, bad, wait = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
import time

class Optimizer:
    param_groups = [{"lr": 0.1}]

losses, rates, weight = [], [], 1.0
with hookbus.attach("digits", max_epochs=epochs, iters_per_epoch=iters) as bus:
    assert bus.status()["connected"], bus.status()
    bus.bind(optimizer=Optimizer)
    try:
        for epoch in bus.epochs():
            for i in bus.iters(range(iters)):
                if wait:
                    sys.stdin.readline()
                rates.append(Optimizer.param_groups[0]["lr"])
                weight -= 0.1 * math.sin(weight * len(losses))
                loss = weight if len(losses) < bad else math.nan
                losses.append(loss)
                bus.report(loss=loss)
                if wait:
                    print(len(losses) - 1, flush=True)
            if wait and epoch == epochs - 1:
                sys.stdin.readline()  # what is decided late still comes
            bus.event("before_val")
            bus.event("before_val_epoch")
            bus.event("after_val_epoch", val_loss=1.0)
            bus.event("after_val")
    except hookbus.TrainingStopped as stopped:
        print(json.dumps({"stopped": str(stopped), "at": len(losses) - 1}))
print(json.dumps({"losses": losses[:bad], "rates": rates}))
"""
NEVER = str(10**9)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves the text as my_hooks.py by hand, and waits until the daemon has taken it."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, daemon: Daemon, *words: str) -> subprocess.Popen[str]:
        file = tmp_path / "my_hooks.py"
        file.write_text(text)
        command = [str(binary("hookbus")), "--address", daemon.address, "hooks", "serve", str(file), *words]
        command += ["--python", sys.executable]
        environment = clean_environment()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
        started.append(process)
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("hookbus: serving "):
                return process
        raise AssertionError(said)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def hooks_of(daemon: Daemon) -> dict[str, dict]:
    return {hook["name"]: hook for hook in daemon.ask("show", "digits")["hooks"]}


def until(fact: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < end, what
        os.sched_yield()


def train(start_script: Start, daemon: Daemon, *words: str) -> tuple[int, list[dict], str]:
    status, out, err = ended(start_script(TRAIN, daemon.address, *words))
    return status, [json.loads(line) for line in out.splitlines()], err


def test_the_pages_check_stops_a_real_loop_where_the_built_in_one_does(
    daemon: Daemon, start_daemon: Callable[..., Daemon], serve: Serve, start_script: Start
) -> None:
    serve(CHECK, daemon, "--hook", "CheckInvalidLossHook(interval=10)")
    status, (stopped, _), err = train(start_script, daemon, "3", "20", "32", "0")
    assert (status, stopped["at"]) == (0, 39), err
    assert stopped["stopped"].startswith("loss become infinite or NaN!")
    assert "loss become infinite or NaN!" in err, "the line in the trainer's log"
    built_in = start_daemon('[[hooks]]\ntype = "CheckInvalidLossHook"\ninterval = 10\n')
    _, (same, _), _ = train(start_script, built_in, "3", "20", "32", "0")
    assert same["at"] == stopped["at"]
    hook = hooks_of(daemon)["CheckInvalidLossHook"]
    assert (hook["module"], hook["decisions"], hook["errors"]) == ("my_hooks", 1, 0)


def test_a_run_is_replayed_from_its_journal_beside_a_daemon_and_without_one(
    daemon: Daemon, serve: Serve, start_script: Start, tmp_path: Path
) -> None:
    serve(CHECK, daemon, "--hook", "CheckInvalidLossHook(interval=10)")
    status, (stopped, _), err = train(start_script, daemon, "3", "20", "32", "0")
    assert (status, stopped["at"]) == (0, 39), err
    (tmp_path / "digits").mkdir()  # a folder of the run's name is not what is meant

    def replayed(interval: int, *words: str) -> list[tuple[str, str, int, int]]:
        command = [str(binary("hookbus")), *words, "hooks", "test", "my_hooks.py", "--python", sys.executable, "--json"]
        command += ["--hook", f"CheckInvalidLossHook(interval={interval})"]
        command += ["--replay", "digits"] if words else ["--replay", "LAST", "--state", str(daemon.state)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path, env=clean_environment()
        )
        assert done.returncode == 0, done.stderr
        decisions = json.loads(done.stdout)["decisions"]
        return [(each["which"], each["point"], each["epoch"], each["iter"]) for each in decisions]

    then, before = ("after_train_iter", 1, 39), ("after_train_iter", 1, 35)
    live = ("--address", daemon.address)
    assert replayed(10, *live) == [("same", *then)]
    assert replayed(4, *live) == [("only now", *before), ("only then", *then)]
    daemon.kill()
    assert replayed(10) == [("same", *then)]
    assert replayed(4) == [("only now", *before), ("only then", *then)]


def test_the_pages_plateau_lowers_a_real_rate(daemon: Daemon, serve: Serve, start_script: Start) -> None:
    serve(PLATEAU, daemon, "--hook", "ReduceOnPlateau(patience=1, factor=0.5)")
    process = start_script(TRAIN, daemon.address, "4", "5", NEVER, "1")
    assert process.stdin is not None
    assert process.stdout is not None

    def steps(count: int) -> None:
        for _ in range(count):
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()

    steps(16)
    until(lambda: hooks_of(daemon)["ReduceOnPlateau"]["decisions"] == 1, "the rate is not lowered")
    steps(4)
    out, err = process.communicate(timeout=PATIENCE_S)
    rates = json.loads(out)["rates"]
    assert rates[:15] == [0.1] * 15, err
    assert rates[-3:] == [0.05] * 3, "from the next boundary on, after the third epoch without a fall"


def test_a_hook_that_raises_is_switched_off_and_the_training_goes_on(
    daemon: Daemon, serve: Serve, start_script: Start
) -> None:
    serve(HEAD + "    gate = True\n    def after_train_iter(self, event, cx):\n        1 / 0\n", daemon)
    status, (told,), err = train(start_script, daemon, "2", "20", NEVER, "0")
    assert status == 0, err
    assert len(told["losses"]) == 40
    hook = hooks_of(daemon)["Own"]
    assert (hook["errors"], hook["decisions"]) == (5, 0)
    assert "ZeroDivisionError: division by zero (my_hooks.py:8)" in hook["disabled"]
    incidents = daemon.ask("show", "digits")["incidents"]
    (incident,) = [each for each in incidents if each["kind"] == "hook_failed"]
    assert "Own" in incident["text"]


def test_a_hook_that_hangs_costs_one_deadline(daemon: Daemon, serve: Serve, start_script: Start) -> None:
    serve(
        HEAD + "    gate = True\n    deadline_ms = 200\n    def after_train_iter(self, event, cx):\n"
        "        while event.iter >= 5: pass\n",
        daemon,
    )
    began = time.monotonic()
    status, (told,), err = train(start_script, daemon, "2", "200", NEVER, "0")
    assert status == 0, err
    assert len(told["losses"]) == 400
    assert time.monotonic() - began < 30, "395 gates of 200 ms would be 79 s"
    assert hooks_of(daemon)["Own"]["timeouts"] >= 1


def module(folder: Path, text: str, hook: str = 'type = "Own"\n') -> str:
    """A configuration beside whose file the module is, as the daemon's own lines have it."""
    (folder / "my_hooks.py").write_text(text)
    return f'[providers]\npython = "{sys.executable}"\npath = ["{folder}"]\n[[hooks]]\nmodule = "my_hooks"\n{hook}'


def test_a_line_of_the_configuration_is_enough(
    start_daemon: Callable[..., Daemon], start_script: Start, tmp_path: Path
) -> None:
    daemon = start_daemon(module(tmp_path, CHECK, 'type = "CheckInvalidLossHook"\ninterval = 10\n'))
    status, (stopped, _), err = train(start_script, daemon, "3", "20", "32", "0")
    assert (status, stopped["at"]) == (0, 39), err
    assert hooks_of(daemon)["CheckInvalidLossHook"]["args"] == {"interval": "10"}


def test_what_does_not_hold_is_told_where_a_run_is_looked_at(
    start_daemon: Callable[..., Daemon], start_script: Start, tmp_path: Path
) -> None:
    daemon = start_daemon(module(tmp_path, "1 / 0\n"))
    status, (told,), err = train(start_script, daemon, "1", "5", NEVER, "0")
    assert (status, len(told["losses"])) == (0, 5), err
    shown = json.dumps(daemon.ask("show", "digits"))
    assert "module my_hooks does not import: ZeroDivisionError: division by zero (my_hooks.py:1)" in shown


COUNTS = HEAD + (
    '    fields = ("loss",)\n    def __init__(self):\n        self.n = 0\n'
    "    def after_train_iter(self, event, cx):\n        self.n += 1\n"
    "        if event.iter % 5 == 4: cx.log(f'seen {self.n} at {event.iter}')\n"
    "    def state_dict(self): return self.n\n    def load_state_dict(self, state): self.n = state\n"
)


def test_a_provider_that_is_killed_ten_times_changes_no_loss_and_decides_on(
    daemon: Daemon, serve: Serve, start_script: Start
) -> None:
    provider = serve(COUNTS, daemon)

    def kill() -> None:
        nonlocal provider
        provider.kill()
        provider.wait()
        provider = serve(COUNTS, daemon)

    decides_on(daemon, start_script, kill, kills=10)


def test_the_daemon_starts_its_own_provider_again(
    start_daemon: Callable[..., Daemon], start_script: Start, tmp_path: Path
) -> None:
    daemon = start_daemon(module(tmp_path, COUNTS))
    killed: set[int] = set()

    def kill() -> None:
        (provider,) = children(daemon.process.pid)
        killed.add(provider)
        os.kill(provider, signal.SIGKILL)

    decides_on(daemon, start_script, kill, kills=3)
    assert len(killed) == 3


# numpy's PCG64 has integers of 128 bits in its state, and a dict has an order.
LARGE = HEAD + (
    '    fields = ("loss",)\n    def __init__(self):\n        self.state = {"z": 2**100, "a": 1}\n'
    '    def after_train_iter(self, event, cx):\n        self.state["z"] += 1\n'
    "        if event.iter % 5 == 4: cx.log(f'seen {self.state[\"z\"] - 2**100} at {event.iter}')\n"
    "    def state_dict(self): return self.state\n"
    "    def load_state_dict(self, state):\n"
    "        assert list(state) == ['z', 'a'], state\n        self.state = state\n"
)


def test_a_state_outlives_its_provider_and_the_daemon_as_it_was(
    start_daemon: Callable[..., Daemon], start_script: Start, tmp_path: Path
) -> None:
    config = module(tmp_path, LARGE)
    first = daemon = start_daemon(config)
    kills = 0

    def kill() -> None:
        nonlocal daemon, kills
        kills += 1
        if kills % 2:
            (provider,) = children(daemon.process.pid)
            os.kill(provider, signal.SIGKILL)
        else:
            daemon.kill()
            daemon = start_daemon(config, socket=first.socket, state=first.state)

    decides_on(first, start_script, kill, kills=4)
    assert kills == 4


def decides_on(daemon: Daemon, start_script: Start, kill: Callable[[], None], kills: int) -> None:
    """A training whose provider is killed each ten iterations: it sees and decides the same as one that lives."""
    iters = 10 * (kills + 1)
    process = start_script(TRAIN, daemon.address, "1", str(iters), NEVER, "1")
    assert process.stdin is not None
    assert process.stdout is not None
    for iter in range(iters):
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        if iter % 10 == 9:
            decided = (iter + 1) // 5
            until(lambda: hooks_of(daemon)["Own"]["decisions"] == decided, f"decision {decided} has not come")  # noqa: B023
            if iter + 1 < iters:
                kill()
    out, err = process.communicate(timeout=PATIENCE_S)
    hook = hooks_of(daemon)["Own"]
    assert (hook["disabled"], hook["missed"], hook["calls"]) == (None, 0, iters)
    seen = re.findall(r"seen (\d+) at (\d+)", err)
    assert seen == [(str(iter + 1), str(iter)) for iter in range(4, iters, 5)], "nothing twice and nothing forgotten"
    alone = TRAIN.replace("assert bus.status()", "assert True or bus.status()")
    status, without, err = ended(start_script(alone, "unix:///nowhere.sock", "1", str(iters), NEVER, "0"))
    assert status == 0, err
    assert json.loads(out) == json.loads(without)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


SWITCHED = """
import json, sys, hookbus

seen = []

class Model:
    def set_epoch(self, epoch):
        seen.append(["set_epoch", epoch])

with hookbus.attach("digits", max_epochs=10**6, iters_per_epoch=2) as bus:
    assert bus.status()["connected"], bus.status()
    bus.bind(model=Model())
    bus.on("mode", lambda skip_types: seen.append(["mode", skip_types]))
    sys.stdin.readline()
    for epoch in bus.epochs():
        for i in bus.iters(range(2)):
            bus.report(word=float(sys.stdin.readline() or sys.exit()))
        bus.event("before_val")
        bus.event("before_val_epoch")
        bus.event("after_val")
        print(json.dumps(seen), flush=True)
        seen.clear()
        sys.stdin.readline()  # the next epoch begins when it may
"""
SWITCHES = HEAD + (
    '    fields = ("word",)\n    def after_train_iter(self, event, cx):\n'
    "        if event['word'] == 1: cx.set_epoch(True)\n"
    "        if event['word'] == 2: cx.set_epoch(False)\n"
    "        if event['word'] == 3: cx.mode(skip_types=('MixUp',))\n"
    "        if event['word'] == 4: cx.sync_norm(True)\n"
    "        if event['word'] == 5: cx.sync_norm(False)\n"
)


def test_what_a_hook_switches_while_a_real_loop_runs_holds_from_the_next_boundary_on(
    daemon: Daemon, serve: Serve, start_script: Start
) -> None:
    serve(SWITCHES, daemon)
    process = start_script(SWITCHED, daemon.address)
    assert process.stdin is not None
    given: list[list] = []

    def step(word: int = 0) -> list:
        """One epoch, with a word to the hook in its first iteration: what the trainer was given in it."""
        process.stdin.write(f"\n{word}\n0\n")
        process.stdin.flush()
        given.append(json.loads(said(process)))
        return given[-1]

    def results(what: str) -> list[tuple]:
        seen = [one["result"] for one in daemon.ask("show", "digits")["results"] if one["what"] == what]
        seen.sort(key=lambda result: result["at"]["iter"])
        return [(result["outcome"], result["old"], result["new"]) for result in seen]

    def answered(word: int, what: str) -> int:
        """The hook has its word; epochs go by until the trainer has said what it did: the next one."""
        before = len(results(what))
        step(word)
        until(lambda: len(results(what)) > before or step() is None, f"nothing became of word {word}")
        return len(given)

    assert step() == []
    on = answered(1, "set_epoch")
    assert step() == [["set_epoch", on]]
    answered(2, "set_epoch")
    assert step() == []
    again = answered(1, "set_epoch")
    assert step() == [["set_epoch", again]]
    answered(3, "mode")
    answered(4, "sync_norm")
    (incident,) = daemon.ask("show", "digits")["incidents"]
    assert (incident["kind"], incident["open"]) == ("not_applied", True)
    assert "norm states are averaged where torch.distributed is up" in incident["text"], "it was asked of the loop"
    answered(5, "sync_norm")
    step()

    shown = daemon.ask("show", "digits")
    assert [incident["open"] for incident in shown["incidents"]] == [False]
    (first, switched, second) = results("set_epoch")
    assert (first[:2], switched, second[:2]) == (("applied", None), ("applied", "on", "off"), ("applied", None))
    assert results("mode") == [("applied", "off", None)]
    assert results("sync_norm") == [("unsupported", None, None), ("applied", "on", "off")]
    wanted = {each["field"]: each["text"] for each in shown["wanted"]}
    assert wanted == {"set_epoch": "on", "sync_norm": "off", "mode": "from epoch 0 without MixUp"}
    words = [word for of_epoch in given for word in of_epoch]
    assert [word for word in words if word[0] == "mode"] == [["mode", ["MixUp"]]], "once"
    epochs = [epoch for epoch, of_epoch in enumerate(given) if ["set_epoch", epoch] in of_epoch]
    assert len(epochs) == len(words) - 1, "each its own, and once"
    gaps = [epoch for epoch, after in itertools.pairwise([*epochs, len(given)]) if after != epoch + 1]
    assert len(gaps) == 1, (epochs, "on, off and on again")
