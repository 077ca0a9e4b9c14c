"""Applies what the daemon wants of a training's objects: input size, mode, set_epoch. By duck typing.

Never imports a framework and never decides. A function here raises; `_actions` reports it and the training goes on.
"""

from __future__ import annotations

from ._facts import process_group

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._log import TrainerLog

# what MMEngine and PyTorch put around a model; one level is taken off, as the original hooks do
WRAPPERS = ("DataParallel", "DistributedDataParallel", "MMDataParallel", "MMDistributedDataParallel")


class Unsupported(Exception):
    """Nothing is bound that could do it; the text says what would."""


class Bound:
    """The trainer's objects that can be steered."""

    def __init__(self, log: TrainerLog) -> None:
        self._log = log
        self.model: object | None = None
        self.sampler: object | None = None
        self.loader: object | None = None
        self.unwrapped: Callable[[object | None], object | None] = unwrapped  # the model without one wrapper
        self.evaluates = False  # every rank reaches the points of a validation
        self.differs: str | None = None  # what the ranks' norm layers differ in
        self._restarted = False

    def size(self, size: tuple[int, int]) -> None:
        """`update_dynamic_scale((height, width))` of the bound loader's dataset, as SyncRandomSizeHook does."""
        update = getattr(getattr(self.loader, "dataset", None), "update_dynamic_scale", None)
        if update is None:
            raise Unsupported(
                "nothing is bound that could change the input size: bus.on('size', handler), or bus.bind(loader=...) "
                "whose dataset has update_dynamic_scale"
            )
        update(size)

    def set_epoch(self, epoch: int) -> None:
        """`set_epoch(epoch)` of the bound model, and of the sampler if one is bound."""
        model = self.unwrapped(self.model)
        if model is None and self.sampler is None:
            raise Unsupported(
                "nothing is bound that has set_epoch: bus.on('set_epoch', handler), or bus.bind(model=...)"
            )
        if model is not None:
            model.set_epoch(epoch)  # type: ignore[attr-defined]
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    def mode(self, skip_types: list[str]) -> str:
        """What YOLOXModeSwitchHook does, in its order. Returns what was switched; an error says what came before."""
        done: list[str] = []
        try:
            if self.loader is None and self.model is None:
                raise Unsupported(
                    "nothing is bound to switch: bus.on('mode', handler), or bus.bind(model=..., loader=...)"
                )
            if self.loader is not None:
                self._log.info("No mosaic and mixup aug now!")
                self.loader.dataset.update_skip_type_keys(tuple(skip_types))  # type: ignore[attr-defined]
                done.append("without " + ", ".join(skip_types))
                if getattr(self.loader, "persistent_workers", None) is True:
                    # the workers have copies of the dataset: new ones are started with the next iterator
                    self.loader._DataLoader__initialized = False  # type: ignore[attr-defined]
                    self.loader._iterator = None  # type: ignore[attr-defined]
                    self._restarted = True
                    done.append("workers restarted")
            if self.model is not None:
                self._log.info("Add additional L1 loss now!")
                model = self.unwrapped(self.model)
                detector = model.detector if hasattr(model, "detector") else model
                detector.bbox_head.use_l1 = True  # type: ignore[union-attr]
                done.append("L1 loss")
        except Unsupported:
            raise
        except Exception as error:
            before = f" (done before it: {', '.join(done)})" if done else ""
            raise RuntimeError(f"{type(error).__name__}: {error}{before}") from error
        return ", ".join(done)

    def sync_norm(self, _: object = None) -> str | None:
        """What SyncNormHook does, on every rank or on none."""
        if self.differs is not None:
            raise Unsupported(f"norm states are averaged where every rank has the same: {self.differs}")
        distributed = process_group()
        if distributed is None or self.model is None or not self.evaluates:
            raise Unsupported(
                "norm states are averaged where torch.distributed is up, a model is bound, and every rank validates: "
                "bus.bind(model=...), attach(val_on_every_rank=True)"
            )
        from . import _norms

        return _norms.sync(self.model, distributed)

    def norms(self) -> str | None:
        """What `sync_norm` would average, if every rank comes to it: its collective takes the same of all ranks."""
        if not self.evaluates or process_group() is None:
            return None
        if self.model is None:
            return "no model is bound"
        from . import _norms

        try:
            sizes = [state.numel() for state in _norms.states_of(self.model).values()]
        except Exception as error:  # no model of PyTorch's
            return f"they cannot be read: {type(error).__name__}"
        return f"{len(sizes)} tensors with {sum(sizes)} numbers"

    def epoch_begins(self) -> None:
        """After workers were restarted the original marks the loader as whole again before each later epoch."""
        if self._restarted:
            self.loader._DataLoader__initialized = True  # type: ignore[union-attr]


def unwrapped(model: object | None) -> object | None:
    """The model without one level of a known wrapper."""
    if type(model).__name__ in WRAPPERS and hasattr(model, "module"):
        inner: object = model.module
        return inner
    return model
