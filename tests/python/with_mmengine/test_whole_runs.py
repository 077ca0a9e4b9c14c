"""Whole trainings: with MMDetection's own hooks in the process, and with the same hooks asked of a daemon.

Every number is the same to the last bit: losses, learning rates, weights, checkpoints, the state of torch's generator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon
from trainings import Records, begun, trained

pytestmark = pytest.mark.torch

Settings = dict[str, Any]
Start = Callable[..., Daemon]

CHECK_LOSS = dict(type="CheckInvalidLossHook", interval=4)
OTHERS = [
    dict(type="NumClassCheckHook"),
    dict(type="MemoryProfilerHook", interval=6),
    dict(type="SetEpochInfoHook"),
    dict(type="SyncNormHook"),
    dict(type="YOLOXModeSwitchHook", num_last_epochs=1, skip_type_keys=("Mosaic", "MixUp")),
]
HOOKS = [CHECK_LOSS, *OTHERS]
SWITCH = 2  # of four epochs, with num_last_epochs=1

BY_EPOCH = {"asked": HOOKS}
BY_ITERATION = {"asked": HOOKS, "by_epoch": False, "val_interval": 5}
PERSISTENT = {"workers": 2, "persistent": True}


class Originals:
    """Trainings with the genuine hooks, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Records] = {}

    def work_dir(self, settings: Settings, ranks: int) -> Path:
        name = hashlib.sha256(json.dumps([settings, ranks]).encode()).hexdigest()[:16]
        return self.folder / name

    def __call__(self, settings: Settings, ranks: int = 1) -> Records:
        folder = self.work_dir(settings, ranks)
        if folder.name not in self.made:
            folder.mkdir()
            whole = {**settings, "hooks": "original", "work_dir": str(folder)}
            self.made[folder.name] = trained(self.folder, whole, ranks)
        return self.made[folder.name]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return Originals(tmp_path_factory.mktemp("originals"))


Both = Callable[[Settings, int], tuple[Records, Records]]


@pytest.fixture
def both(originals: Originals, tmp_path: Path, start_daemon: Start) -> Both:
    """The same training with the genuine hooks and with ours, at the same time: a daemon for each rank."""

    def both(settings: Settings, ranks: int) -> tuple[Records, Records]:
        daemons = [start_daemon() for _ in range(ranks)]
        with ThreadPoolExecutor() as pool:
            theirs = pool.submit(originals, settings, ranks)
            ours = pool.submit(trained, tmp_path, {**settings, "hooks": "hookbus"}, ranks, daemons)
            return theirs.result(), ours.result()

    return both


def alike(theirs: Records, ours: Records) -> None:
    """All but how a stop is worded."""
    assert len(theirs) == len(ours)
    for rank, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        for what in their.keys() - {"ended"}:
            assert our[what] == their[what], f"{what} on rank {rank}"
        assert (their["ended"] is None) == (our["ended"] is None), (rank, their["ended"], our["ended"])


def stopped(record: dict[str, Any]) -> str:
    """The reason for which hookbus ended it."""
    ended = record["ended"]
    assert ended is not None
    assert ended["kinds"][:2] == ["TrainingStopped", "AssertionError"], ended
    return ended["text"]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("loader", [{}, PERSISTENT], ids=["no workers", "persistent workers"])
