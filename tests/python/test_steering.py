"""Steering, with the real daemon, client and operator: schedules, sizes, mode and operators' orders in a plain loop."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable

import pytest
from conftest import Daemon, Start, ended, operator, said, told

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# a trainer's parts, as small as they can be
PARTS = """
import hookbus, json, logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
class Optimizer:
    def __init__(self, *rates):
        self.param_groups = [{"lr": rate} for rate in rates]
    def rates(self):
        return [group["lr"] for group in self.param_groups]
YOLOX = dict(type="YOLOXLrUpdaterHook", num_last_epochs=2, min_lr_ratio=0.05, by_epoch=False,
             warmup="exp", warmup_iters=1, warmup_ratio=1, warmup_by_epoch=True)
"""


def curve(base: float, iters_per_epoch: int, max_epochs: int) -> list[float]:
    """The formula of YOLOXLrUpdaterHook with the arguments above, in the order of mmcv's operations."""
    warmup, last, end = iters_per_epoch, 2 * iters_per_epoch, iters_per_epoch * max_epochs
    rates = []
    for iteration in range(end):
        if iteration < warmup:
            rates.append(base * (1 * pow((iteration + 1) / float(warmup), 2)))
        elif iteration + 1 >= end - last:
            rates.append(base * 0.05)
        else:
            share = (iteration + 1 - warmup) / (end - warmup - last)
            target = base * 0.05
            rates.append(target + 0.5 * 1.0 * (base - target) * (math.cos(math.pi * share) + 1))
    return rates


SCHEDULED = (
    PARTS
    + """
import os, signal
epochs, iters, resume, daemon_pid = map(int, sys.argv[1:5])
optimizer, seen = Optimizer(0.01, 0.3, 0.01), []
with hookbus.attach("scheduled", hooks=[YOLOX], max_epochs=epochs, iters_per_epoch=iters) as bus:
    bus.bind(optimizer=optimizer)
    bus.resume(resume, resume * iters)
    for epoch in bus.epochs():
        for i in bus.iters(range(iters)):
            if daemon_pid and not seen:
                os.kill(daemon_pid, signal.SIGKILL)
            seen.append(optimizer.rates())
            bus.report(loss=1.0)
        if epoch == resume:
            # what loading a checkpoint does: the groups are new objects
            optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
print(json.dumps(seen))
"""
)


@pytest.mark.parametrize(("epochs", "iters", "resume"), [(7, 9, 0), (300, 10, 0), (12, 5, 9)])
def test_the_learning_rate_is_the_formulas_bit_for_bit_from_the_first_iteration_on(
    run_script: Run, daemon: Daemon, epochs: int, iters: int, resume: int
) -> None:
    done = run_script(SCHEDULED, daemon, str(epochs), str(iters), str(resume), "0")
    assert done.returncode == 0, done.stderr
    small, large = (curve(base, iters, epochs)[resume * iters :] for base in (0.01, 0.3))
    assert json.loads(done.stdout) == [list(rates) for rates in zip(small, large, small, strict=True)]
    shown = daemon.ask("show", "scheduled")
    (result,) = [result for result in shown["results"] if result["what"] == "lr"]
    assert result["result"]["outcome"] == "applied"
    assert result["result"]["at"]["iter"] == resume * iters
    assert result["result"]["old"] == "0.01, 0.3, 0.01"
    assert shown["incidents"] == []


def test_a_daemon_killed_right_after_before_train_changes_no_learning_rate_of_100_000_iterations(
    run_script: Run, daemon: Daemon
) -> None:
    done = run_script(SCHEDULED, daemon, "100", "1000", "0", str(daemon.process.pid))
    assert done.returncode == 0, done.stderr
    daemon.process.wait()
    small, large = (curve(base, 1000, 100) for base in (0.01, 0.3))
    assert json.loads(done.stdout) == [list(rates) for rates in zip(small, large, small, strict=True)]


