"""SyncRandomSizeHook where its original never gets to a change: without a GPU, and with the genuine dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from conftest import Daemon
from rig import Rig, StandInLoader
from torch import nn


class Resizable:
    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def update_dynamic_scale(self, size: tuple[int, int]) -> None:
        self.sizes.append(size)


class MultiImageMixDataset:
    """As mmdet 2.28.2's: it has no update_dynamic_scale."""


def decide(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    given, expected = case["input"], case["expected"]
    dataset = MultiImageMixDataset() if "dataset" in given else Resizable()
    hooks = [{"type": "SyncRandomSizeHook", **case["config"]}]
    end = given["start_epoch"] + given["n_epochs"]
    rig = Rig(daemon, folder, hooks, nn.Module(), StandInLoader(dataset), max_epochs=end + 1)
    rig.begin(epoch=given["start_epoch"])
    for epoch in range(given["start_epoch"], end + 1):
        rig.loop._epoch = epoch
        rig.reach("before_train_epoch")
        rig.reach("after_train_epoch")
    rig.end()
    assert rig.stop is None
    assert expected["raised"] is not None
    due = [epoch for epoch in range(given["start_epoch"], end) if (epoch + 1) % case["config"]["interval"] == 0]
    assert expected["raised"]["epoch"] == due[0]
    outcomes = Counter(outcome for outcome, _ in rig.outcomes("size"))
    if isinstance(dataset, Resizable):  # the device is not looked at
        assert set(outcomes) == {"applied"}
        assert len(dataset.sizes) == len(due)
    else:  # the schedule is in force, and nothing is there that it could change
        assert outcomes["unsupported"] == len(due)
        assert any("update_dynamic_scale" in reason for _, reason in rig.outcomes("size"))
        assert "not_applied" in [incident["kind"] for incident in rig.shown()["incidents"]]
    return False
