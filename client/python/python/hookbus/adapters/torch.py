"""A plain PyTorch loop: its objects are bound in one call, and the CUDA allocator's numbers go beside the losses.

    with hookbus.adapters.torch.attach("digits", optimizer=optimizer, model=model, loader=loader, max_epochs=20) as bus:
        for epoch in bus.epochs():
            for batch in bus.iters(loader):
                bus.report(loss=step(batch))

It makes no synchronisation with a device that the loop would not have made.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

import hookbus
from hookbus._bus import Bus

if TYPE_CHECKING:
    from collections.abc import Callable

# reading the allocator's numbers takes tens of microseconds
ALLOCATOR_EVERY_S = 1.0
# a metric's name and the allocator's key, both in bytes or counts; peaks are never reset
ALLOCATOR = {
    "cuda_allocated_bytes": "allocated_bytes.all.current",
    "cuda_reserved_bytes": "reserved_bytes.all.current",
    "cuda_active_bytes": "active_bytes.all.current",
    "cuda_alloc_retries": "num_alloc_retries",
    "cuda_ooms": "num_ooms",
}
# whose numbers these are: the device's ordinal, as this process counts
DEVICE = "cuda_device"


class TorchBus(Bus):
    """A bus that knows PyTorch's allocator."""

    _allocator: Allocator | None = None

    def report(self, **metrics: object) -> None:
        """As `Bus.report`; once a second with the allocator's numbers, where CUDA is in use."""
        if self._allocator is None:
            self._allocator = Allocator()
        super().report(**{**self._allocator.due(), **metrics})


def attach(
    run: str | None = None,
    *,
    optimizer: object | None = None,
    model: object | None = None,
    sampler: object | None = None,
    loader: object | None = None,
    scheduler: object | None = None,
    save_checkpoint: Callable[[str], object] | None = None,
    **arguments: Any,
) -> TorchBus:
    """`hookbus.attach` and `bus.bind` in one; `save_checkpoint(tag)` is what `hookbus send checkpoint` calls, on every
    rank at the same iteration, and what it returns, a path say, is reported."""
    bus = hookbus.attach(run, kind=TorchBus, **arguments)
    bus.bind(optimizer=optimizer, model=model, sampler=sampler, loader=loader, scheduler=scheduler)
    if save_checkpoint is not None:
        bus.on("checkpoint", save_checkpoint)
    return bus


class Allocator:
    """The caching allocator's numbers, once a second."""

    def __init__(self) -> None:
        self._at = float("-inf")

    def due(self) -> dict[str, float]:
        """What `allocator` says, if its second is over; else nothing."""
        now = time.monotonic()
        if now - self._at < ALLOCATOR_EVERY_S:
            return {}
        self._at = now
        return allocator()


def allocator() -> dict[str, float]:
    """The caching allocator's numbers on the current device, by metric; empty where CUDA is not in use. Reads what the
    host knows: the device is not waited for."""
    if not torch.cuda.is_initialized():  # asking more would begin it, and a child could not use it then
        return {}
    try:
        device = torch.cuda.current_device()
        known = torch.cuda.memory_stats(device)
    except Exception:  # another allocator than PyTorch's own has none
        return {}
    numbers = {metric: float(known[key]) for metric, key in ALLOCATOR.items() if key in known}
    return {**numbers, DEVICE: float(device)} if numbers else {}
