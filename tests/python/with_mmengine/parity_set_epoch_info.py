"""SetEpochInfoHook: the calls on the model, through what is around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import Daemon
from rig import Rig, wrapped
from torch import nn


class M(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.called: list[tuple[list[Any], dict[str, Any]]] = []

    def set_epoch(self, *args: Any, **named: Any) -> None:
        self.called.append((list(args), named))


def decide(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    given, expected = case["input"], case["expected"]
    model = M() if given["model_has_set_epoch"] else nn.Linear(1, 1)
    epochs = given["epochs"]
    rig = Rig(
        daemon,
        folder,
        [{"type": "SetEpochInfoHook", **case["config"]}],
        wrapped(model, given["wrapper"]),
        max_epochs=max(epochs) + 1,
    )
    rig.begin(epoch=epochs[0])
    for epoch in epochs:
        rig.loop._epoch = epoch
        rig.reach("before_train_epoch")
        rig.reach("after_train_epoch")
    rig.end()
    called = getattr(model, "called", [])
    assert [args for args, _ in called] == expected["set_epoch_args"]
    assert [named for _, named in called] == expected["set_epoch_kwargs"]
    assert rig.stop is None
    if expected["raised"] is None:
        assert not rig.errors(), rig.errors()
        return True
    # the original ends the training; here each epoch's result says why it is not done
    outcomes = rig.outcomes("set_epoch")
    assert len(outcomes) == len(epochs), outcomes
    assert {outcome for outcome, _ in outcomes} == {"failed"}, outcomes
    assert all(expected["raised"]["str"] in reason for _, reason in outcomes), outcomes
    return False
