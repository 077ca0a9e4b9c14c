"""The dispatcher: calls in, answers out, and nothing that a hook does leaves it but as an answer."""

from __future__ import annotations

import json
import math

import pytest
from own_hooks import HEAD, Daemonlike, Load, load_text

__all__ = ["load_text"]

SEES = """
    fields = ("loss", "lr", "grad")
    memory = True
    desired = True
    def after_train_iter(self, event, cx):
        Own.seen = (event, cx)
"""


def own(text: str, load_text: Load, **opened: object) -> Daemonlike:
    return Daemonlike(load_text(HEAD + text), **opened)


def test_an_event_says_what_it_has_and_why_not(load_text: Load) -> None:
    loaded = load_text(HEAD + SEES)
    daemon = Daemonlike(loaded)
    unknown = {"lr": "on device"}
    assert daemon.call(at=(1, 12, 2), unknown=unknown, held_on=[0, 2], rss_bytes=7, loss=math.nan) == ([], None, "", "")
    event, _ = loaded.module.Own.seen
    assert (event.point, event.rank, event.epoch, event.iter, event.inner_iter) == ("after_train_iter", 0, 1, 12, 2)
    assert (event.held_on, event.rss_bytes, event.gate) == ((0, 2), 7, False)
    assert math.isnan(event["loss"])
    assert ("loss" in event, "lr" in event, list(event), len(event)) == (True, False, ["loss"], 1)
    assert event.get("lr") is None
    assert event.get("lr", 0.5) == 0.5
    assert event.unknown == unknown
    with pytest.raises(LookupError, match="lr is unknown at after_train_iter: on device"):
        event["lr"]
    with pytest.raises(KeyError, match=r"no 'accuracy'; it has: loss\. A hook gets what its `fields` name"):
        event["accuracy"]


def test_memory_is_a_number_with_its_age_or_says_why_not(load_text: Load) -> None:
    loaded = load_text(HEAD + SEES)
    daemon = Daemonlike(loaded)
    numbers = [
        ("host_available_bytes", None, 5.0, "", 0.25, "/proc/meminfo"),
        ("cgroup_working_set_bytes", None, None, "no cgroup here", 0.0, ""),
        ("gpu_used_bytes", 0, 1.0, "", 0.5, "nvml"),
        ("gpu_used_bytes", 1, 2.0, "", 0.5, "nvml"),
        ("gpu_busy_percent", 1, 99.0, "", 0.5, "nvml"),
    ]
    daemon.call(memory=numbers)
    memory = loaded.module.Own.seen[1].memory
    host = memory["host_available_bytes"]
    assert (host.value, host.age_s, host.source, host.unknown) == (5.0, 0.25, "/proc/meminfo", None)
    group = memory["cgroup_working_set_bytes"]
    assert group.unknown == "no cgroup here"
    with pytest.raises(LookupError, match="cgroup_working_set_bytes is unknown: no cgroup here"):
        _ = group.value
    assert memory["gpu_busy_percent"].value == 99.0
    assert (memory.of_gpu("gpu_used_bytes", 1).value, memory.gpus("gpu_used_bytes")) == (2.0, [0, 1])
    with pytest.raises(KeyError, match="is there of the GPUs 0, 1: say which"):
        memory["gpu_used_bytes"]
    with pytest.raises(KeyError, match="no 'gpu_used_bytes' of GPU 7; there is of: 0, 1"):
        memory.of_gpu("gpu_used_bytes", 7)
    with pytest.raises(KeyError, match="there is no 'swap'; there is: host_available_bytes"):
        memory["swap"]
    assert set(memory) == {number[0] for number in numbers}


def test_what_was_not_asked_for_says_how_to_ask(load_text: Load) -> None:
    daemon = own("    def after_train_iter(self, event, cx):\n        cx.memory\n", load_text)
    assert daemon.call()[2] == (
        "LookupError: this hook does not get memory: write `memory = True` into its class (my_hooks.py:7)"
    )
    daemon = own("    def after_train_iter(self, event, cx):\n        cx.desired\n", load_text)
    assert "write `desired = True` into its class" in daemon.call()[2]


