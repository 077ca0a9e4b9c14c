"""Notices that a trainer's optimizer or scheduler steps, and leaves nothing behind that a checkpoint would carry.

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


def around_steps(optimizer: object, before: Callable[[], None], after: Callable[[], None]) -> bool:
    """Calls `before` and `after` each `optimizer.step()`: by the hooks of PyTorch 2, or those of the same names.

    An optimizer of an older PyTorch gets another `step` of its own, as PyTorch's schedulers give it one; it saves and
    pickles without its attributes. Of any other False is returned, and nothing is done.
    """
    hook_after = getattr(optimizer, "register_step_post_hook", None)
    hook_before = getattr(optimizer, "register_step_pre_hook", None)
    try:
        if hook_after is not None:
            hook_after(lambda *_: after())
            if hook_before is not None:
                hook_before(lambda *_: before())
            return True
        if any(kind.__module__.split(".")[0] == "torch" for kind in type(optimizer).__mro__):
            _wrap_step(optimizer, before, after)
            return True
    except Exception:  # a wrapper of an optimizer that was never made one by its base class, say
        pass
    return False


def _wrap_step(optimizer: object, before: Callable[[], None], after: Callable[[], None]) -> None:
    import functools
    import types

    put = vars(optimizer).get("step")  # by a scheduler: it knows its optimizer
    step = type(optimizer).step if put is None else put  # type: ignore[attr-defined]

    @functools.wraps(step)  # with the marks of PyTorch's schedulers, which look for them
    def watched(self: object, *args: object, **named: object) -> object:
        before()
        try:
            return step(self, *args, **named) if put is None else put(*args, **named)
        finally:
            after()

    # a bound method, since a scheduler that comes later takes it apart
    optimizer.step = types.MethodType(watched, optimizer)  # type: ignore[attr-defined]