REFUSED = (
    PARTS
    + """
class CosineAnnealingLR:
    def step(self): pass
known = json.loads(sys.argv[1])
sizes = dict(type="SyncRandomSizeHook", ratio_range=(1, 2))
with hookbus.attach("refused", hooks=[YOLOX, sizes], size_multiple=int(sys.argv[2]), **known) as bus:
    optimizer = Optimizer(0.01)
    bus.bind(optimizer=optimizer, scheduler=CosineAnnealingLR() if sys.argv[3] else None)
    bus.event("before_train")
    for i in bus.iters(range(6)):
        bus.report(loss=1.0)
    print(optimizer.rates())
    for line in bus.status()["refused"]:
        print(line)
"""
)


@pytest.mark.parametrize(
    ("known", "multiple", "scheduler", "says"),
    [
        ({}, 0, "", "max_iters"),
        ({"max_epochs": 3, "iters_per_epoch": 4}, 0, "", "warm-up"),  # 1 + 2 = 3: MMDetection divides by zero
        ({"max_epochs": 9, "iters_per_epoch": 4}, 0, "own", "CosineAnnealingLR"),
        ({"max_epochs": 9, "iters_per_epoch": 4}, 64, "", "64"),
    ],
)
def test_a_hook_that_cannot_work_with_the_facts_is_refused_with_the_reason_and_the_training_goes_on(
    run_script: Run, daemon: Daemon, known: dict[str, int], multiple: int, scheduler: str, says: str
) -> None:
    done = run_script(REFUSED, daemon, json.dumps(known), str(multiple), scheduler)
    assert done.returncode == 0, done.stderr
    refused = [line for line in done.stdout.splitlines() if line.startswith("hook ")]
    assert any(says in line for line in refused), (refused, says)
    assert all(any(line in told for told in done.stderr.splitlines()) for line in refused), done.stderr
    if multiple == 0:
        assert done.stdout.splitlines()[0] == "[0.01]"
    shown = daemon.ask("show", "refused")
    assert any(says in one["reason"] for one in shown["refused"])


HELD = (
    PARTS
    + """
class Chained:  # as PyTorch's chainable schedulers: the next rate is made from the one that is there
    def __init__(self, optimizer):
        self.optimizer = optimizer
    def step(self):
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.9
optimizer = Optimizer(1.0, 2.0)
scheduler = Chained(optimizer) if sys.argv[1] == "scheduler" else None
hooks = [YOLOX] if sys.argv[1] == "schedule" else []
seen = []
with hookbus.attach("held", hooks=hooks, max_epochs=4, iters_per_epoch=10) as bus:
    bus.bind(optimizer=optimizer, scheduler=scheduler)
    for epoch in bus.epochs():
        for i in bus.iters(range(10)):
            if (epoch, i) == (0, 5):
                print("ready", flush=True)
                input()
            seen.append(optimizer.rates())
            if scheduler:
                scheduler.step()
            bus.report(loss=1.0)
print(json.dumps([seen, optimizer.rates()]), flush=True)
"""
)


