"""Notices that a trainer's scheduler steps, and leaves nothing behind that a checkpoint would carry.

Never imports a framework, and never raises: what cannot be watched is not.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_before: MutableMapping[object, Callable[[], None]] | None = None  # schedulers and what is called before they step
_MARK = "_hookbus_tells"


def before_steps(scheduler: object, tell: Callable[[], None]) -> None:
    """Calls `tell` before each `scheduler.step()`.

    The class's `step` is wrapped, once: the scheduler's own attributes are what its state_dict() saves.
    """
    global _before
    kind = type(scheduler)
    step = next((vars(one)["step"] for one in kind.__mro__ if "step" in vars(one)), None)
    if step is None or type(step).__name__ != "function":  # a static method, say, which gets no scheduler
        return
    if _before is None:
        import weakref

        _before = weakref.WeakKeyDictionary()
    try:
        _before[scheduler] = tell
        if not hasattr(step, _MARK):
            kind.step = _telling(step)  # type: ignore[attr-defined]
    except (TypeError, AttributeError):
        pass  # it has no hash or no weak references, or its class cannot be changed


def _telling(step: Callable[..., object]) -> Callable[..., object]:
    import functools

    @functools.wraps(step)
    def tell_and_step(scheduler: object, *args: object, **named: object) -> object:
        try:
            tell = None if _before is None else _before.get(scheduler)
        except TypeError:  # a subclass without a hash
            tell = None
        if tell is not None:
            tell()
        return step(scheduler, *args, **named)

    setattr(tell_and_step, _MARK, True)
    return tell_and_step
