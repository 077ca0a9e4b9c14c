"""Learning rates in a Python trainer's optimizers and schedulers: held ones end with the iteration and leave nothing.

PyTorch's shapes are played by small classes, whose parts are those of torch 1.13 and 2.4; its own are used too, where
`make test` has torch.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Daemon, operator

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# The trainer, who also is the operator: it iterates until its order has a result.
PARTS = """
import hookbus, itertools, json, pickle, subprocess, sys, weakref
command, results = json.loads(sys.argv[1]), {}
YOLOX = dict(type="YOLOXLrUpdaterHook", num_last_epochs=1, min_lr_ratio=0.05, by_epoch=False,
             warmup="exp", warmup_iters=1, warmup_ratio=1, warmup_by_epoch=True)

class Optimizer:  # of no framework
    def __init__(self, *rates):
        self.param_groups, self.stepped = [{"lr": rate} for rate in rates], []
    def rates(self):
        return [group["lr"] for group in self.param_groups]
    def step(self):
        self.stepped.append(self.rates())

class Torch2(Optimizer):  # register_step_*_hook and profile_hook_step of torch.optim.Optimizer since 2.0
    def __init__(self, *rates):
        super().__init__(*rates)
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}
    def register_step_pre_hook(self, hook):
        self._optimizer_step_pre_hooks[len(self._optimizer_step_pre_hooks)] = hook
    def register_step_post_hook(self, hook):
        self._optimizer_step_post_hooks[len(self._optimizer_step_post_hooks)] = hook
    def step(self, *args, **kwargs):
        for hook in self._optimizer_step_pre_hooks.values():
            assert hook(self, args, kwargs) is None
        super().step()
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, args, kwargs)

class Torch1(Optimizer):  # without hooks; saves without its attributes
    def __getstate__(self):
        return {"param_groups": self.param_groups}
Torch1.__module__ = "torch.optim.played"

class Scheduler:  # torch's LRScheduler: chainable, its state is its attributes, it marks its optimizer's step
    def __init__(self, *optimizers, gamma=0.5, mark=False):
        self.optimizers, self.gamma, self.last_epoch = optimizers, gamma, 0
        for optimizer in optimizers if mark else ():
            optimizer.step = self.with_counter(optimizer.step)
    @staticmethod
    def with_counter(method):
        if getattr(method, "_with_counter", False):
            return method
        instance_ref, func = weakref.ref(method.__self__), method.__func__
        cls = instance_ref().__class__
        del method
        def wrapper(*args, **kwargs):
            return func.__get__(instance_ref(), cls)(*args, **kwargs)
        wrapper._with_counter = True
        return wrapper
    def step(self):
        self.last_epoch += 1
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= self.gamma
    def state_dict(self):
        return {key: value for key, value in self.__dict__.items() if key != "optimizers"}
    def load_state_dict(self, state):
        self.__dict__.update(state)