def test_the_run_and_its_facts_are_there_and_change(load_text: Load) -> None:
    loaded = load_text(HEAD + SEES)
    daemon = Daemonlike(loaded)
    daemon.call(desired={"generation": 3})
    _, cx = loaded.module.Own.seen
    assert (cx.run.name, cx.run.id, cx.run.attempt, cx.run.world_size) == ("digits", "digits@1", 0, 1)
    assert (cx.run.max_epochs, cx.run.groups, cx.run.scheduler) == (None, [], None)
    assert cx.desired == {"generation": 3}
    daemon.dispatcher.facts(
        1, {"max_epochs": 3, "iters_per_epoch": 10, "groups": [(0.1, "head")], "scheduler": "StepLR"}
    )
    assert (cx.run.max_epochs, cx.run.iters_per_epoch, cx.run.groups) == (3, 10, [(0.1, "head")])
    assert cx.run.scheduler == "StepLR"


DECISIONS = {
    "cx.stop('bad')": ("stop", "bad", [(20, "bad")]),
    "cx.stop('bad', logs=[])": ("stop", "bad", []),
    "cx.stop('bad', logs=['a', ('warning', 'b'), (40, 'c')])": ("stop", "bad", [(20, "a"), (30, "b"), (40, "c")]),
    "cx.log('a')": ("log", 20, "a"),
    "cx.log('a', 'ERROR')": ("log", 40, "a"),
    "cx.log('a', level=10)": ("log", 10, "a"),
    "cx.warn('a')": ("log", 30, "a"),
    "cx.incident('a')": ("incident", "a"),
    "cx.lr(0.1)": ("lr", None, "value", 0.1),
    "cx.lr(scale=0.5, group=1)": ("lr", 1, "scale", 0.5),
    "cx.lr(release=True)": ("lr", None, "release", 0.0),
    "cx.size(416, 640)": ("size", 416, 640),
    "cx.mode()": ("mode", None, []),
    "cx.mode(from_epoch=285, skip_types=['Mosaic'])": ("mode", 285, ["Mosaic"]),
    "cx.set_epoch()": ("set_epoch", True),
    "cx.set_epoch(False)": ("set_epoch", False),
    "cx.sync_norm()": ("sync_norm", True),
    "cx.checkpoint()": ("checkpoint", ""),
    "cx.checkpoint('best')": ("checkpoint", "best"),
    "cx.custom('unfreeze', {'layers': [1, 2]})": ("custom", "unfreeze", '{"layers": [1, 2]}'),
}


@pytest.mark.parametrize("line", DECISIONS)
def test_every_decision_can_be_taken(line: str, load_text: Load) -> None:
    daemon = own(f"    def after_train_iter(self, event, cx):\n        {line}\n", load_text)
    assert daemon.call() == ([DECISIONS[line]], None, "", "")