@pytest.mark.parametrize("kind", ["scheduler", "schedule", "neither"])
def test_an_operators_hold_stands_over_a_schedule_or_a_scheduler_until_it_is_released(
    start_script: Start, daemon: Daemon, kind: str
) -> None:
    training = start_script(HELD, daemon.address, kind)
    assert said(training) == "ready"  # in iteration 5
    orders = [
        ("lr", "--scale", "0.5", "--at-iter", "10"),
        ("lr", "--value", "0.125", "--group", "1", "--at-epoch", "2"),
        ("lr", "--release", "--at-iter", "30"),
    ]
    senders = [
        subprocess.Popen(
            [*operator.command(daemon), "send", "held", *order, "--json"], stdout=subprocess.PIPE, text=True
        )
        for order in orders
    ]
    answers = []
    for sender in senders:
        assert sender.stdout is not None
        answers.append(json.loads(sender.stdout.readline()))  # taken by the daemon, on its way to the trainer
    assert [answer["waiting"] for answer in answers] == [[0]] * 3
    wait_for_state(daemon, "held", 3)
    told(training)
    code, out, err = ended(training)
    assert code == 0, err
    seen, last = json.loads(out)
    own = {
        "scheduler": [[0.9**i, 2 * 0.9**i] for i in range(40)],
        "schedule": [list(pair) for pair in zip(curve(1.0, 10, 4), curve(2.0, 10, 4), strict=True)],
        "neither": [[1.0, 2.0]] * 40,
    }[kind]
    for i, rates in enumerate(seen):
        first, second = own[i]
        if 10 <= i < 30:
            first *= 0.5
            second = 0.125 if i >= 20 else second * 0.5
        assert rates == pytest.approx([first, second], rel=1e-12), i
    assert last == pytest.approx([0.9**40, 2 * 0.9**40] if kind == "scheduler" else own[-1], rel=1e-12)
    for sender, at in zip(senders, (10, 20, 30), strict=True):
        result = json.loads(sender.communicate()[0].splitlines()[-1])["result"]
        assert (sender.returncode, result["outcome"], result["at"]["iter"]) == (0, "applied", at)
    wanted = daemon.ask("show", "held")["wanted"]
    assert [one for one in wanted if one["by"].startswith("operator")] == []  # a release leaves nothing


def wait_for_state(daemon: Daemon, run: str, holds: int) -> None:
    """Until the trainer has heard of every order: the daemon has sent the state before it answers this."""
    shown = daemon.ask("show", run)
    assert len([one for one in shown["wanted"] if one["by"].startswith("operator")]) == holds


STEERED = (
    PARTS
    + """
class Dataset:
    def update_skip_type_keys(self, keys):
        print("skip", keys, flush=True)
    def update_dynamic_scale(self, size):
        print("size", size, flush=True)
class Head:
    use_l1 = False
class Model:
    bbox_head = Head()
    def set_epoch(self, epoch):
        print("set_epoch", epoch, flush=True)
class Sampler:
    def set_epoch(self, epoch):
        print("sampler", epoch, flush=True)
class Loader(list):
    dataset, num_workers, persistent_workers = Dataset(), 0, False
    def __iter__(self):
        print("iterator", flush=True)
        return super().__iter__()
hooks = [
    dict(type="SyncRandomSizeHook", ratio_range=(2, 2), img_scale=(640, 1280), interval=2),
    dict(type="YOLOXModeSwitchHook", num_last_epochs=1, skip_type_keys=("Mosaic",)),
    dict(type="SetEpochInfoHook"),
]
loader, model = Loader(range(2)), Model()
with hookbus.attach("steered", hooks=hooks, max_epochs=4, iters_per_epoch=2) as bus:
    bus.bind(model=model, loader=loader, sampler=Sampler())
    bus.resume(int(sys.argv[1]), 2 * int(sys.argv[1]))
    for epoch in bus.epochs():
        for batch in bus.iters(loader):
            bus.report(loss=1.0)
print("L1", model.bbox_head.use_l1)
"""
)


def test_size_mode_and_epoch_are_applied_before_the_iterator_of_their_epoch(run_script: Run, daemon: Daemon) -> None:
    done = run_script(STEERED, daemon, "0")
    assert done.returncode == 0, done.stderr
    epoch = "set_epoch {0}\nsampler {0}\n"
    assert done.stdout == (
        epoch.format(0)
        + "iterator\n"
        + epoch.format(1)
        + "iterator\n"
        + "skip ('Mosaic',)\n"
        + epoch.format(2)
        + "size (64, 128)\niterator\n"
        + epoch.format(3)
        + "iterator\nL1 True\n"
    )
    results = {one["what"]: one["result"] for one in daemon.ask("show", "steered")["results"]}
    assert results["mode"]["at"] == {"epoch": 2, "iter": 4, "inner_iter": 0}
    assert (results["mode"]["point"], results["mode"]["old"]) == ("before_train_epoch", "off")
    assert (results["size"]["at"]["epoch"], results["size"]["new"]) == (2, "64 x 128")
    assert results["set_epoch"]["outcome"] == "applied"


