"""MMEngine's Runner: one hook in the place of many.

    custom_imports = dict(imports=["hookbus.adapters.mmengine"], allow_failed_imports=False)
    custom_hooks = [dict(type="HookbusHook", hooks=[dict(type="CheckInvalidLossHook", interval=50)])]

It tells the daemon of all 22 lifecycle points and of saved checkpoints, and applies what comes back where the original
hooks apply it. It never reads what would build a loop that the run does not have, and never raises but a stop.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, get_priority

import hookbus
from hookbus._stopped import TrainingStopped
from hookbus.adapters.torch import Allocator

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from mmengine.runner import Runner

    from hookbus._bus import Bus

# what an event's position is called; a log variable of these names is no metric
PLACES = ("epoch", "iter", "inner_iter")


@HOOKS.register_module()
class HookbusHook(Hook):
    """Connects a Runner to hookbusd.

    `hooks`: asked of the daemon, written as in `custom_hooks`. The other arguments are those of `hookbus.attach`.
    MMEngine calls it once, for all of them: at the smallest `priority` in `hooks`, by default at NORMAL, as the hooks
    that it stands for; or at its own, `priority=48` beside `type`.
    """

    priority = "NORMAL"

    def __init__(
        self,
        hooks: Iterable[Mapping[str, object]] = (),
        run: str | None = None,
        address: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        allow: Iterable[str] | None = None,
        timeout_s: float = 5.0,
        ranks_timeout_s: float = 60.0,
        ranks_every: int = 10,
    ) -> None:
        self._allocator = Allocator()
        self._arguments: dict[str, Any] = {
            "run": run,
            "address": address,
            "token_file": token_file,
            "ca_file": ca_file,
            "allow": allow,
            "timeout_s": timeout_s,
            "ranks_timeout_s": ranks_timeout_s,
            "ranks_every": ranks_every,
            "hooks": [dict(hook) for hook in hooks],
        }
        said = [get_priority(hook["priority"]) for hook in self._arguments["hooks"] if "priority" in hook]
        if said:
            self.priority = min(said)  # what a config had beside the original goes on to hold
        self.bus: Bus | None = None
        self._trains = False
        self._saving = False
        self._stop: TrainingStopped | None = None  # reached where nothing may be raised

    # --- the run

    def before_run(self, runner: Runner) -> None:
        if self.bus is not None:  # an exception has ended the run before
            self.bus.close("another run begins", failed=True)
        self.bus = hookbus.attach(logger=runner.logger, val_on_every_rank=True, **self._arguments)
        self._trains, self._stop = False, None
        steered = self.bus._actions.bound
        steered.unwrapped = _unwrapped
        self.bus._session.ends_epochs()
        self.bus.on("checkpoint", functools.partial(self._save, runner))
        self._resize = _Resize(steered.size)
        self.bus.on("size", self._resize)
        _tell_of_saves(runner, self)
        self._reach("before_run", runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._reach("after_load_checkpoint", runner)

    def before_train(self, runner: Runner) -> None:
        self._trains = True
        if self.bus is not None:
            self._bind(self.bus, runner)
        self._reach("before_train", runner)

    def after_train(self, runner: Runner) -> None:
        self._reach("after_train", runner)

    def after_run(self, runner: Runner) -> None:
        self._stop = None  # there is nothing left to stop
        if self.bus is None:
            return
        self.bus._actions.closing = True
        try:
            self._reach("after_run", runner)
        finally:
            self.bus.close()
            self.bus = None

    def _bind(self, bus: Bus, runner: Runner) -> None:
        """What the run is about: the train loop is there, and a checkpoint is loaded."""
        loop: Any = runner._train_loop
        bus._tell(
            {
                "max_epochs": loop.max_epochs,
                "max_iters": loop.max_iters,
                "seed": runner.seed,
            }
        )
        wrapper = runner.optim_wrapper
        wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        bus.bind(
            optimizer=[getattr(each, "optimizer", each) for each in wrappers],
            model=runner.model,
            loader=loop.dataloader,
        )
        self._resize.model = runner.model
        for scheduler in _rate_schedulers(runner.param_schedulers):
            bus.bind(scheduler=scheduler)
        if loop.epoch or loop.iter:
            bus.resume(loop.epoch, loop.iter)

    # --- training

    def before_train_epoch(self, runner: Runner) -> None:
        if self.bus is not None:
            self.bus._actions.bound.epoch_begins()
            self.bus.describe("before_train_epoch")
        self._reach("before_train_epoch", runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self._reach("before_train_iter", runner, batch_idx)
        if self.bus is not None:
            self.bus._rates.iteration_begins()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: Mapping[str, object] | None = None
    ) -> None:
        if self.bus is None:
            return
        rates = self.bus._rates
        rates.iteration_ends()
        fields = _numbers(outputs)
        if "lr" not in fields:
            rate = rates.used()
            if rate is not None:
                fields["lr"] = rate
        fields = {**self._allocator.due(), **fields}
        self._reach("after_train_iter", runner, batch_idx, fields)

    def after_train_epoch(self, runner: Runner) -> None:
        """A stop that is due where the next epoch begins ends the loop here, by the loop's own means."""
        try:
            self._reach("after_train_epoch", runner)
        except TrainingStopped as stop:
            runner.logger.warning(f"hookbus: the training ends with this epoch, as {stop.by or 'asked'}: {stop.reason}")
            runner._train_loop.stop_training = True

    # --- validation and test

    def before_val(self, runner: Runner) -> None:
        if self.bus is not None:
            if not self._trains:  # it begins here, on all ranks
                self.bus.bind(model=runner.model)
                self.bus._session.begin("before_val")
            self.bus._val_loader = runner.val_dataloader  # the loop that runs has it
        self._reach("before_val", runner)

    def before_val_epoch(self, runner: Runner) -> None:
        if self.bus is not None:
            self.bus.describe("before_val_epoch")
        self._reach("before_val_epoch", runner)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self._reach("before_val_iter", runner, batch_idx)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: Sequence[object] | None = None
    ) -> None:
        self._reach("after_val_iter", runner, batch_idx)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, object] | None = None) -> None:
        self._reach("after_val_epoch", runner, None, _numbers(metrics))

    def after_val(self, runner: Runner) -> None:
        self._reach("after_val", runner)

    def before_test(self, runner: Runner) -> None:
        self._reach("before_test", runner)

    def before_test_epoch(self, runner: Runner) -> None:
        self._reach("before_test_epoch", runner)

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self._reach("before_test_iter", runner, batch_idx)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: Sequence[object] | None = None
    ) -> None:
        self._reach("after_test_iter", runner, batch_idx)

    def after_test_epoch(self, runner: Runner, metrics: Mapping[str, object] | None = None) -> None:
        self._reach("after_test_epoch", runner, None, _numbers(metrics))

    def after_test(self, runner: Runner) -> None:
        self._reach("after_test", runner)

    # --- checkpoints

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if self._saving:  # an operator's, before an iteration: the original's meta is that of one that has ended
            loop: Any = runner._train_loop
            checkpoint["meta"].update(epoch=loop.epoch, iter=loop.iter)
        self._reach("before_save_checkpoint", runner)

    def after_save_checkpoint(self, runner: Runner) -> None:
        """No point of MMEngine's own: `runner.save_checkpoint` has returned. A stop that is reached is raised next."""
        if self.bus is None:
            return
        try:
            self._reach("after_save_checkpoint", runner)
        except TrainingStopped as stop:
            self._stop = stop

    def _save(self, runner: Runner, tag: str) -> str:
        """What `hookbus send checkpoint` asks for, before an iteration: its number is in the file, as that of the first
        one to come. MMEngine begins the epoch anew where it resumes by epochs."""
        loop: Any = runner._train_loop
        name = f"hookbus_{tag or 'checkpoint'}_iter_{loop.iter}.pth"
        self._saving = True
        try:
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
        finally:
            self._saving = False
        return f"{runner.work_dir}/{name}"

    def _reach(
        self, point: str, runner: Runner, batch_idx: int | None = None, fields: dict[str, object] | None = None
    ) -> None:
        bus = self.bus
        if bus is None:
            return
        if self._stop is not None:
            stop, self._stop = self._stop, None
            raise stop
        if fields is None:
            fields = {}
        loop = runner._train_loop
        if isinstance(loop, BaseLoop):  # else reading the runner's own would build it
            fields["epoch"], fields["iter"] = loop.epoch, loop.iter
        if batch_idx is not None:
            fields["inner_iter"] = batch_idx
        bus.event(point, **fields)