MISTAKES = {
    "cx.stop(3)": "TypeError: cx.stop(reason=3): it is a text",
    "cx.log('a', 'loud')": "ValueError: cx.log(level='loud'): one of debug, info, warning, error",
    "cx.lr()": "TypeError: cx.lr() wants one of value=, scale= and release=True",
    "cx.lr(0.1, scale=0.5)": "TypeError: cx.lr() wants one of",
    "cx.lr(scale=math.nan)": "ValueError: cx.lr(scale=nan): a learning rate is finite",
    "cx.lr(-1)": "ValueError: cx.lr(value=-1): a learning rate is finite and not below 0",
    "cx.lr('fast')": "TypeError: cx.lr(value='fast'): it is no number",
    "cx.lr(0.1, group=-1)": "ValueError: cx.lr(group=-1): from 0 to 65535",
    "cx.size(0, 32)": "ValueError: cx.size(height=0): from 1 to",
    "cx.size(32.5, 32)": "TypeError: cx.size(height=32.5): it is a whole number",
    "cx.mode(skip_types='Mosaic')": "TypeError: cx.mode(skip_types='Mosaic'): a list of names",
    "cx.custom('a', {1j})": "TypeError: cx.custom('a', ...): the payload is no JSON",
    "cx.custom('a', math.nan)": "ValueError: cx.custom('a', ...): the payload is no JSON",
    "cx.incident('x' * 70_000)": "ValueError: cx.incident(text=...): 70000 characters are too many",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_names_the_hooks_own_line_and_decides_nothing(line: str, load_text: Load) -> None:
    daemon = own(f"    def after_train_iter(self, event, cx):\n        cx.log('before')\n        {line}\n", load_text)
    decisions, state, error, traceback = daemon.call()
    assert (decisions, state) == ([], None)
    assert error.startswith(MISTAKES[line]), error
    assert error.endswith("(my_hooks.py:8)")
    assert "Traceback" in traceback
    assert line.split("(")[0] in traceback


def test_whatever_is_raised_is_an_answer_and_the_next_call_is_made(load_text: Load) -> None:
    daemon = own(
        "    def after_train_iter(self, event, cx):\n"
        "        if event.iter == 0: raise KeyError('no such thing')\n"
        "        if event.iter == 1: raise SystemExit(3)\n"
        "        if event.iter == 2: self.after_train_iter(event, cx)\n"
        "        if event.iter == 3: raise RuntimeError('x' * 10_000 + '\\nsecond line')\n"
        "        if event.iter == 4: __import__('json').loads('{')\n"
        "        cx.log('fine')\n",
        load_text,
    )
    said = [daemon.call(at=(0, iter, 0)) for iter in range(6)]
    assert said[0][2] == "KeyError: no such thing (my_hooks.py:7)"
    assert said[1][2] == "SystemExit: 3 (my_hooks.py:8)"
    assert said[2][2].startswith("RecursionError")
    assert len(said[3][2]) < 600
    assert "\n" not in said[3][2]
    assert said[4][2].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert said[4][2].endswith("(my_hooks.py:11)"), "the hook's line, not the library's"
    assert all(len(each[3]) < 20_000 for each in said)
    assert said[5][0] == [("log", 20, "fine")]


COUNTS = """
    def __init__(self):
        self.n = 0
    def after_train_iter(self, event, cx):
        self.n += event.get("loss", 0)
    def state_dict(self):
        return {"n": self.n}
    def load_state_dict(self, state):
        self.n = state["n"]
"""


def test_state_is_sent_where_it_changed_and_taken_back(load_text: Load) -> None:
    daemon = own(COUNTS, load_text)
    assert daemon.call()[1] is None, "as the constructor left it"
    assert json.loads(daemon.call(loss=2.0)[1] or "") == {"n": 2.0}
    assert daemon.call()[1] is None
    daemon.open(states={"Own": '{"n": 40.0}'})
    assert daemon.call()[1] is None, "as it was given"
    assert json.loads(daemon.call(loss=2.0)[1] or "") == {"n": 42.0}
    daemon.open()
    assert json.loads(daemon.call(loss=1.0)[1] or "") == {"n": 1.0}, "a new attempt begins anew"


def test_a_state_that_cannot_be_kept_or_taken_back_is_an_error(load_text: Load) -> None:
    daemon = own(COUNTS, load_text)
    assert "state_dict() gave what is no JSON" in daemon.call(loss=math.nan)[2]
    daemon.open(states={"Own": "[]"})
    said = [daemon.call() for _ in range(2)]
    assert said[0] == said[1]
    assert said[0][2].startswith("its state cannot be taken back: TypeError: ")
    assert said[0][2].endswith("(my_hooks.py:14)")
    daemon = own("    def after_train_iter(self, event, cx): ...\n", load_text, states={"Own": "1"})
    assert "Own got a state, and has no load_state_dict()" in daemon.call()[2]
    daemon = own(COUNTS.replace('{"n": self.n}', '"x" * 2_000_000'), load_text)
    assert "at most 1048576 are kept" in daemon.call()[2]


def test_runs_are_apart_and_a_closed_one_is_gone(load_text: Load) -> None:
    from hookbus.hooks._dispatch import Opened

    daemon = own(COUNTS, load_text)
    daemon.dispatcher.opened(Opened(2, "other", "other@1", 0, 1, None, {}))
    rest = ({"loss": 1.0}, {}, None, False, 50, [], [], None)
    calls = [(id, run, "Own", 0, "after_train_iter", 0, 0, 0, *rest) for id, run in ((1, 1), (1, 2), (2, 1))]
    answers = daemon.dispatcher.calls(calls)
    assert [(run, id, state) for run, id, _, state, _, _ in answers] == [
        (1, 1, '{"n": 1.0}'),
        (2, 1, '{"n": 1.0}'),
        (1, 2, '{"n": 2.0}'),
    ]
    daemon.dispatcher.closed(2)
    daemon.dispatcher.facts(2, {"max_epochs": 1})
    assert daemon.dispatcher.calls(calls[1:2])[0][4] == "run 2 was not opened"
    assert "no hook Onw in this module" in daemon.call(hook="Onw")[2]
    assert "no method before_run" in daemon.call(point="before_run")[2]
    daemon.dispatcher.lost()
    assert daemon.call()[2] == "run 1 was not opened"
