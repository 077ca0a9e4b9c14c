"""The points of real Runners: that HookbusHook changes none, and tells the daemon of each, where it is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from conftest import Daemon
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import METRICS
from mmengine.runner import Runner, loops
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import DataLoader, Dataset

import hookbus
from hookbus.adapters.mmengine import HookbusHook

Json = dict[str, Any]
NUMBERS = itertools.count()
STAGES = (*Hook.stages, "before_save_checkpoint", "after_load_checkpoint")


class DS(Dataset):
    def __init__(self, length: int, classes: list[str] | None) -> None:
        self.length = length
        self.metainfo = {} if classes is None else {"classes": tuple(classes)}

    def update_skip_type_keys(self, keys: Any) -> None:
        pass

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Json:
        return {"inputs": torch.full((2,), float(index))}


class Model(BaseModel):
    def __init__(self, nan_at: int | None, num_classes: int | None) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.bbox_head = nn.Module()
        self.bbox_head.use_l1 = False
        if num_classes is not None:
            self.bbox_head.num_classes = num_classes
        self.nan_at = nan_at
        self.steps = 0
        self.epochs_set: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs_set.append(epoch)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> Any:
        out = self.layer(inputs)
        if mode != "loss":
            return [BaseDataElement() for _ in inputs]
        loss = out.mean() * (float("nan") if self.steps == self.nan_at else 1.0)
        self.steps += 1
        return {"loss_a": loss, "loss_b": out.square().mean(), "acc": out.detach().mean()}


@METRICS.register_module()
class Count(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += list(data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return {"score": float(len(results))}


class Recorder(Hook):
    """Writes each of its calls as the recorded cases have them."""

    def __init__(self, calls: list[list[Any]], label: str | None) -> None:
        self.calls = calls
        self.label = label

    def write(self, stage: str, runner: Runner, batch_idx: int | None = None, **named: Any) -> None:
        loop = runner._train_loop
        built = hasattr(loop, "epoch")
        row = [stage, loop.epoch if built else None, loop.iter if built else None, batch_idx]
        more: Json = {}
        if named.get("metrics") is not None:
            more["metrics"] = dict(named["metrics"])
        if "checkpoint" in named:
            more["checkpoint_meta"] = {key: named["checkpoint"]["meta"][key] for key in ("epoch", "iter")}
        if self.label is not None:
            more["hook"] = self.label
        self.calls.append([*row, more] if more else row)


def _writes(stage: str) -> Any:
    def call(self: Recorder, runner: Runner, *args: Any, **named: Any) -> None:
        self.write(stage, runner, *args, **named)

    return call


for _stage in STAGES:
    setattr(Recorder, _stage, _writes(_stage))


class StopAfter(Hook):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.epoch == self.epoch:
            runner.train_loop.stop_training = True


class Bad(Hook):
    def __init__(self, kind: type[BaseException], iteration: int) -> None:
        self.kind = kind
        self.iteration = iteration

    def after_train_iter(self, runner: Runner, *args: Any, **named: Any) -> None:
        if runner.iter == self.iteration:
            raise self.kind("boom")


class Reads(Hook):
    """A property that builds the train loop; what HookbusHook left is seen before it is read."""

    priority = "LOW"

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: Json = {}

    def before_run(self, runner: Runner) -> None:
        before = type(runner._train_loop).__name__
        value = getattr(runner, self.name)
        after = type(runner._train_loop).__name__
        self.seen = {"type_of_train_loop_before": before, "value": value, "type_of_train_loop_after": after}


class Sees(Hook):
    """What is in force where an epoch begins."""

    priority = "LOW"

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        self.seen.append([runner.epoch, runner.max_epochs, runner.model.bbox_head.use_l1])


def runner_of(case: Json, folder: Path, hooks: list[Hook], model: Model, **more: Any) -> Runner:
    config, given = case["config"], case["input"]

    def loader(name: str) -> DataLoader | None:
        if name not in given:
            return None
        return DataLoader(DS(given[name], config.get("classes")), batch_size=given["bs"])

    parts: Json = {}
    train_cfg = more.pop("train_cfg", config["train_cfg"])
    if train_cfg is not None:
        train_cfg = dict(train_cfg)
        if "dynamic_intervals" in train_cfg:
            train_cfg["dynamic_intervals"] = [tuple(pair) for pair in train_cfg["dynamic_intervals"]]
        optim_wrapper = {"optimizer": {"type": "SGD", "lr": 0.01}}
        parts |= {"train_cfg": train_cfg, "train_dataloader": loader("n_train"), "optim_wrapper": optim_wrapper}
    if "n_val" in given:
        parts |= {"val_cfg": {}, "val_dataloader": loader("n_val"), "val_evaluator": {"type": "Count"}}
    if "n_test" in given:
        parts |= {"test_cfg": {}, "test_dataloader": loader("n_test"), "test_evaluator": {"type": "Count"}}
    by_epoch = True if train_cfg is None else train_cfg["by_epoch"]
    checkpoint = {"type": "CheckpointHook", "interval": interval(case, by_epoch), "by_epoch": by_epoch}
    checkpoint |= {key.removeprefix("checkpoint."): value for key, value in config.get("default_hooks", {}).items()}
    name = f"sequence{next(NUMBERS)}"
    return Runner(
        model=model,
        work_dir=str(folder / name),
        default_hooks={"checkpoint": checkpoint},
        custom_hooks=hooks,
        experiment_name=name,
        visualizer={"type": "NoPictures", "name": name},
        **parts,
        **more,
    )


def interval(case: Json, by_epoch: bool) -> int:
    """Of checkpoints, where a case does not say it: when the first was saved."""
    calls = case.get("expected", {}).get("calls", [])
    saved = [call[4]["checkpoint_meta"] for call in calls if call[0] == "before_save_checkpoint"]
    return saved[0]["epoch" if by_epoch else "iter"] if saved else 1


def checkpoint_of(case: Json, folder: Path) -> Json:
    """Trains to what a case resumes from or loads."""
    config = case["config"]
    epochs = config.get("resumed_after_epochs") or config.get("checkpoint_epochs")
    iterations = config.get("resumed_after_iters")
    if epochs is None and iterations is None:
        return {}
    train_cfg = {"by_epoch": True, "max_epochs": epochs} if epochs else {"by_epoch": False, "max_iters": iterations}
    given = {"n_train": 4, "bs": 2} | case["input"]
    given.pop("n_val", None)
    before = {"config": {"train_cfg": train_cfg}, "input": given}
    runner = runner_of(before, folder, [], Model(None, None))
    runner.train()
    saved = Path(runner.work_dir) / (f"epoch_{epochs}.pth" if epochs else f"iter_{iterations}.pth")
    return {"load_from": str(saved), "resume": "checkpoint_epochs" not in config}


def decide(case: Json, daemon: Daemon, folder: Path) -> bool | tuple[str, str]:
    config, expected = case["config"], case["expected"]
    model = Model(config.get("loss_nan_at_train_step"), config.get("head_num_classes"))
    calls: list[list[Any]] = []
    hooks: list[Hook] = []
    for label in config.get("recorders", ["NORMAL"]):
        recorder = Recorder(calls, label if "recorders" in config else None)
        recorder.priority = label
        hooks.append(recorder)
    asked: list[Json] = []
    if "CheckInvalidLossHook.interval" in config:
        asked.append({"type": "CheckInvalidLossHook", "interval": config["CheckInvalidLossHook.interval"]})
    if "head_num_classes" in config:
        asked.append({"type": "NumClassCheckHook"})
    if "hook" in config:
        asked.append({"type": config["hook"], **{k: v for k, v in config.items() if k == "num_last_epochs"}})
    ours = HookbusHook(hooks=asked, run=f"sequence{next(NUMBERS)}", address=daemon.address)
    hooks.append(ours)
    if "stop_after_epoch_index" in config:
        hooks.append(StopAfter(config["stop_after_epoch_index"]))
    if "hook_raises" in config:
        kind = {"TypeError": TypeError, "KeyboardInterrupt": KeyboardInterrupt}[config["hook_raises"]]
        hooks.append(Bad(kind, config["at_iter"]))
    sees = Sees()
    hooks.append(sees)
    reads = Reads(config["property_read_in_before_run"]) if "property_read_in_before_run" in config else None
    if reads is not None:
        hooks.append(reads)
    sent: list[tuple[str, Json]] = []
    raised: BaseException | None = None
    with patch.object(loops, "time"):  # two seconds each time that data begins anew
        more = checkpoint_of(case, folder)
        runner = runner_of(case, folder, hooks, model, **more)
        with listening(sent):
            try:
                getattr(runner, config["mode"])()
            except BaseException as error:
                raised = error
    bus = ours.bus
    if bus is not None:
        bus.close()
    if reads is not None:
        assert reads.seen == expected
        return True
    if "set_epoch_calls" in expected:
        assert model.epochs_set == expected["set_epoch_calls"]
        return True
    if "before_train_epoch [epoch, max_epochs, use_l1]" in expected:
        assert sees.seen == expected["before_train_epoch [epoch, max_epochs, use_l1]"]
        return True
    assert calls == expected["calls"]
    built = expected["final_epoch"] is not None
    if built:
        assert [runner.epoch, runner.iter] == [expected["final_epoch"], expected["final_iter"]]
    else:
        assert not hasattr(runner._train_loop, "epoch")
    told(sent, expected["calls"])
    assert daemon.ask("show", ours._arguments["run"])["ranks"][0]["events"] == len(sent)
    if expected["raised"] is None:
        assert raised is None, raised
        return True
    if isinstance(raised, hookbus.TrainingStopped):
        assert expected["raised"]["type"] == "AssertionError"
        return (
            ("num_class_check", "mismatch_first") if "head_num_classes" in config else ("check_invalid_loss", "value")
        )
    assert type(raised).__name__ == expected["raised"]["type"]
    assert str(raised).split(" in <")[0] == expected["raised"]["str"].split(" in <")[0]
    return True


class listening:
    """Takes down what is said to the bus."""

    def __init__(self, sent: list[tuple[str, Json]]) -> None:
        self.sent = sent

    def __enter__(self) -> None:
        attach = hookbus.attach

        def attached(*args: Any, **named: Any) -> Any:
            bus = attach(*args, **named)
            event = bus.event

            def said(point: str, /, **fields: Any) -> None:
                self.sent.append((point, fields))
                event(point, **fields)

            bus.event = said
            return bus

        self.patch = patch.object(hookbus, "attach", attached)
        self.patch.start()

    def __exit__(self, *_: Any) -> None:
        self.patch.stop()


def told(sent: list[tuple[str, Json]], calls: list[list[Any]]) -> None:
    """Each call is told once, where it is; and of each checkpoint that it is there."""
    recorded = [call for call in calls if len(call) < 5 or call[4].get("hook", "NORMAL") == "NORMAL"]
    saves = [point for point, _ in sent if point == "after_save_checkpoint"]
    events = [(point, fields) for point, fields in sent if point != "after_save_checkpoint"]
    assert [point for point, _ in events] == [call[0] for call in recorded]
    assert len(saves) == [call[0] for call in recorded].count("before_save_checkpoint")
    for (point, fields), (_, epoch, iteration, batch_idx, *more) in zip(events, recorded, strict=True):
        at = [fields.get(key) for key in ("epoch", "iter", "inner_iter")]
        assert at == [epoch, iteration, batch_idx], point
        if more and "metrics" in more[0]:
            assert {name: fields[name] for name in more[0]["metrics"]} == more[0]["metrics"]
