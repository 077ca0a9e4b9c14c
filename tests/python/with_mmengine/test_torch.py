"""hookbus.adapters.torch: a plain loop's objects, the allocator's numbers, and a device that is never waited for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Daemon

import hookbus
import hookbus.adapters.torch as adapter

pytestmark = pytest.mark.torch

Train = Callable[..., subprocess.CompletedProcess[str]]
CHECK = dict(type="CheckInvalidLossHook", interval=5)


class OnDevice(torch.Tensor):
    """A loss on a device, whose every reading is counted: each would wait for the device."""

    readings = 0

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.item, torch.Tensor.__float__, torch.Tensor.tolist, torch.Tensor.__bool__):
            OnDevice.readings += 1
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.fixture
def synchronized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls that wait for a device."""
    called: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: called.append("synchronize"))
    OnDevice.readings = 0
    return called


def model() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Linear(3, 1)


def test_a_loss_on_a_device_is_read_at_due_gates_only(daemon: Daemon, synchronized: list[str]) -> None:
    net = model()
    loader = [torch.zeros(2, 3)] * 20
    readings = []
    with adapter.attach(
        "plain",
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        model=net,
        loader=loader,
        max_epochs=1,
        address=daemon.address,
        hooks=[CHECK],
    ) as bus:
        for _ in bus.epochs():
            for batch in bus.iters(loader):
                bus.report(loss=net(batch).sum().detach().as_subclass(OnDevice))
                readings.append(OnDevice.readings)
    due = [after - before for before, after in zip([0, *readings], readings, strict=False)]
    assert due == [int(iteration % 5 == 4) for iteration in range(20)], "as the original hook reads it"
    assert synchronized == []


def test_without_a_due_gate_nothing_is_read(daemon: Daemon, synchronized: list[str]) -> None:
    with adapter.attach("plain", address=daemon.address, max_epochs=1) as bus:
        for _ in bus.epochs():
            for _batch in bus.iters([0] * 50):
                bus.report(loss=torch.zeros(()).as_subclass(OnDevice), accuracy=torch.ones(()).as_subclass(OnDevice))
    assert (OnDevice.readings, synchronized) == (0, [])


def test_the_allocators_numbers_come_once_a_second(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, synchronized: list[str]
) -> None:
    now = [100.0]
    asked = []

    def stats(device: int) -> dict[str, int]:
        assert device == 1
        asked.append(now[0])
        return {"allocated_bytes.all.current": 512 << 20, "reserved_bytes.all.current": 1 << 30, "num_ooms": 2}

    monkeypatch.setattr(adapter.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_stats", stats)
    with adapter.attach("allocator", address=daemon.address, max_epochs=1) as bus:
        for _ in bus.epochs():
            for _batch in bus.iters([0] * 30):
                bus.report(loss=0.5)
                now[0] += 0.1
    assert len(asked) == 3, "ten iterations a second"
    assert synchronized == []
    shown = json.dumps(daemon.ask("show", "allocator"))
    sent = {"cuda_allocated_bytes": 512 << 20, "cuda_reserved_bytes": 1 << 30, "cuda_ooms": 2, "cuda_device": 1}
    for name, value in sent.items():
        assert f'"{name}": {value}' in shown, shown
    assert "cuda_active_bytes" not in shown, "what the allocator does not say is absent, never 0"


def test_without_cuda_there_are_no_numbers_of_it() -> None:
    assert torch.cuda.is_available() or adapter.allocator() == {}


def test_an_allocator_that_has_no_numbers_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_device: int) -> dict[str, int]:
        raise RuntimeError("cudaMallocAsync does not have it")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_stats", fails)
    assert adapter.allocator() == {}
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda _device: {})
    assert adapter.allocator() == {}, "the ordinal alone is no number of the allocator"


def test_the_checkpoint_function_is_called_when_it_is_asked_for(daemon: Daemon, tmp_path: Path) -> None:
    saved = []

    def save(tag: str) -> str:
        saved.append(tag)
        return str(tmp_path / f"{tag}.pt")

    with adapter.attach("saving", address=daemon.address, save_checkpoint=save, max_epochs=1) as bus:
        assert isinstance(bus, hookbus.Bus)
        bus._actions.apply([("checkpoint", "an-id", "mine")], "before_train_iter")
    assert saved == ["mine"]
