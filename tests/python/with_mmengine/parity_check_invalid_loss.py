"""CheckInvalidLossHook: of which tensors the loss is, and what is no tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import Daemon
from rig import Rig
from torch import nn

LINE = "loss become infinite or NaN!"


def decide(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    described, expected = case["input"]["loss"], case["expected"]
    outputs = outputs_of(described)
    rig = Rig(daemon, folder, [{"type": "CheckInvalidLossHook", **case["config"]}], nn.Module(), max_epochs=10)
    iteration = case["input"]["start_iter"]
    rig.begin()
    rig.reach("before_train_epoch")
    rig.loop._iter = iteration
    rig.reach("before_train_iter", batch_idx=iteration)
    rig.reach("after_train_iter", batch_idx=iteration, outputs=outputs)
    rig.end()
    raised = expected["raised"]
    said = rig.errors()
    if not expected["checked"] or raised is None:
        assert rig.stop is None, rig.stop
        if "complex" in described.get("dtype", "") and said:  # no single number: named, and the training goes on
            return False
        assert not said, said
        return True
    if raised["type"] == "AssertionError":
        assert rig.stop is not None, "it was not stopped"
        assert str(rig.stop)
        assert isinstance(rig.stop, AssertionError)
        infos = [entry for entry in rig.logs if entry[1] == LINE]
        assert infos == expected["logs"]
        return False  # the exception has a text
    if described["type"] in ("python_float", "numpy_float64"):  # a number is looked at
        bad = not np.isfinite(outputs["loss"])
        assert (rig.stop is not None) == bad, rig.stop
        return False
    # no decision: the training goes on, and what is no number is named
    assert rig.stop is None, rig.stop
    assert described["type"] == "missing" or any("loss" in text for text in said), said
    return False


def outputs_of(described: dict[str, Any]) -> Any:
    kind = described["type"]
    if kind == "outputs_none":
        return None
    if kind == "missing":
        return {"loss_a": torch.tensor(1.0)}
    if kind == "python_float":
        return {"loss": float(described["value"])}
    if kind == "numpy_float64":
        return {"loss": np.float64(described["value"])}
    assert kind == "tensor", kind
    dtype = getattr(torch, described["dtype"])
    # as float64 first: what is too large for its type becomes infinite in the tensor, as in training
    wide = torch.complex128 if dtype.is_complex else torch.float64
    value = torch.tensor(numbers(described["value"], complex if dtype.is_complex else float), dtype=wide).to(dtype)
    return {"loss": value.requires_grad_(described.get("requires_grad", False))}


def numbers(value: Any, kind: Any) -> Any:
    return [numbers(item, kind) for item in value] if isinstance(value, list) else kind(value)
