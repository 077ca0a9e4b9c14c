"""YOLOXModeSwitchHook: the effects on data sets, loaders and models, in order, and what real loader workers see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import Daemon
from rig import Rig, StandInLoader, wrapped
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

TYPE = "YOLOXModeSwitchHook"
Event = list[Any]


class Events:
    """What happened in which epoch, in order."""

    def __init__(self) -> None:
        self.epoch = 0
        self.by_epoch: dict[str, list[Event]] = {}

    def add(self, *event: Any) -> None:
        self.by_epoch.setdefault(str(self.epoch), []).append(list(event))


class Watched:
    """Its attributes that matter tell when they are set."""

    watched: tuple[str, ...] = ()
    events: Events
    where: str

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.watched:
            self.events.add("set", f"{self.where}.{name}", value)
        super().__setattr__(name, value)


class Loader(Watched, StandInLoader):
    watched = ("_DataLoader__initialized", "_iterator")
    where = "train_dataloader"


class Head(Watched, nn.Module):
    watched = ("use_l1",)


class Pictures:
    def __init__(self, events: Events) -> None:
        self.events = events

    def update_skip_type_keys(self, keys: Any) -> None:
        assert all(isinstance(key, str) for key in keys)
        self.events.add("update_skip_type_keys", list(keys), type(keys).__name__)


def head(events: Events, where: str) -> Head:
    made = Head()
    made.events, made.where = events, where
    return made


def model_of(kind: str, events: Events) -> nn.Module:
    model = nn.Module()
    if kind == "detector_none":
        model.detector = None
    if kind in ("detector", "both"):
        model.detector = nn.Module()
        model.detector.bbox_head = head(events, "detector.bbox_head")
    if kind in ("bbox_head", "both", "detector_none"):
        model.bbox_head = head(events, "bbox_head")
    return model


def decide(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    given, expected = case["input"], case["expected"]
    events = Events()
    loader = Loader(Pictures(events), 4)
    loader.events = events
    if given["persistent_workers"] != "absent":
        loader.persistent_workers = given["persistent_workers"]
    model = wrapped(model_of(given["model"], events), given["wrapper"])
    max_iters = 4 if case["kind"] == "iter_based" else None
    hooks = [{"type": TYPE, **case["config"]}]
    rig = Rig(daemon, folder, hooks, model, loader, max_epochs=given["max_epochs"], max_iters=max_iters)
    assert rig.loop.max_epochs == given["max_epochs"]
    rig.logs = Log(events)
    first, end = given["epochs"]
    rig.begin(epoch=first)
    for epoch in range(first, end):
        events.epoch = epoch
        if max_iters is None:
            rig.loop._epoch = epoch
        rig.reach("before_train_epoch")
        rig.reach("after_train_epoch")
    rig.end()
    assert rig.stop is None
    ours, recorded, raised = events.by_epoch, expected["events"], expected["raised"]
    if case["kind"] == "skip_type_keys" and ours != recorded:
        return skip_types(case, rig, ours)
    if raised is None:
        assert ours == recorded
        return True
    # the original ends the training there; here the result says why it is not done, and what was done before it
    epoch = str(raised["epoch"])
    assert ours == {epoch: recorded[epoch]}, (ours, recorded)
    ((outcome, reason),) = rig.outcomes("mode")
    assert outcome == "failed"
    assert raised["str"] in reason, reason
    assert "Mosaic" in reason, reason
    incidents = [incident["text"] for incident in rig.shown()["incidents"] if incident["kind"] == "not_applied"]
    assert len(incidents) == 1, incidents
    return False


def skip_types(case: dict[str, Any], rig: Rig, ours: dict[str, list[Event]]) -> bool:
    """What is not made of strings is refused where it is configured; what is comes as a tuple."""
    keys = case["config"]["skip_type_keys"]
    if keys is not None and all(isinstance(key, str) for key in keys):  # of a str: its characters, as in the original
        as_tuple = {
            epoch: [[*event[:2], "tuple"] if event[0] == "update_skip_type_keys" else event for event in events]
            for epoch, events in case["expected"]["events"].items()
        }
        assert ours == as_tuple
        return False
    assert ours == {}, ours
    assert any(TYPE in refusal for refusal in map(str, rig.shown()["refused"])), rig.shown()["refused"]
    return False


class Log(list[list[str]]):
    """The lines of the original are events; others stay what they are."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self.events = events

    def append(self, entry: list[str]) -> None:
        super().append(entry)
        if entry[1] in ("No mosaic and mixup aug now!", "Add additional L1 loss now!"):
            self.events.add("log", *entry)


def stages(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    """The daemon's list says the same; here: that the original has no other."""
    from originals import YOLOXModeSwitchHook

    assert YOLOXModeSwitchHook(**case["config"]).get_triggered_stages() == case["expected"]["triggered_stages"]
    return True


class Real(Dataset):
    def __init__(self) -> None:
        self.skipped: tuple[str, ...] = ()

    def update_skip_type_keys(self, keys: Any) -> None:
        self.skipped = tuple(keys)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        worker = get_worker_info()
        return torch.tensor([worker.seed if worker else 0, int(bool(self.skipped))])


def real_dataloader(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    given = case["input"]
    config = dict(case["config"])
    with_hook = config.pop("hook", True)
    loader = DataLoader(Real(), num_workers=given["num_workers"], persistent_workers=given["persistent_workers"])
    model = nn.Module()
    model.bbox_head = nn.Module()
    rig = Rig(daemon, folder, [{"type": TYPE, **config}] if with_hook else [], model, loader, given["max_epochs"])
    workers: dict[int, int] = {}
    epochs = []
    rig.begin(epoch=given["start_epoch"])
    for epoch in range(given["start_epoch"], given["max_epochs"]):
        rig.loop._epoch = epoch
        rig.reach("before_train_epoch")
        initialized = loader._DataLoader__initialized
        seen = [sample[0].tolist() for sample in loader]
        rig.reach("after_train_epoch")
        row = {
            "epoch": epoch,
            "samples": len(seen),
            "worker_ids": sorted({workers.setdefault(seed, len(workers)) for seed, _ in seen}),
            "samples_see_skip_keys": sorted({skips for _, skips in seen}),
            "loader_initialized_when_iterating": initialized,
            "persistent_workers_attr": loader.persistent_workers,
        }
        epochs.append(row)
    rig.end()
    assert epochs == case["expected"]["epochs"]
    infos = [entry for entry in rig.logs if entry[0] == "INFO" and not entry[1].startswith("hookbus")]
    assert [entry for entry in infos if entry in case["expected"]["logs"]] == case["expected"]["logs"]
    return True
