"""HookbusHook under a real Runner where something is missing or in another order."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Daemon
from mmengine.hooks import EMAHook
from rig import Rig, StandInLoader
from torch import nn

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