def test_a_resume_after_the_points_gets_what_holds_there(run_script: Run, daemon: Daemon) -> None:
    done = run_script(STEERED, daemon, "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "skip ('Mosaic',)\nset_epoch 3\nsampler 3\nsize (64, 128)\niterator\nL1 True\n"


HANDLERS = (
    PARTS
    + """
def broken(size):
    raise MemoryError("no room for that")
allow = json.loads(sys.argv[1])
with hookbus.attach("handlers", max_epochs=1, allow=allow) as bus:
    bus.bind(optimizer=Optimizer(0.5))
    bus.on("size", broken)
    bus.on("checkpoint", lambda tag: f"/tmp/{tag}.pt")
    bus.on("custom:double", lambda value: 2 * value["x"])
    import itertools, time
    for epoch in bus.epochs():
        for i in bus.iters(itertools.count()):
            bus.report(loss=1.0)
            if i == 0:
                print("training", flush=True)
            time.sleep(0.002)
"""
)


def test_every_order_has_a_result_and_the_exit_status_tells(start_script: Start, daemon: Daemon) -> None:
    training = start_script(HANDLERS, daemon.address, "null")
    assert said(training) == "training"
    for words, code, says in [
        (("checkpoint", "--tag", "here"), 0, "/tmp/here.pt"),
        (("custom", "double", '{"x": 4}', "--ranks", "0"), 0, "8"),
        (("log", "look at this", "--level", "warning"), 0, "applied"),
        (("size", "64", "64"), 1, "MemoryError: no room for that"),
        (("mode", "on"), 1, "epoch"),  # this epoch never ends, so it expires
        (("custom", "treble"), 1, "unsupported"),
        (("custom", "double", "{x}"), 1, "no JSON"),
        (("lr", "--value", "0.1", "--group", "3"), 1, "there is no parameter group 3"),
        (("lr", "--value", "nan"), 1, "finite number"),
        (("lr", "--scale", "2", "--at-iter", "0"), 1, "iteration 0 has passed"),
        (("stop", "--at-epoch", "5"), 1, "epoch 5 never comes"),
        (("checkpoint", "--ranks", "7"), 1, "rank 7"),
    ]:
        timeout = ("--timeout", "1") if words[0] == "mode" else ()
        sent = operator(daemon, "send", "handlers", *words, *timeout)
        assert sent.returncode == code, (words, sent.stdout, sent.stderr)
        if words[0] != "mode":
            assert says in sent.stdout + sent.stderr, (words, sent.stdout, sent.stderr)
    sent = operator(daemon, "send", "handlers", "stop")
    assert sent.returncode == 0, sent.stderr
    code, _, err = ended(training)
    assert "look at this" in err
    assert "TrainingStopped" in err


def test_the_trainers_allow_list_is_the_last_word(start_script: Start, daemon: Daemon) -> None:
    training = start_script(HANDLERS, daemon.address, '["log", "checkpoint"]')
    assert said(training) == "training"
    for words in (("lr", "--value", "0.1"), ("stop",), ("custom", "double", '{"x": 4}'), ("size", "32", "32")):
        sent = operator(daemon, "send", "handlers", *words)
        assert sent.returncode == 1, sent.stdout
        assert "allow-list" in sent.stdout, sent.stdout
    assert operator(daemon, "send", "handlers", "checkpoint").returncode == 0
    assert training.poll() is None
    assert daemon.ask("show", "handlers")["wanted"] == []  # nobody applied them, so they are withdrawn


LATE = (
    PARTS
    + """
with hookbus.attach("late", hooks=[YOLOX], max_epochs=8, iters_per_epoch=10, timeout_s=0.1) as bus:
    optimizer = Optimizer(0.5)
    bus.bind(optimizer=optimizer)
    bus.event("before_train")
    for i in bus.iters(range(10)):
        bus.report(loss=1.0)
    print("training", flush=True)
    input()
    import time
    while not bus.status()["connected"]:
        bus.event("before_val_iter")
        time.sleep(0.01)
    print("connected", flush=True)
    while optimizer.rates() == [0.5]:
        for i in bus.iters(range(1)):
            held = optimizer.rates()
            bus.report(loss=1.0)
        optimizer.param_groups[0]["lr"] = held[0]
        time.sleep(0.005)
print(held, flush=True)
"""
)


def test_a_daemon_that_comes_late_puts_no_schedule_in_force_and_an_operator_can_still_steer(
    start_script: Start, start_daemon: Callable[..., Daemon]
) -> None:
    first = start_daemon()
    first.kill()
    first.socket.unlink()
    training = start_script(LATE, first.address)
    assert said(training) == "training"
    daemon = start_daemon(socket=first.socket)
    told(training)
    assert said(training) == "connected"
    sent = operator(daemon, "send", "late", "lr", "--value", "0.25")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    code, out, err = ended(training)
    assert (code, out) == (0, "[0.25]\n"), err
    (incident,) = daemon.ask("show", "late")["incidents"]
    assert incident["kind"] == "not_applied"
    assert "YOLOXLrUpdaterHook" in incident["text"]
    assert "after training had begun" in incident["text"]


RANKS = (
    PARTS
    + """
import itertools, time
with hookbus.attach("ranks", hooks=[YOLOX], max_epochs=9, iters_per_epoch=1000) as bus:
    optimizer = Optimizer(*([0.5] * int(sys.argv[1])))
    bus.bind(optimizer=optimizer)
    bus.event("before_train")
    print("ready", flush=True)
    for i in bus.iters(itertools.count()):
        bus.report(loss=1.0)
        time.sleep(0.001)
"""
)


def test_ranks_that_differ_are_an_incident_and_each_says_what_it_did(start_script: Start, daemon: Daemon) -> None:
    launched = {"WORLD_SIZE": "2", "HOOKBUS_LAUNCH": "L"}
    first = start_script(RANKS, daemon.address, "1", RANK="0", **launched)
    assert said(first) == "ready"
    second = start_script(RANKS, daemon.address, "2", RANK="1", **launched)
    assert said(second) == "ready"
    sent = operator(daemon, "send", "ranks", "lr", "--scale", "0.5", "--group", "0")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    incidents = {one["kind"]: one["text"] for one in daemon.ask("show", "ranks")["incidents"]}
    assert "parameter groups" in incidents["facts_differ"]
    assert "is for 1 parameter groups, the optimizer has 2" in incidents["not_applied"]
    assert "rank 1 rejected" in incidents["mixed_results"]


def test_a_watch_shows_events_decisions_state_commands_and_results(start_script: Start, daemon: Daemon) -> None:
    training = start_script(HANDLERS, daemon.address, "null")
    assert said(training) == "training"
    watch = subprocess.Popen(
        [*operator.command(daemon), "watch", "handlers", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    json.loads(watch.stdout.readline())  # it follows
    operator(daemon, "send", "handlers", "lr", "--value", "0.1")
    operator(daemon, "send", "handlers", "checkpoint")
    operator(daemon, "send", "handlers", "stop")
    ended(training)
    seen: dict[str, dict] = {}
    for line in watch.stdout:
        happened = json.loads(line)
        seen.setdefault(f"{happened['kind']} {happened[happened['kind']].__class__.__name__}", happened)
        kinds = {kind.split()[0] for kind in seen}
        if kinds >= {"event", "state", "command", "result", "lifecycle"}:
            break
    watch.kill()
    watch.communicate()
    assert {kind.split()[0] for kind in seen} >= {"event", "state", "command", "result", "lifecycle"}
