"""A training by MMEngine's Runner, whole and exactly recorded: one rank, one process.

    python train.py SETTINGS.json RECORD.json

The same seed gives the same numbers to the last bit, so that two ways of having the same hooks can be compared. Each
effect that a hook has here shows in the losses: `use_l1` and `set_epoch` change the loss, `update_skip_type_keys` the
samples, averaged norms the weights; dropout and the samples' noise draw from torch's generator, so a number drawn by
anyone else would show too.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, VISUALIZERS
from mmengine.runner import Runner, loops, runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import Dataset, get_worker_info

RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
EPOCHS, SAMPLES, BATCH, CLASSES = 4, 24, 4, ("cat", "dog", "hat")

DEFAULTS: dict[str, Any] = {
    "hooks": "none",  # or "original", "hookbus"
    "asked": [],  # the hooks' dicts, as in a config
    "hookbus": {},  # further arguments of HookbusHook
    "work_dir": None,
    "by_epoch": True,
    "val_interval": 1,  # epochs or iterations
    "workers": 0,
    "persistent": False,
    "resume": None,  # a checkpoint
    "nan": None,  # [rank, iteration]: the loss of one iteration
    "classes": 3,
    "ask_at": [],  # before these iterations: print a line, and wait for one
}


class Head(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.use_l1 = False
        self.layer = nn.Linear(8, num_classes)

    def losses(self, features: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.layer(features)
        losses = {"loss_cls": nn.functional.cross_entropy(scores, target), "loss_bbox": scores.square().mean()}
        if self.use_l1:
            losses["loss_l1"] = scores.abs().mean()
        return losses


@MODELS.register_module()
class Detector(BaseModel):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.neck = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.25))
        self.bbox_head = Head(num_classes)
        self.epochs_set: list[int] = []
        self.poisoned = False

    def set_epoch(self, epoch: int) -> None:
        self.epochs_set.append(epoch)

    def forward(self, inputs: torch.Tensor, target: torch.Tensor, mode: str, **_: Any) -> Any:
        features = self.neck(self.backbone(inputs))
        if mode != "loss":
            return list(self.bbox_head.layer(features))
        losses = self.bbox_head.losses(features, target)
        if self.epochs_set:
            losses["loss_cls"] = losses["loss_cls"] * (1 + self.epochs_set[-1] / 8)
        if self.poisoned:
            losses["loss_cls"] = losses["loss_cls"] * float("nan")
        return losses


@DATASETS.register_module()
class Pictures(Dataset):
    def __init__(self, train: bool) -> None:
        self.metainfo = {"classes": CLASSES}
        self.skipped: tuple[str, ...] = ()
        self.train = train
        drawn = torch.Generator().manual_seed(7)
        self.pictures = torch.randn(SAMPLES, 2, 4, 4, generator=drawn)

    def update_skip_type_keys(self, skip_type_keys: Any) -> None:
        assert all(isinstance(key, str) for key in skip_type_keys)
        self.skipped = tuple(skip_type_keys)

    def __len__(self) -> int:
        return SAMPLES if self.train else SAMPLES // 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        picture = self.pictures[index]
        if self.train:
            picture = picture + 0.1 * torch.randn(2, 4, 4)
            if "Mosaic" not in self.skipped:
                picture = picture.flip(0)
        worker = get_worker_info()
        return {
            "inputs": picture,
            "target": torch.tensor(index % len(CLASSES)),
            "skipped": torch.tensor(len(self.skipped)),
            "process": torch.tensor(os.getpid() if worker else 0),
        }


@METRICS.register_module()
class Score(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [float(scores.double().sum()) for scores in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"score": sum(results) / len(results)}


@VISUALIZERS.register_module()
class NoPictures(Visualizer):
    """Half a second less: nothing is drawn here, and matplotlib is not imported."""

    def _initialize_fig(self, fig_cfg: Any) -> Any:
        return Mock(), Mock(), Mock()


def digest(state: dict[str, torch.Tensor]) -> str:
    """Every bit of a state, and its names and types."""
    hashed = hashlib.sha256()
    for name, value in state.items():
        hashed.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        hashed.update(value.detach().contiguous().numpy().tobytes())
    return hashed.hexdigest()


class Record:
    """What this rank went through. A hook of the highest priority writes before all others, one of the lowest after."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {
            "epochs": [],
            "iterations": [],
            "validations": [],
            "norms": [],
            "ended": None,
        }
        self.processes: dict[int, int] = {}

    def process(self, pid: int) -> int:
        """Loader processes by the order in which they were first heard of: their ids differ from run to run."""
        return 0 if pid == 0 else self.processes.setdefault(pid, len(self.processes) + 1)


RECORD = Record()


def detector(runner: Runner) -> Detector:
    return getattr(runner.model, "module", runner.model)


