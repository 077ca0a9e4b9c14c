"""The base class of hooks: class attributes that say what a hook wants to see, a method for each point, and MMEngine's
helper predicates with MMEngine's meaning.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar, TypeAlias

    from ._context import Context
    from ._event import Event

    Every: TypeAlias = int | str | None
    Gate: TypeAlias = str | bool | None


class Hook:
    """One hook; made anew for each run and attempt. What a subclass overrides is what it sees, and costs.

    Every point's method takes the event and `cx`: `def after_train_iter(self, event, cx)`. Fields, gates and
    intervals may also be set on `self`, in the constructor.
    """

    fields: tuple[str, ...] = ()
    """Metrics that its events are to have; "rss_bytes"; "*": every metric."""
    gate: Gate | Mapping[str, Gate] = None
    """Whether the training waits for it: None never, "!is_finite(NAME)" where that metric is NaN or infinite, True
    always; or a dict from point to these. Without a gate a decision holds from the next boundary on."""
    otherwise: str | None = None
    """What a gate without an answer does: "continue" (the default) or "stop"."""
    otherwise_text: str | None = None
    """The reason of a stop by `otherwise`; None: one that names the hook."""
    deadline_ms: int | None = None
    """How long the training waits at most; None: 50 at an iteration, 2000 elsewhere."""
    every: Every | Mapping[str, Every] = None
    """How often: None always, a number, or the name of an argument or attribute that has it; or a dict from point to
    these. At a training's iterations it counts those of the whole training, at a validation's and a test's those of it,
    at epochs the epochs, as MMEngine does."""
    points: ClassVar[tuple[str, ...]] = ()
    """Points of the trainer's own (`bus.event("after_ema")`) that methods of this class are named after."""
    priority: ClassVar[int | str] = "NORMAL"
    """Smaller first: 0 to 100, or a word of MMEngine's. The configuration's wins."""
    policy: ClassVar[str] = "act"
    """act, warn or observe. The configuration's wins."""
    memory: bool = False
    """`cx.memory` is there."""
    desired: bool = False
    """`cx.desired` is there."""

    def before_run(self, event: Event, cx: Context) -> None: ...
    def after_load_checkpoint(self, event: Event, cx: Context) -> None: ...
    def before_train(self, event: Event, cx: Context) -> None: ...
    def before_train_epoch(self, event: Event, cx: Context) -> None: ...
    def before_train_iter(self, event: Event, cx: Context) -> None: ...
    def after_train_iter(self, event: Event, cx: Context) -> None: ...
    def after_train_epoch(self, event: Event, cx: Context) -> None: ...
    def before_val(self, event: Event, cx: Context) -> None: ...
    def before_val_epoch(self, event: Event, cx: Context) -> None: ...
    def before_val_iter(self, event: Event, cx: Context) -> None: ...
    def after_val_iter(self, event: Event, cx: Context) -> None: ...
    def after_val_epoch(self, event: Event, cx: Context) -> None: ...
    def after_val(self, event: Event, cx: Context) -> None: ...
    def before_save_checkpoint(self, event: Event, cx: Context) -> None: ...
    def after_save_checkpoint(self, event: Event, cx: Context) -> None: ...
    def after_train(self, event: Event, cx: Context) -> None: ...
    def before_test(self, event: Event, cx: Context) -> None: ...
    def before_test_epoch(self, event: Event, cx: Context) -> None: ...
    def before_test_iter(self, event: Event, cx: Context) -> None: ...
    def after_test_iter(self, event: Event, cx: Context) -> None: ...
    def after_test_epoch(self, event: Event, cx: Context) -> None: ...
    def after_test(self, event: Event, cx: Context) -> None: ...
    def after_run(self, event: Event, cx: Context) -> None: ...

    def state_dict(self) -> object:
        """What must survive the death of this process and of the daemon: JSON values. Asked after each call; sent where
        it changed."""
        return None

    def load_state_dict(self, state: object) -> None:
        """Takes back what `state_dict` gave. Called once, before any point."""
        raise ValueError(f"{type(self).__name__} got a state, and has no load_state_dict()")

    # ---- MMEngine's helper predicates; the runner is the event, or the run of `cx`

    def every_n_epochs(self, event: Event, n: float, start: int = 0) -> bool:
        """Whether epoch + 1 is `start`, or a multiple of `n` after it."""
        return _every(event.epoch, n, start)

    def every_n_train_iters(self, event: Event, n: float, start: int = 0) -> bool:
        """Whether iter + 1, over the whole training, is `start`, or a multiple of `n` after it."""
        return _every(event.iter, n, start)

    def every_n_inner_iters(self, event: Event, n: float) -> bool:
        """Whether inner_iter + 1, within this epoch, validation or test, is a multiple of `n`."""
        return bool((event.inner_iter + 1) % n == 0) if n > 0 else False

    def end_of_epoch(self, event: Event, cx: Context) -> bool:
        """Whether this is the last iteration of a training epoch. Raises LookupError where its length is not known."""
        return event.inner_iter + 1 == _said(cx.run.iters_per_epoch, "iters_per_epoch")

    def is_last_train_epoch(self, event: Event, cx: Context) -> bool:
        """Whether this is the last epoch. Raises LookupError where the trainer has not said max_epochs."""
        return event.epoch + 1 == _said(cx.run.max_epochs, "max_epochs")

    def is_last_train_iter(self, event: Event, cx: Context) -> bool:
        """Whether this is the last iteration. Raises LookupError where the trainer has not said max_iters."""
        return event.iter + 1 == _said(cx.run.max_iters, "max_iters")


def _every(count: int, n: float, start: int) -> bool:
    reached = count + 1 - start
    return bool(reached % n == 0) if reached >= 0 and n > 0 else False


def _said(fact: int | None, name: str) -> int:
    if fact is None:
        raise LookupError(f"the trainer has not said {name}: hookbus.attach(..., {name}=N)")
    return fact
