"""HookbusHook under a real Runner where something is missing or in another order."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import PATIENCE_S, Daemon, operator
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub
from originals import BatchSyncRandomResize
from rig import Rig, StandInLoader
from torch import nn

import hookbus
from hookbus.adapters.mmengine import HookbusHook

pytestmark = pytest.mark.torch


class Pictures:
    """Without update_skip_type_keys."""


def test_a_dataset_that_cannot_skip_is_reported_and_the_training_goes_on(daemon: Daemon, tmp_path: Path) -> None:
    model = nn.Module()
    model.bbox_head = nn.Module()
    hooks = [dict(type="YOLOXModeSwitchHook", num_last_epochs=1)]
    rig = Rig(daemon, tmp_path, hooks, model, StandInLoader(Pictures()), max_epochs=4)
    rig.begin()
    for epoch in range(4):
        rig.loop._epoch = epoch
        rig.reach("before_train_epoch")
        rig.reach("after_train_epoch")
    rig.end()
    assert rig.stop is None
    ((outcome, reason),) = rig.outcomes("mode")
    assert outcome == "failed"
    assert "update_skip_type_keys" in reason
    (error,) = [text for level, text in rig.logs if level == "ERROR"]
    assert "update_skip_type_keys" in error
    (incident,) = rig.shown()["incidents"]
    assert incident["kind"] == "not_applied"
    assert "update_skip_type_keys" in incident["text"]
    assert not hasattr(model.bbox_head, "use_l1"), "the original does not get there either"


@pytest.mark.parametrize(("priority", "before"), [(None, False), (48, True)])
def test_its_priority_is_set_as_that_of_any_hook(
    daemon: Daemon, tmp_path: Path, priority: int | None, before: bool
) -> None:
    rig = Rig(daemon, tmp_path, [], nn.Module())
    rig.runner._hooks.clear()
    rig.runner.register_hook(EMAHook())  # 49
    ours = {"type": "HookbusHook"} if priority is None else {"type": "HookbusHook", "priority": priority}
    rig.runner.register_hook(ours)
    order = [type(hook) for hook in rig.runner.hooks]
    assert order == ([HookbusHook, EMAHook] if before else [EMAHook, HookbusHook])


def test_the_smallest_priority_in_its_list_is_its_own() -> None:
    asked = [dict(type="SyncNormHook", priority=48), dict(type="CheckInvalidLossHook", priority="VERY_LOW")]
    assert HookbusHook(hooks=asked).priority == 48
    assert HookbusHook(hooks=[dict(type="SyncNormHook")]).priority == "NORMAL"


class Order:
    """An operator's, taken by the daemon and on its way to the trainer."""

    def __init__(self, rig: Rig, *words: str) -> None:
        command = [*operator.command(rig.daemon), "send", rig.run, *words, "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        json.loads(self.process.stdout.readline())

    def result(self) -> dict[str, Any]:
        lines = self.process.communicate(timeout=PATIENCE_S)[0].splitlines()
        return json.loads(lines[-1])["result"]


def train_until(rig: Rig, reached: Callable[[], bool]) -> int:
    """Iterates as a Runner does, until something has come from the daemon. Returns before which iteration it came."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        before = rig.loop._iter
        if not rig.reach("before_train_iter", batch_idx=before, data_batch=None) or reached():
            return before
        rig.reach("after_train_iter", batch_idx=before, data_batch=None, outputs={"loss": torch.tensor(1.0)})
        rig.loop._iter += 1
    raise AssertionError("it never came")


def test_an_input_size_goes_to_the_preprocessor_in_place_of_its_own_draw(daemon: Daemon, tmp_path: Path) -> None:
    resize = BatchSyncRandomResize(random_size_range=(480, 800), interval=1)
    model = nn.Module()
    model.data_preprocessor = SimpleNamespace(batch_augments=[resize])
    rig = Rig(daemon, tmp_path, [], model, StandInLoader(Pictures(), 10**9), max_epochs=10)
    rig.begin()
    order = Order(rig, "size", "64", "96")
    train_until(rig, lambda: resize._input_size is not None)
    assert order.result()["outcome"] == "applied"
    MessageHub.get_current_instance().update_info("iter", 0)
    state = torch.random.get_rng_state()
    for _ in range(3):
        pictures, _samples = resize(torch.zeros(2, 3, 32, 32), [])
        assert pictures.shape[-2:] == (64, 96), "it would have drawn another one after the first"
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.save(resize, tmp_path / "resize.pth")  # a model that is saved whole still can be
    rig.end()


def test_the_allocators_numbers_go_with_an_iteration(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda _device: {"allocated_bytes.all.current": 512 << 20})
    rig = Rig(daemon, tmp_path, [], nn.Module(), StandInLoader(None, 3), max_epochs=1)
    rig.begin()
    rig.reach("before_train_iter", batch_idx=0, data_batch=None)
    rig.reach("after_train_iter", batch_idx=0, data_batch=None, outputs={"loss": torch.tensor(1.0)})
    rig.end()
    shown = json.dumps(rig.shown())
    assert f'"cuda_allocated_bytes": {512 << 20}' in shown, shown
    assert '"cuda_device": 1' in shown, shown


def test_a_stop_before_an_epoch_ends_the_loop_by_its_own_means(daemon: Daemon, tmp_path: Path) -> None:
    rig = Rig(daemon, tmp_path, [], nn.Module(), StandInLoader(None, 3), max_epochs=1000)
    rig.begin()
    order = Order(rig, "stop", "--at-epoch", "500", "--reason", "enough")
    for epoch in range(500):
        rig.loop._epoch = epoch
        rig.reach("before_train_epoch")
        rig.reach("after_train_epoch")
        if epoch == 0:
            # the order was taken before this event, so it is here before the event's acknowledgement
            assert rig.hook.bus is not None
            assert rig.hook.bus._session.flush(PATIENCE_S)
        if rig.loop.stop_training:
            break
    assert (rig.stop, epoch) == (None, 499), "nothing is raised, and no epoch more is begun"
    assert rig.hook.bus is not None
    assert rig.hook.bus.stop_reason == "enough"
    rig.end()  # after_train and after_run are reached as ever
    result = order.result()
    assert (result["outcome"], result["at"]["epoch"], result["point"]) == ("applied", 500, "after_train_epoch")
    assert rig.shown()["run"]["phase"] == "stopped"


def test_a_stop_within_an_epoch_is_raised_with_its_reason(daemon: Daemon, tmp_path: Path) -> None:
    rig = Rig(daemon, tmp_path, [], nn.Module(), StandInLoader(None, 10**9), max_epochs=1)
    rig.begin()
    order = Order(rig, "stop", "--reason", "enough")
    at = train_until(rig, lambda: False)
    assert isinstance(rig.stop, AssertionError)
    assert str(rig.stop) == "enough"
    assert not rig.loop.stop_training
    rig.end()
    assert order.result()["at"]["iter"] == at


def test_a_checkpoint_that_is_asked_for_resumes_where_it_was_saved(daemon: Daemon, tmp_path: Path) -> None:
    rig = Rig(daemon, tmp_path, [], nn.Linear(1, 1), StandInLoader(None, 10**9), max_epochs=1)
    rig.begin()
    order = Order(rig, "checkpoint", "--tag", "mine")
    work = Path(rig.runner.work_dir)
    at = train_until(rig, lambda: any(work.glob("hookbus_mine*")))
    result = order.result()
    (saved,) = work.glob("hookbus_mine*.pth")
    assert (result["outcome"], result["new"]) == ("applied", str(saved))
    meta = torch.load(saved)["meta"]
    assert (meta["epoch"], meta["iter"]) == (0, at), "the iteration that is about to begin is not lost"
    rig.end()


def test_saving_never_raises_a_stop_but_the_next_point_does(daemon: Daemon, tmp_path: Path) -> None:
    rig = Rig(daemon, tmp_path, [], nn.Linear(1, 1), StandInLoader(None, 9))
    rig.begin()
    bus = rig.hook.bus
    assert bus is not None
    event, reached = bus.event, []

    def stopping(point: str, **fields: object) -> None:
        reached.append(point)
        if point == "after_save_checkpoint":
            raise hookbus.TrainingStopped("enough")
        event(point, **fields)

    bus.event = stopping  # as `hookbus send RUN stop --now` would at this very point
    rig.runner.save_checkpoint(rig.runner.work_dir, "one.pth")
    assert reached == ["before_save_checkpoint", "after_save_checkpoint"]
    assert rig.stop is None
    assert not rig.reach("before_train_iter", batch_idx=0, data_batch=None)
    assert str(rig.stop) == "enough"
    rig.end()


def test_a_saving_that_fails_fails_as_it_did(daemon: Daemon, tmp_path: Path) -> None:
    rig = Rig(daemon, tmp_path, [], nn.Linear(1, 1), StandInLoader(None, 9))
    rig.begin()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        rig.runner.save_checkpoint(str(tmp_path / "file" / "folder"), "one.pth")
    rig.end()


FAILS = """
import sys
from pathlib import Path

sys.path[0] = sys.argv[2]  # it has a train.py of its own
import torch
from rig import Rig, StandInLoader

rig = Rig(None, Path(sys.argv[1]), [], torch.nn.Module(), StandInLoader(None, 9))
rig.begin()
rig.runner.call_hook("before_train_epoch")
rig.runner.call_hook("before_train_iter", batch_idx=0, data_batch=None)
raise ValueError("a batch that is none")  # as within runner.train(): no hook hears of it
"""


def test_after_an_exception_the_daemon_hears_a_goodbye(
    daemon: Daemon, tmp_path: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_script(FAILS, daemon, str(tmp_path), str(Path(__file__).parent))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: a batch that is none"), done.stderr
    run = daemon.ask("show", "case0")["run"]
    assert (run["phase"], run["reason"]) == ("failed", "rank 0: ValueError: a batch that is none")


def test_a_model_without_a_head_reports_what_was_half_done(daemon: Daemon, tmp_path: Path) -> None:
    class Skipping:
        skipped: tuple[str, ...] = ()

        def update_skip_type_keys(self, keys: tuple[str, ...]) -> None:
            self.skipped = keys

    dataset = Skipping()
    hooks = [dict(type="YOLOXModeSwitchHook", num_last_epochs=5)]
    rig = Rig(daemon, tmp_path, hooks, nn.Module(), StandInLoader(dataset), max_epochs=2)
    rig.begin()
    for epoch in range(2):
        rig.loop._epoch = epoch
        rig.reach("before_train_epoch")
        rig.reach("after_train_epoch")
    rig.end()
    assert rig.stop is None
    assert dataset.skipped == ("Mosaic", "RandomAffine", "MixUp")
    ((outcome, reason),) = rig.outcomes("mode")
    assert outcome == "failed"
    assert "bbox_head" in reason
    assert "done before it: without Mosaic, RandomAffine, MixUp" in reason