class _Resize:
    """Sets the input size: of the data preprocessor's BatchSyncRandomResize, else of the dataset."""

    def __init__(self, otherwise: Any) -> None:
        self._otherwise = otherwise
        self.model: object | None = None

    def __call__(self, size: tuple[int, int]) -> None:
        preprocessor = getattr(_unwrapped(self.model), "data_preprocessor", None)
        augments = getattr(preprocessor, "batch_augments", None) or ()
        found = [augment for augment in augments if _is_resize(augment)]
        if not found:
            self._otherwise(size)
        for resize in found:
            resize._input_size = tuple(size)
            resize._get_random_size = functools.partial(_held_size, resize)  # its own draw is replaced


def _held_size(resize: Any, aspect_ratio: float, device: object) -> tuple[int, int]:
    size: tuple[int, int] = resize._input_size
    return size


def _is_resize(augment: object) -> bool:
    return any(kind.__name__ == "BatchSyncRandomResize" for kind in type(augment).__mro__)


def _unwrapped(model: Any) -> Any:
    """The model without one level of a wrapper that MMEngine knows, the user's own too."""
    return model.module if model is not None and is_model_wrapper(model) else model


def _rate_schedulers(schedulers: object) -> list[object]:
    """Those of MMEngine's parameter schedulers that set learning rates."""
    if isinstance(schedulers, dict):
        return [scheduler for each in schedulers.values() for scheduler in _rate_schedulers(each)]
    if not isinstance(schedulers, (list, tuple)):
        return []
    return [scheduler for scheduler in schedulers if getattr(scheduler, "param_name", None) == "lr"]


def _numbers(outputs: object) -> dict[str, object]:
    """What has one number for each name; read later, and only where it costs nothing or is needed."""
    if not isinstance(outputs, dict):
        return {}
    each = ((name, value) for name, value in outputs.items() if isinstance(name, str) and name not in PLACES)
    return {name: value for name, value in each if hasattr(value, "__float__")}


def _tell_of_saves(runner: Runner, hook: HookbusHook) -> None:
    save = runner.save_checkpoint
    if isinstance(save, _TellingSave):
        save.hook = hook
    else:
        runner.save_checkpoint = _TellingSave(save, runner, hook)


class _TellingSave:
    """`runner.save_checkpoint`, which says that it has returned. What it raises is its own."""

    def __init__(self, save: Any, runner: Runner, hook: HookbusHook) -> None:
        functools.update_wrapper(self, save)
        self._save = save
        self._runner = runner
        self.hook = hook

    def __call__(self, *args: Any, **named: Any) -> Any:
        saved = self._save(*args, **named)
        if is_main_process():
            self.hook.after_save_checkpoint(self._runner)
        return saved