def test_a_training_by_epochs(both: Both, loader: Settings, ranks: int) -> None:
    theirs, ours = both(BY_EPOCH | loader, ranks)
    alike(theirs, ours)
    for record in theirs:  # that the originals did what they are for
        assert [row["use_l1"] for row in record["epochs"]] == [epoch >= SWITCH for epoch in range(4)]
        assert record["set_epoch"] == [0, 1, 2, 3]
        assert record["stopped_at"] == [4, 24 // ranks]
        length = len(record["iterations"]) // 4
        seen = [row["skipped"] for row in record["iterations"]]
        assert seen == [[0]] * SWITCH * length + [[2]] * 2 * length
        changed = [before != after for _, before, after in record["norms"]]
        assert changed == [ranks > 1] * 4
        workers = [row["processes"] for row in record["iterations"]]
        assert workers[0] != workers[-1] if loader else {0} == {pid for pids in workers for pid in pids}
    assert "epoch_4.pth" in theirs[0]["checkpoints"]
    assert len({record["weights"] for record in theirs}) == 1


def test_workers_that_are_made_for_each_epoch(both: Both) -> None:
    alike(*both(BY_EPOCH | {"workers": 2}, 1))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_training_by_iterations(both: Both, ranks: int) -> None:
    theirs, ours = both(BY_ITERATION, ranks)
    alike(theirs, ours)
    assert [row["use_l1"] for row in theirs[0]["epochs"]] == [True]  # it has one epoch, which is the last
    assert len(theirs[0]["validations"]) == -(-24 // ranks // 5)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_loss_that_is_no_number(both: Both, ranks: int) -> None:
    """On the last rank, between two checks: the weights carry it to the next one, and to the others."""
    settings = BY_EPOCH | {"nan": [ranks - 1, 5]}
    theirs, ours = both(settings, ranks)
    alike(theirs, ours)
    for their, our in zip(theirs, ours, strict=True):
        assert their["stopped_at"][1] == 7
        assert their["ended"]["args"] == ["None"]
        assert "CheckInvalidLossHook" in stopped(our) or "loss" in stopped(our)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_training_that_is_resumed_after_the_switch(both: Both, originals: Originals, ranks: int) -> None:
    first = originals(BY_EPOCH, ranks)
    checkpoint = originals.work_dir(BY_EPOCH, ranks) / f"epoch_{SWITCH + 1}.pth"
    theirs, ours = both(BY_EPOCH | PERSISTENT | {"resume": str(checkpoint)}, ranks)
    alike(theirs, ours)
    assert [row["epoch"] for row in theirs[0]["epochs"]] == [SWITCH + 1]
    assert theirs[0]["epochs"][0]["use_l1"]
    assert all(row["skipped"] == [2] for row in theirs[0]["iterations"])
    assert first[0]["stopped_at"] == theirs[0]["stopped_at"]


def test_heads_that_do_not_fit_the_classes(both: Both) -> None:
    """The check is the last hook: ours applies what is in force and then raises a stop, the originals go one by one."""
    asked = sorted(HOOKS, key=lambda hook: hook["type"] == "NumClassCheckHook")
    theirs, ours = both({"asked": asked, "classes": 5}, 2)
    alike(theirs, ours)
    for their, our in zip(theirs, ours, strict=True):
        assert their["ended"]["text"].endswith("`classes` 3) in Pictures")
        assert "does not match the length of `classes` (3) in Pictures" in stopped(our)
        assert their["stopped_at"] == [0, 0]


@pytest.mark.parametrize("killed", [[0], [1], [0, 1]], ids=["rank 0's", "rank 1's", "both"])
def test_a_daemon_killed_in_mid_run_changes_no_number(
    originals: Originals, tmp_path: Path, start_daemon: Start, killed: list[int]
) -> None:
    """In the first of four epochs: the switch, the epochs and the norms are still to come."""
    daemons = [start_daemon(), start_daemon()]
    with begun(tmp_path, BY_EPOCH | {"hooks": "hookbus", "ask_at": [1]}, 2, daemons) as training:
        for rank in (0, 1):
            training.at(rank, 1)
        for rank in killed:
            daemons[rank].kill()
        for rank in (0, 1):
            training.go(rank)
        alike(originals(BY_EPOCH, 2), training.records())


def test_a_loss_that_is_no_number_on_one_rank_stops_both_there(tmp_path: Path, start_daemon: Start) -> None:
    """The original stops that rank alone, and the other waits for it in its next collective."""
    asked = [dict(type="CheckInvalidLossHook", interval=1), *OTHERS]
    settings = {"hooks": "hookbus", "asked": asked, "nan": [1, 4]}
    records = trained(tmp_path, settings, 2, [start_daemon(), start_daemon()])
    for record in records:
        assert record["stopped_at"] == [1, 4]
        assert "on rank 1" in stopped(record)


@pytest.mark.parametrize("missing", [[0], [1], [0, 1]], ids=["rank 0's", "rank 1's", "both"])
def test_a_daemon_that_was_never_there(
    originals: Originals, tmp_path: Path, start_daemon: Start, missing: list[int]
) -> None:
    """What concerns all comes from rank 0. Without its daemon the training is one without hooks."""
    daemons = [start_daemon(), start_daemon()]
    for rank in missing:
        daemons[rank].kill()
    records = trained(tmp_path, BY_EPOCH | {"hooks": "hookbus"}, 2, daemons)
    alike(originals(BY_EPOCH | {"asked": []} if 0 in missing else BY_EPOCH, 2), records)


def test_that_each_hook_shows(originals: Originals) -> None:
    """A hook that is not there changes the numbers: else the comparisons above would prove nothing."""

    def without(*types: str) -> tuple[str, str]:
        asked = [hook for hook in HOOKS if hook["type"] not in types]
        record = originals(BY_EPOCH | {"asked": asked}, 2)[0]
        return record["weights"], str(record["validations"])

    steering = ("SetEpochInfoHook", "SyncNormHook", "YOLOXModeSwitchHook")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda types: without(*types), [(), *((kind,) for kind in steering)]))
    assert len({weights for weights, _ in found}) == len(found)
    assert len({validations for _, validations in found}) == len(found)