def order(*words, run="steered", iterate):
    sender = subprocess.Popen([*command, "send", run, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while sender.poll() is None:
        iterate()
    assert sender.returncode == 0, sender.communicate()[0].decode()

def attach(**known):
    return hookbus.attach("steered", max_epochs=10**6, iters_per_epoch=10, **known)
"""


@pytest.fixture
def train(run_script: Run, daemon: Daemon) -> Callable[..., Any]:
    """Runs a trainer and gives what it printed last, as JSON."""

    def train(text: str, *args: str) -> Any:
        done = run_script(PARTS + text, daemon, json.dumps(operator.command(daemon)), *args)
        assert done.returncode == 0, done.stderr
        assert "Exception ignored" not in done.stderr, done.stderr
        assert "panicked" not in done.stderr, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return train


SCHEDULER_STATE = """
class Slotted:
    __slots__ = ("steps",)
    def step(self):
        self.steps = 1
class Unhashable(Scheduler):
    __hash__ = None
class OfBase(Scheduler):  # step is its base class's
    pass
class Static:
    @staticmethod
    def step():
        pass
class Object:
    step = type("Callable", (), {"__call__": lambda self: None})()
optimizer, scheduler = Optimizer(1.0), Scheduler()
scheduler.optimizers = (optimizer,)
before = sorted(vars(scheduler))
with attach() as bus:
    inert = [kind(optimizer, gamma=1.0) for kind in (Unhashable, OfBase)]
    for other in (Slotted(), Static(), Object(), object(), *inert):
        bus.bind(scheduler=other)
        getattr(other, "step", print)()
    bus.bind(optimizer=optimizer, scheduler=scheduler)
    bus.bind(scheduler=scheduler)
    same = sorted(vars(scheduler)) == before
    saved = pickle.dumps(scheduler.state_dict())
    scheduler.step()
    scheduler.load_state_dict(pickle.loads(saved))
    def iterate():
        bus.event("before_train_iter")
        optimizer.step()
        bus.event("after_train_iter")
    order("lr", "--value", "7", iterate=iterate)
    bus.event("before_train_iter")
    optimizer.step()
    scheduler.step()
    after = optimizer.rates()
    other = Scheduler(optimizer)  # not bound: its class is, and it steps as ever
    other.step()
last = [optimizer.stepped[-1], after, optimizer.rates()]
print(json.dumps([same, scheduler.last_epoch, *last, Scheduler.step.__name__]))
"""


def test_a_bound_scheduler_keeps_its_state_and_steps_from_its_own_rate(train: Callable[..., Any]) -> None:
    assert train(SCHEDULER_STATE) == [True, 1, [7.0], [0.25], [0.125], "step"]


TORCH_STATE = """
import io, torch
def save(*things):
    file = io.BytesIO()
    torch.save([thing.state_dict() for thing in things], file)
    file.seek(0)
    return torch.load(file)
first, second = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2))
schedulers = [torch.optim.lr_scheduler.StepLR(first, 1, gamma=0.5)]  # one is made before bind, one after
with attach() as bus:
    bus.bind(optimizer=[first, second], scheduler=schedulers[0])
    schedulers += [torch.optim.lr_scheduler.StepLR(second, 1, gamma=0.5)]
    bus.bind(scheduler=schedulers[1])
    rates = lambda: [optimizer.param_groups[0]["lr"] for optimizer in (first, second)]
    def iterate(held=None):
        bus.event("before_train_iter")
        for optimizer in (first, second):
            parameter = optimizer.param_groups[0]["params"][0]
            before, parameter.grad = parameter.detach().clone(), torch.ones(1)
            optimizer.step()
            if held:
                assert (before - parameter).item() == held, (before, parameter, held)
        if held:
            for scheduler in schedulers:
                scheduler.step()
        bus.event("after_train_iter")
    order("lr", "--value", "7", iterate=iterate)
    iterate(held=7.0)
    state = save(first, second, *schedulers)
    copy = pickle.loads(pickle.dumps(first))
    assert not hasattr(copy.step, "__func__") or copy.step.__func__ is torch.optim.SGD.step
