"""One rank of a training by MMEngine's Runner that is timed in blocks, a block an epoch.

    python mmengine_rank.py SETTINGS.json RECORD.json

Before each block it prints a line and waits for one, so that trainings with other hooks take turns with this one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from hookbusd import ROOT

sys.path.insert(0, str(ROOT / "tests" / "python" / "with_mmengine"))

import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner, runner
from train import BATCH, SAMPLES, WORLD_SIZE, Pictures, hooks_of  # it registers a tiny Detector

MAX_EPOCHS = 300  # as YOLOX trains; the mode switch is then behind every block, and all of them do the same work


@DATASETS.register_module()
class ManyPictures(Pictures):
    """As many as a block needs."""

    def __init__(self, count: int) -> None:
        super().__init__(train=True)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return super().__getitem__(index % SAMPLES)


@HOOKS.register_module()
class Waiting(Hook):
    """Waits before each block, and starts the clock before the other hooks see the epoch."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.started = 0.0

    def before_train_epoch(self, runner: Runner) -> None:
        print(f"at {runner.epoch}", flush=True)
        sys.stdin.readline()
        self.started = time.perf_counter()


@HOOKS.register_module()
class Timing(Hook):
    """Stops the clock after the other hooks, and ends the training with the last block."""

    priority = "LOWEST"

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.seconds: list[float] = []

    def after_train_epoch(self, runner: Runner) -> None:
        (waiting,) = [hook for hook in runner.hooks if isinstance(hook, Waiting)]
        self.seconds.append(time.perf_counter() - waiting.started)
        if len(self.seconds) == self.blocks:
            print(f"at {self.blocks}", flush=True)
            sys.stdin.readline()
            Path(sys.argv[2]).write_text(json.dumps(self.seconds))
            os._exit(0)  # nobody is interested in what comes after


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    runner.collect_env = lambda: {}  # half a second: it asks compilers for their versions
    if WORLD_SIZE > 1:
        torch.distributed.init_process_group("gloo")
    training = Runner(
        model={"type": "Detector", "num_classes": 3},
        work_dir=settings["work_dir"],
        train_dataloader={
            "dataset": {"type": "ManyPictures", "count": settings["iterations"] * BATCH * WORLD_SIZE},
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "batch_size": BATCH,
            "collate_fn": {"type": "default_collate"},
            "num_workers": 0,
        },
        train_cfg={"by_epoch": True, "max_epochs": MAX_EPOCHS},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.001, "momentum": 0.9}},
        param_scheduler=[{"type": "MultiStepLR", "milestones": [200, 250]}],
        default_hooks={
            "checkpoint": {"type": "CheckpointHook", "interval": -1},  # the disk is not what is measured
            "logger": {"type": "LoggerHook", "interval": 50},
        },
        custom_hooks=[
            {"type": "Waiting"},
            *hooks_of(settings),
            {"type": "Timing", "blocks": settings["blocks"]},
        ],
        cfg={
            "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "broadcast_buffers": False, "device_ids": None}
        },
        launcher="pytorch" if WORLD_SIZE > 1 else "none",
        randomness={"seed": 3},
        visualizer={"type": "NoPictures", "vis_backends": [{"type": "LocalVisBackend"}]},
        experiment_name="bench",
    )
    training.train()


if __name__ == "__main__":
    main()
