"""YOLOXLrUpdaterHook: the learning rates in real optimizers while each iteration trains, bit for bit."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import torch
from conftest import Daemon
from mmengine.optim import OptimWrapper, OptimWrapperDict
from rig import Rig, StandInLoader
from torch import nn

TYPE = "YOLOXLrUpdaterHook"


def decide(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    given, expected = case["input"], case["expected"]
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in given["param_group_lrs"]]
    for group, initial in zip(groups, given["initial_lr"] or [], strict=given["initial_lr"] is not None):
        group["initial_lr"] = initial
    by_iter = given["runner"] == "IterBasedRunner"
    length = given["epoch_len"]
    rig = Rig(
        daemon,
        folder,
        [{"type": TYPE, **case["config"]}],
        nn.Module(),
        StandInLoader(None, length),
        max_epochs=given["max_epochs"],
        max_iters=given["max_iters"] if by_iter else None,
    )
    optimizers = optimizers_of(groups, given["optimizers"])
    wrappers = {name: OptimWrapper(optimizer) for name, optimizer in optimizers.items()}
    rig.runner.optim_wrapper = wrappers[""] if "" in wrappers else OptimWrapperDict(**wrappers)
    rates: list[list[float]] = []
    rig.begin(epoch=given["start_epoch"], iteration=given["start_iter"])
    rig.reach("before_train_epoch")
    for iteration in range(given["start_iter"], given["max_iters"]):
        rig.loop._iter = iteration
        inner = iteration if by_iter else iteration % length
        if inner == 0 and iteration > given["start_iter"]:
            rig.reach("after_train_epoch")
            rig.loop._epoch += 1
            rig.reach("before_train_epoch")
        rig.reach("before_train_iter", batch_idx=inner)
        rates.append([group["lr"] for optimizer in optimizers.values() for group in optimizer.param_groups])
        for optimizer in optimizers.values():
            optimizer.step()
        rig.reach("after_train_iter", batch_idx=inner, outputs={"loss": torch.tensor(1.0)})
    rig.end()
    assert rig.stop is None
    if expected["raised"] is not None:  # refused in one line that names it, and the rates stay the trainer's
        if by_iter and not rig.errors():  # an epoch of its warm-up is a pass over the loader
            ends = case["config"]["warmup_iters"] * length
            base, ratio = given["param_group_lrs"][0], case["config"]["warmup_ratio"]
            squares = [base * (ratio * ((iteration + 1) / ends) ** 2) for iteration in range(ends)]
            assert [row[0] for row in rates[:ends]] == squares
            return False
        assert any(TYPE in text for text in rig.errors()), rig.errors()
        assert all(row == given["param_group_lrs"] for row in rates)
        return False
    assert len(rates) == expected["n_iters_run"]
    at = expected["iters"] or range(given["start_iter"], given["start_iter"] + len(rates))
    for group, recorded in enumerate(expected["lr"]):
        ours = [rates[iteration - given["start_iter"]][group] for iteration in at]
        # libm's cos is that of glibc here; another differs in the last bit
        assert ours == recorded or all(abs(a - b) <= 1e-15 * abs(b) for a, b in zip(ours, recorded, strict=True))
    flat = [rate for row in rates for rate in row]
    assert hashlib.sha256(struct.pack(f"<{len(flat)}d", *flat)).hexdigest() == expected["sha256"] or not glibc()
    return True


def glibc() -> bool:
    import platform

    return platform.libc_ver()[0] == "glibc"


def optimizers_of(groups: list[dict[str, Any]], named: list[list[Any]] | None) -> dict[str, torch.optim.SGD]:
    if named is None:
        return {"": torch.optim.SGD(groups, lr=1.0)}
    left = list(groups)
    return {name: torch.optim.SGD([left.pop(0) for _ in range(count)], lr=1.0) for name, count in named}