@HOOKS.register_module()
class First(Hook):
    priority = "HIGHEST"

    def __init__(self, nan: list[int] | None, ask_at: list[int]) -> None:
        self.nan = nan
        self.ask_at = ask_at

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter in self.ask_at:
            print(f"at {runner.iter}", flush=True)
            sys.stdin.readline()
        detector(runner).poisoned = self.nan == [RANK, runner.iter]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        row = {
            "iter": runner.iter,
            "losses": {name: float(value).hex() for name, value in outputs.items()},
            "lr": [rate.hex() for rate in runner.optim_wrapper.get_lr()["lr"]],
            "skipped": sorted(set(data_batch["skipped"].tolist())),
            "processes": sorted({RECORD.process(pid) for pid in data_batch["process"].tolist()}),
        }
        RECORD.rows["iterations"].append(row)

    def before_val_epoch(self, runner: Runner) -> None:
        RECORD.rows["norms"].append([runner.iter, digest(runner.model.state_dict())])

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        RECORD.rows["validations"].append([runner.epoch, runner.iter, {k: v.hex() for k, v in metrics.items()}])


@HOOKS.register_module()
class Last(Hook):
    priority = "LOWEST"

    def before_train_epoch(self, runner: Runner) -> None:
        model = detector(runner)
        row = {"epoch": runner.epoch, "use_l1": model.bbox_head.use_l1, "set_epoch": list(model.epochs_set)}
        RECORD.rows["epochs"].append(row)

    def before_val_epoch(self, runner: Runner) -> None:
        RECORD.rows["norms"][-1].append(digest(runner.model.state_dict()))


def hooks_of(settings: dict[str, Any]) -> list[dict[str, Any]]:
    asked = settings["asked"]
    if settings["hooks"] == "original":
        import originals

        return [{**hook, "type": getattr(originals, hook["type"])} for hook in asked]
    if settings["hooks"] == "hookbus":
        import hookbus.adapters.mmengine  # noqa: F401  registers HookbusHook

        return [{"type": "HookbusHook", "hooks": asked, **settings["hookbus"]}]
    return []


def runner_of(settings: dict[str, Any]) -> Runner:
    def loader(train: bool) -> dict[str, Any]:
        return {
            "dataset": {"type": "Pictures", "train": train},
            "sampler": {"type": "DefaultSampler", "shuffle": train},
            "batch_size": BATCH,
            "collate_fn": {"type": "default_collate"},
            "num_workers": settings["workers"] if train else 0,
            "persistent_workers": settings["persistent"] and train,
        }

    iterations = SAMPLES // BATCH // WORLD_SIZE
    train_cfg = {"by_epoch": settings["by_epoch"], "val_interval": settings["val_interval"]}
    train_cfg["max_epochs" if settings["by_epoch"] else "max_iters"] = EPOCHS * (
        1 if settings["by_epoch"] else iterations
    )
    checkpoint = {"interval": 1 if settings["by_epoch"] else iterations, "by_epoch": settings["by_epoch"]}
    return Runner(
        model={"type": "Detector", "num_classes": settings["classes"]},
        work_dir=settings["work_dir"],
        train_dataloader=loader(True),
        val_dataloader=loader(False),
        train_cfg=train_cfg,
        val_cfg={},
        val_evaluator={"type": "Score"},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9}},
        param_scheduler=[
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 4},
            {"type": "MultiStepLR", "milestones": [2, 3], "by_epoch": settings["by_epoch"]},
        ],
        default_hooks={
            "checkpoint": {"type": "CheckpointHook", "save_best": "score", "rule": "greater", **checkpoint},
            "logger": {"type": "LoggerHook", "interval": 3},
        },
        custom_hooks=[
            {"type": "First", "nan": settings["nan"], "ask_at": settings["ask_at"]},
            *hooks_of(settings),
            {"type": "Last"},
        ],
        load_from=settings["resume"],
        resume=settings["resume"] is not None,
        cfg={
            "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "broadcast_buffers": False, "device_ids": None}
        },
        launcher="pytorch" if WORLD_SIZE > 1 else "none",
        randomness={"seed": 3},
        visualizer={"type": "NoPictures", "vis_backends": [{"type": "LocalVisBackend"}]},
        experiment_name="whole",
    )


def main() -> None:
    settings = {**DEFAULTS, **json.loads(Path(sys.argv[1]).read_text())}
    torch.set_num_threads(1)
    runner.collect_env = lambda: {}  # half a second more: it asks compilers for their versions
    loops.time = Mock()  # two seconds each time that data begins anew
    if WORLD_SIZE > 1:
        torch.distributed.init_process_group("gloo")
    rows = RECORD.rows
    training = runner_of(settings)
    try:
        training.train()
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        rows["ended"] = {"kinds": kinds, "text": str(error), "args": [repr(value) for value in error.args]}
    saved = sorted(Path(settings["work_dir"]).glob("*.pth")) if RANK == 0 else []
    rows["checkpoints"] = {path.name: digest(torch.load(path)["state_dict"]) for path in saved}
    rows["stopped_at"] = [training.epoch, training.iter]
    rows["weights"] = digest(training.model.state_dict())
    rows["set_epoch"] = detector(training).epochs_set
    rows["generator"] = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
    Path(sys.argv[2]).write_text(json.dumps(rows))
    if WORLD_SIZE > 1:
        # Goodbyes are said; but torch 1.13 now and then aborts while its threads are taken down beside a peer's.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
