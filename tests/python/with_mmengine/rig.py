"""A real Runner with HookbusHook, with the loop, model and data of a recorded case, taken from point to point."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner, runner
from torch import nn
from train import NoPictures  # noqa: F401  registers itself

import hookbus
from hookbus.adapters.mmengine import HookbusHook

if TYPE_CHECKING:
    from conftest import Daemon

runner.collect_env = lambda: {}  # half a second: it asks compilers for their versions
NUMBERS = itertools.count()


class StandInLoader:
    """What hooks see of a data loader. Its attributes may be watched by a subclass."""

    def __init__(self, dataset: object, iterations: int = 1) -> None:
        self.dataset = dataset
        self.iterations = iterations

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Any:
        return iter(range(self.iterations))


class StandInLoop(BaseLoop):
    def run(self) -> None:
        raise AssertionError("a rig is taken from point to point")


@MODEL_WRAPPERS.register_module()
class CustomWrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class PlainHolder(nn.Module):  # as a wrapper, and not registered as one
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def wrapped(model: nn.Module, wrapper: str) -> nn.Module:
    """In what a case says is around its model."""
    if wrapper == "none":
        return model
    if wrapper == "CustomWrapper(DataParallel)":
        return CustomWrapper(nn.DataParallel(model))
    kinds = {
        "DataParallel": nn.DataParallel,
        "CustomWrapper(registered)": CustomWrapper,
        "PlainHolder(not registered)": PlainHolder,
    }
    return kinds[wrapper](model)


class Rig:
    def __init__(
        self,
        daemon: Daemon | None,  # None: the environment names it
        folder: Path,
        hooks: Iterable[dict[str, Any]],
        model: nn.Module,
        loader: Any = None,
        max_epochs: int | None = 1,
        max_iters: int | None = None,
    ) -> None:
        self.daemon = daemon
        self.run = f"case{next(NUMBERS)}"
        self.runner = Runner(
            model=nn.Module(),
            work_dir=str(folder / self.run),
            experiment_name=self.run,
            visualizer={"type": "NoPictures", "name": self.run},
        )
        self.runner.model = model
        self.runner._hooks.clear()
        loader = StandInLoader(None) if loader is None else loader
        if max_iters is not None:
            self.loop: Any = IterBasedTrainLoop(self.runner, loader, max_iters)
        else:
            self.loop = EpochBasedTrainLoop(self.runner, loader, max_epochs)
        self.runner._train_loop = self.loop
        self.runner._val_loop = StandInLoop(self.runner, StandInLoader(None))
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        self.runner.optim_wrapper = OptimWrapper(optimizer)
        self.hook = HookbusHook(hooks=list(hooks), run=self.run, address=daemon.address if daemon else None)
        self.runner.register_hook(self.hook)
        self.logs: list[list[str]] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.logs.append([record.levelname, record.getMessage()])  # type: ignore
        self.runner.logger.addHandler(handler)
        self.stop: hookbus.TrainingStopped | None = None

    def validates(self, dataset: object) -> None:
        """Instead of a training: a validation alone."""
        self.runner._train_loop = None
        self.runner._val_loop = StandInLoop(self.runner, StandInLoader(dataset))

    def reach(self, point: str, **named: Any) -> bool:
        """False once the training is stopped."""
        if self.stop is None:
            try:
                self.runner.call_hook(point, **named)
            except hookbus.TrainingStopped as stop:
                self.stop = stop
        return self.stop is None

    def begin(self, epoch: int = 0, iteration: int = 0) -> None:
        self.reach("before_run")
        self.loop._epoch, self.loop._iter = epoch, iteration
        self.reach("before_train")

    def end(self) -> None:
        if self.stop is None and self.runner._train_loop is not None:
            self.reach("after_train")
        if self.stop is None:
            self.reach("after_run")
        elif self.hook.bus is not None:
            self.hook.bus.close()

    def shown(self) -> dict[str, Any]:
        """The run as the daemon has it, once it has ended."""
        assert self.daemon is not None
        return self.daemon.ask("show", self.run)

    def outcomes(self, what: str) -> list[tuple[str, str]]:
        """Of each result of one kind: the outcome and the reason."""
        found = [one["result"] for one in self.shown()["results"] if one["what"] == what]
        return [(result["outcome"], result["reason"]) for result in found]

    def errors(self) -> list[str]:
        """What was said above INFO."""
        return [text for level, text in self.logs if level in ("ERROR", "WARNING")]
