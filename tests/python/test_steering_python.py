"""Learning rates in a Python trainer's optimizers and schedulers: held ones end with the iteration and leave nothing.

PyTorch's shapes are played by small classes, whose parts are those of torch 1.13 and 2.4; where torch is installed, its
own are used too.
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