print(json.dumps([rates(), state[0]["param_groups"][0]["lr"], [scheduler.last_epoch for scheduler in schedulers]]))
"""


@pytest.mark.torch
def test_pytorchs_own_optimizers_and_schedulers(train: Callable[..., Any]) -> None:
    assert train(TORCH_STATE) == [[0.5, 0.5], 0.5, [1, 1]]


RESUMED = """
kind = sys.argv[2]
optimizers = [Optimizer(0.1, 0.2), Optimizer(0.3)] if kind == "several" else [Optimizer(0.1, 0.2)]
def train(optimizers, first, end, load=lambda: None):
    with hookbus.attach("steered", max_epochs=4, iters_per_epoch=10, hooks=[YOLOX]) as bus:
        bus.bind(optimizer=optimizers)
        load()
        bus.resume(first // 10, first)
        for i in range(first, end):
            bus.event("before_train_iter")
            seen[i] = [optimizer.rates() for optimizer in optimizers]
            bus.event("after_train_iter")
            if i == 19:
                global saved
                saved = [[dict(group) for group in optimizer.param_groups] for optimizer in optimizers]
seen = [None] * 40
train(optimizers, 0, 40)
whole, seen = seen, [None] * 40
again = [Optimizer(*optimizer.rates()) for optimizer in optimizers]  # with other rates than the bases
def load():
    for optimizer, groups in zip(again, saved):
        optimizer.param_groups = groups
if kind == "loaded after bind":
    train(again, 20, 40, load)
else:
    load()
    train(again, 20, 40)
print(json.dumps([[[group["initial_lr"] for group in groups] for groups in saved], whole[20:], seen[20:]]))
"""


@pytest.mark.parametrize("kind", ["one", "several", "loaded after bind"])
def test_a_resume_from_the_optimizers_checkpoint_goes_on_with_the_same_curve(
    train: Callable[..., Any], kind: str
) -> None:
    bases, whole, resumed = train(RESUMED, kind)
    assert bases == ([[0.1, 0.2], [0.3]] if kind == "several" else [[0.1, 0.2]])
    assert resumed == whole


HELD_ONLY = """
optimizer = Optimizer(0.1)
with attach() as bus:
    bus.bind(optimizer=optimizer)
    def iterate():
        bus.event("before_train_iter")
        optimizer.step()
        bus.event("after_train_iter")
    order("lr", "--value", "7", iterate=iterate)
    iterate()
print(json.dumps([optimizer.stepped[-1], optimizer.param_groups]))
"""


def test_a_hold_alone_leaves_nothing_in_a_group(train: Callable[..., Any]) -> None:
    assert train(HELD_ONLY) == [[7.0], [{"lr": 0.1}]]


LEAKS = """
optimizer, seen = Optimizer(1.0, 2.0), {}
bus = attach()
bus.bind(optimizer=optimizer)
bus.on("checkpoint", lambda tag: seen.setdefault("checkpoint", optimizer.rates()) and None)
bus.on("stop", lambda reason: seen.setdefault("stop", optimizer.rates()) and None)
how = sys.argv[2]
def iterate(ends=True):
    bus.event("before_train_iter")
    optimizer.step()
    if ends:
        bus.event("after_train_iter")
bus.event("before_train")
order("lr", "--scale", "0.5", iterate=iterate)
order("checkpoint", iterate=lambda: iterate(ends=False))
iterate(ends=False)
assert optimizer.rates() == [0.5, 1.0], "the iteration is under way"
if how == "close":
    bus.close()
elif how == "left":
    for i in bus.iters(range(3)):
        if i == 1:
            assert optimizer.rates() == [0.5, 1.0]
            break
else:
    try:
        words = ("stop",) if how == "stop" else ("stop", "--now")
        order(*words, iterate=iterate if how == "stop" else lambda: bus.event("before_val_iter"))
        bus.event("before_val_iter" if how == "stop now" else "before_train_iter")
    except hookbus.TrainingStopped:
        seen["caught"] = optimizer.rates()
print(json.dumps([seen, optimizer.rates(), optimizer.stepped[-1]]))
"""


@pytest.mark.parametrize("how", ["stop", "stop now", "close", "left"])
def test_a_held_rate_is_not_there_for_checkpoints_nor_after_the_end(train: Callable[..., Any], how: str) -> None:
    seen, after, stepped = train(LEAKS, how)
    assert after == [1.0, 2.0]
    assert stepped == [0.5, 1.0]
    own = [1.0, 2.0]
    assert seen == {"checkpoint": own} | ({"stop": own, "caught": own} if "stop" in how else {})


def test_a_script_that_raises_in_an_iteration_leaves_the_trainers_own_rate(train: Callable[..., Any]) -> None:
    text = """
optimizer = Optimizer(1.0)
try:
    with attach() as bus:
        bus.bind(optimizer=optimizer)
        def iterate():
            bus.event("before_train_iter")
            bus.event("after_train_iter")
        order("lr", "--value", "7", iterate=iterate)
        for i in bus.iters(range(3)):
            optimizer.step()
            raise MemoryError
except MemoryError:
    print(json.dumps([optimizer.stepped, optimizer.rates()]))
"""
    assert train(text) == [[[7.0]], [1.0]]


STEPS = """
kind, mark = globals()[sys.argv[2]], sys.argv[3] == "mark"
# as in a GAN, with a scheduler that nobody has told hookbus of, but its class's mark
first, second = kind(1.0), kind(2.0, 3.0)
with attach() as bus:
    bus.bind(optimizer={"generator": first, "discriminator": second})
    bus.bind(optimizer=[first, second])  # twice is once
    scheduler = Scheduler(first, mark=mark), Scheduler(second, mark=mark)
    bus.event("before_train")
    def iterate(steps=1, set_to=None, **metrics):
        for _ in bus.iters(range(1)):
            for step in range(steps):  # the closure of SAM, the epochs of PPO
                first.step()
                between.append((first.rates(), second.rates()))
                second.step()
            for one in scheduler if steps > 1 else ():
                one.step()
            if set_to:
                second.param_groups[1]["lr"] = set_to
            bus.report(**metrics)
    between = []
    order("lr", "--scale", "8", iterate=iterate)
    assert first.rates() + second.rates() == [1.0, 2.0, 3.0]
    del first.stepped[:], second.stepped[:], between[:]
    iterate(steps=3, set_to=5.0)
    steps = [list(first.stepped), list(second.stepped)]
    after = [first.rates(), second.rates()]
    iterate()
    again = [first.stepped[-1], second.stepped[-1]]
    order("lr", "--release", iterate=iterate)
    iterate()
    released = first.stepped[-1], second.stepped[-1], first.rates(), second.rates()
print(json.dumps([steps, between[:3], after, again, released]))
"""


@pytest.mark.parametrize(("kind", "mark"), [("Torch2", ""), ("Torch1", ""), ("Torch1", "mark")])
def test_each_optimizer_has_its_own_rates_between_steps_and_every_step_the_held_ones(
    train: Callable[..., Any], daemon: Daemon, kind: str, mark: str
) -> None:
    steps, between, after, again, released = train(STEPS, kind, mark)
    assert steps == [[[8.0]] * 3, [[16.0, 24.0]] * 3]
    assert between == [[[1.0], [2.0, 3.0]]] * 3
    assert after == [[0.5], [1.0, 5.0]], "the scheduler's half of its own, and what the trainer has set"
    assert again == [[4.0], [8.0, 40.0]]
    assert released == [[0.5], [1.0, 5.0], [0.5], [1.0, 5.0]]


BETWEEN = """
import copy
optimizer = globals()[sys.argv[2]](1.0)
with attach() as bus:
    bus.bind(optimizer=optimizer)
    bus.event("before_train")
    saved = []
    bus.on("checkpoint", lambda tag: saved.append(optimizer.rates()))
    def iterate(decay=1.0, skip=False):
        for _ in bus.iters(range(1)):
            for group in optimizer.param_groups:
                group["lr"] *= decay  # by hand, in the loop
            saved.append(copy.deepcopy(optimizer.param_groups)[0]["lr"])
            if not skip:  # as GradScaler skips one
                optimizer.step()
    order("lr", "--value", "8", iterate=iterate)
    del saved[:], optimizer.stepped[:]
    iterate(decay=0.5)
    iterate(decay=0.5, skip=True)
    iterate()
    held, between = list(optimizer.stepped), list(saved)
    order("lr", "--release", iterate=iterate)
    iterate()
print(json.dumps([held, between, optimizer.stepped[-1]]))
"""


@pytest.mark.parametrize("kind", ["Torch1", "Torch2"])
def test_between_steps_a_trainer_reads_its_own_rate_whatever_it_makes_of_it(
    train: Callable[..., Any], kind: str
) -> None:
    held, between, released = train(BETWEEN, kind)
    assert held == [[8.0]] * 2
    assert between == [0.5, 0.25, 0.25]
    assert released == [0.25]


CLOSED = """
import gc
class Model: pass
optimizer, model = globals()[sys.argv[2]](1.0), Model()
with attach() as bus:
    bus.bind(optimizer=optimizer, model=model)
    bus.on("checkpoint", lambda tag, model=model: None)
    bus.event("before_train")
    def iterate():
        for _ in bus.iters(range(1)):
            optimizer.step()
    order("lr", "--value", "8", iterate=iterate)
iterate()
closed, known = optimizer.stepped[-1], [weakref.ref(optimizer), weakref.ref(model)]
del bus, optimizer, model, iterate
gc.collect()
print(json.dumps([closed, [one() is None for one in known]]))
"""


@pytest.mark.parametrize("kind", ["Optimizer", "Torch1", "Torch2"])
def test_a_closed_bus_holds_no_rate_and_keeps_nothing_alive(train: Callable[..., Any], kind: str) -> None:
    assert train(CLOSED, kind) == [[1.0], [True, True]]


AWKWARD = """
import os
class Silent(Exception):
    def __str__(self):
        raise ValueError("no text")
def save(tag):
    if tag == "silent":
        raise Silent
    return os.fsdecode(b"/data/\\xe9/last.pt")
said = []
try:
    with attach() as bus:
        bus.on("checkpoint", save)
        bus.on("custom:deep", said.append)
        bus.event("before_train")
        def iterate():
            for _ in bus.iters(range(1)):
                pass
        order("checkpoint", "--tag", "last", iterate=iterate)
        for words in ("checkpoint", "--tag", "silent"), ("custom", "deep", "[" * 1500 + "]" * 1500):
            sender = subprocess.Popen([*command, "send", "steered", *words], stdout=subprocess.PIPE)
            while sender.poll() is None:
                iterate()
            said.append(sender.communicate()[0].decode())
        raise RuntimeError(os.fsdecode(b"cannot read \\xe9"))
except RuntimeError as error:
    said.append(type(error).__name__)
print(json.dumps(said))
"""


def test_no_text_and_no_depth_of_what_a_handler_gets_or_gives_reaches_the_training(train: Callable[..., Any]) -> None:
    silent, deep, ended = train(AWKWARD)
    assert "Silent: its text cannot be had" in silent
    assert "not JSON" in deep
    assert ended == "RuntimeError"


REBOUND = """
marked, plain = Torch2(1.0), Torch2(0.1)
Scheduler(marked, mark=True)
with hookbus.attach("steered", max_epochs=4, iters_per_epoch=10, hooks=[YOLOX]) as bus:
    bus.bind(optimizer=marked)
    bus.bind(optimizer=plain)
    for _ in bus.iters(range(3)):
        plain.step()
    refused = bus.status()["refused"]
print(json.dumps([refused, plain.stepped[0] != [0.1]]))
"""


def test_what_was_read_from_an_optimizer_that_is_bound_no_more_counts_no_more(train: Callable[..., Any]) -> None:
    assert train(REBOUND) == [[], True]


SET_MEANWHILE = """
kind = globals()[sys.argv[2]]
optimizer = kind(1.0)
with attach() as bus:
    bus.bind(optimizer=optimizer)
    def iterate(own=None):
        for _ in bus.iters(range(1)):
            if own:
                optimizer.param_groups[0]["lr"] = own  # adjust_learning_rate(optimizer, epoch), as many scripts do
            optimizer.step()
            bus.report()
    order("lr", "--value", "7", iterate=iterate)
    iterate(own=0.25)
print(json.dumps([optimizer.stepped[-1], optimizer.rates()]))
"""


@pytest.mark.parametrize(("kind", "stepped"), [("Torch2", 7.0), ("Torch1", 7.0), ("Optimizer", 0.25)])
def test_what_the_trainer_sets_in_an_iteration_is_not_lost(
    train: Callable[..., Any], kind: str, stepped: float
) -> None:
    assert train(SET_MEANWHILE, kind) == [[stepped], [0.25]]


REPORTED = """
kind = globals()[sys.argv[2]]
optimizer = kind(1.0)
scheduler = Scheduler(optimizer)
with attach() as bus:
    bus.bind(optimizer=optimizer, scheduler=scheduler if sys.argv[3] else None)
    def iterate(steps=False):
        for _ in bus.iters(range(1)):
            optimizer.step()
            if steps:
                scheduler.step()
            bus.report()
    order("lr", "--value", "7", iterate=iterate)
    bus.event = lambda point, **fields: seen.append(fields.get("lr")) or event(point, **fields)
    event, seen = bus._session.emit, []
    iterate(steps=True)
    scheduler.step()  # between two iterations, as once an epoch
    iterate()
    held = seen[1::2]
    order("lr", "--release", iterate=iterate)
    del seen[:]
    iterate(steps=True)
    released = seen[1::2]
print(json.dumps([optimizer.stepped[-1], held, released, optimizer.rates()]))
"""


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("Torch2", ""), ("Torch2", "bound"), ("Torch1", ""), ("Torch1", "bound"), ("Optimizer", "bound")],
)
def test_the_rate_that_is_reported_is_the_one_that_the_step_used(
    train: Callable[..., Any], daemon: Daemon, kind: str, bound: str
) -> None:
    stepped, held, released, after = train(REPORTED, kind, bound)
    assert held == [7.0, 7.0]
    assert (stepped, released, after) == ([0.25], [0.25], [0.125])


TENSORS = """
class Tensor:  # what is used of torch.Tensor
    def __init__(self, value):
        self.value, self._version = value, 0
    def fill_(self, value):
        self.value, self._version = float(value), self._version + 1
        return self
    def copy_(self, other):
        return self.fill_(other.value)
    def clone(self):
        return Tensor(self.value)
    def __float__(self):
        return self.value
shared, alone = Tensor(1.0), Tensor(2.0)
if sys.argv[2] == "torch":
    import torch
    shared, alone = torch.tensor(1.0), torch.tensor(2.0)
first, second = Torch2(0.0, 0.0, 0.0), Torch2(0.0)
for group, rate in zip(first.param_groups, (shared, shared, alone)):
    group["lr"] = rate
second.param_groups[0]["lr"] = shared
first.rates = lambda: [float(group["lr"]) for group in first.param_groups]
second.rates = lambda: [float(group["lr"]) for group in second.param_groups]
with attach() as bus:
    bus.bind(optimizer=[first, second])
    def iterate(own=None):
        for _ in bus.iters(range(1)):
            first.step()
            between = first.rates()
            second.step()
            if own:
                shared.fill_(own)
            bus.report()
            return between
    order("lr", "--value", "7", iterate=iterate)
    between = iterate()
    held = first.stepped[-1], second.stepped[-1], between, first.rates()
    iterate(own=0.5)
    iterate()
print(json.dumps([held, first.stepped[-1], first.rates(), first.param_groups[0]["lr"] is shared]))
"""


@pytest.mark.parametrize("whose", ["played", pytest.param("torch", marks=pytest.mark.torch)])
def test_a_rate_that_is_a_tensor_of_several_groups_is_kept_once_and_given_back_once(
    train: Callable[..., Any], whose: str
) -> None:
    held, own, later = [7.0, 7.0, 7.0], [1.0, 1.0, 2.0], [0.5, 0.5, 2.0]
    assert train(TENSORS, whose) == [[held, [7.0], own, own], held, later, True]


LATE_SCHEDULER = """
optimizer = globals()[sys.argv[2]](0.1)
with hookbus.attach("steered", max_epochs=4, iters_per_epoch=10, hooks=[YOLOX]) as bus:
    bus.bind(optimizer=optimizer)
    assert bus._session.flush(60.0)
    scheduler = Scheduler(optimizer, mark=True)
    bus.event("before_run")
    for _ in bus.iters(range(3)):
        optimizer.step()
        bus.report()
    refused = bus.status()["refused"]
print(json.dumps([optimizer.stepped, refused]))
"""


@pytest.mark.parametrize("kind", ["Optimizer", "Torch1", "Torch2"])
def test_a_scheduler_that_is_made_after_bind_is_noticed_when_training_begins(
    train: Callable[..., Any], kind: str
) -> None:
    stepped, refused = train(LATE_SCHEDULER, kind)
    assert stepped == [[0.1]] * 3
    assert any("YOLOXLrUpdaterHook" in line and "torch.optim.lr_scheduler" in line for line in refused), refused


NAMED_SCHEDULER = """
class CosineAnnealingLR(Scheduler):
    pass
optimizer = Optimizer(0.1)
with hookbus.attach("steered", max_epochs=4, iters_per_epoch=10, hooks=[YOLOX]) as bus:
    bus.bind(optimizer=optimizer)
    bus.bind(scheduler=CosineAnnealingLR(optimizer, mark=True))
    bus.event("before_train")
    print(json.dumps(bus.status()["refused"]))
"""


def test_a_bound_scheduler_is_named_as_it_is(train: Callable[..., Any]) -> None:
    refused = train(NAMED_SCHEDULER)
    assert any("CosineAnnealingLR" in line for line in refused), refused
