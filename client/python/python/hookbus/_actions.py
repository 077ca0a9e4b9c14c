"""Applies, on the training thread, what the daemon has decided, and reports the result of each.

Never lets a handler's exception reach the training loop; the only exception that leaves here is TrainingStopped.
"""

from __future__ import annotations

from ._steer import Bound, Unsupported
from ._stopped import TrainingStopped

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ._log import TrainerLog
    from ._native import Action, Session

    Handler: TypeAlias = Callable[[Any], object]

CHECKPOINT = "checkpoint"
STOP = "stop"
SIZE, MODE, SET_EPOCH, SYNC_NORM = "size", "mode", "set_epoch", "sync_norm"
KINDS = (CHECKPOINT, STOP, SIZE, MODE, SET_EPOCH)
CUSTOM_PREFIX = "custom:"


class Actions:
    """The handlers of one bus, and the callable that the native session calls at a point where something is due."""

    def __init__(self, session: Session, log: TrainerLog, prepare: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._log = log
        self.prepare = prepare  # called once, just before training begins
        self._handlers: dict[str, Handler] = {}
        self.bound = Bound(log)
        self._size: str | None = None
        self.stop_reason: str | None = None
        self.closing = False

    def add(self, kind: str, handler: Handler) -> None:
        """Registers a handler and tells the daemon that this trainer can do this from now on."""
        custom = kind.startswith(CUSTOM_PREFIX) and len(kind) > len(CUSTOM_PREFIX)
        if kind not in KINDS and not custom:
            there = ", ".join(repr(known) for known in KINDS)
            raise ValueError(f"no handler for {kind!r}: there are {there} and 'custom:NAME'")
        if not callable(handler):
            raise TypeError(f"the handler for {kind!r} is not callable: {handler!r}")
        self._handlers[kind] = handler
        if kind != STOP:
            self._session.add_capability(kind)

    def apply(self, actions: list[Action], point: str) -> None:
        """Applies all of them in order, at `point`; a stop is raised last, so that nothing beside it is lost."""
        stop: TrainingStopped | None = None
        for action in actions:
            try:
                if action[0] == "stop":
                    stop = self._stop(action[1], action[2], action[3]) or stop
                else:
                    self._apply(action)
            except TrainingStopped as reached:  # at a point within a handler, in a validation say
                stop = stop or reached
            except Exception as error:  # a defect of ours: it ends no training, and hides no stop
                self._log.error(f"hookbus: {action[0]} raised {named(error)}; the training goes on")
        if stop is not None:
            raise stop

    def _apply(self, action: Action) -> None:
        if action[0] == "log":
            self._log.write(action[2], action[3])
            self._session.result(action[1], "applied", None, None, "")
        elif action[0] == "checkpoint":
            self._call(CHECKPOINT, action[1], action[2])
        elif action[0] == "custom":
            self._custom(action[1], action[2], action[3])
        elif action[0] == "size":
            self._change_size(action[1], (action[2], action[3]))
        elif action[0] == "mode":
            self._steer(MODE, action[1], self._handlers.get(MODE, self.bound.mode), action[2], old="off")
        elif action[0] == "set_epoch":
            handler = self._handlers.get(SET_EPOCH, self.bound.set_epoch)
            self._steer(SET_EPOCH, action[1], handler, action[2], new=str(action[2]), quiet=action[3])
        elif action[0] == "sync_norm":
            self._steer(SYNC_NORM, action[1], self.bound.sync_norm, None, quiet=action[2])
        elif action[0] == "prepare":
            self.prepare()
        elif action[0] == "warning":
            self._log.warning(action[1])
        elif action[0] == "error":
            self._log.error(action[1])

    def _stop(self, id: str, by: str, reason: str) -> TrainingStopped | None:
        if self.closing:
            self._session.result(id, "rejected", None, None, "the training had ended already")
            return None
        self.stop_reason = reason
        handler = self._handlers.get(STOP)
        if handler is not None:
            try:
                handler(reason)
            except Exception as error:  # a handler is the user's code: it may fail, the stop may not
                self._log.error(f"the handler for 'stop' raised {named(error)}; the training is stopped all the same")
        self._session.result(id, "applied", None, None, "")
        return TrainingStopped(reason, by, id)

    def _change_size(self, id: str, size: tuple[int, int]) -> None:
        new = f"{size[0]} x {size[1]}"
        if self._steer(SIZE, id, self._handlers.get(SIZE, self.bound.size), size, old=self._size, new=new):
            self._size = new

    def _steer(
        self,
        kind: str,
        id: str,
        handler: Handler,
        value: object,
        *,
        old: str | None = None,
        new: str | None = None,
        quiet: bool = False,
    ) -> bool:
        """Applies a part of the desired state; a quiet one reports only that it failed."""
        try:
            returned = handler(value)
            new = new if returned is None else str(returned)
        except TrainingStopped as stop:
            self._session.result(id, "failed", old, None, named(stop))
            raise
        except Unsupported as nothing:
            if not quiet:
                self._session.result(id, "unsupported", None, None, str(nothing))
            return False
        except Exception as error:  # the user's code; reported to who asked, and the training goes on
            self._session.result(id, "failed", old, None, named(error))
            what = kind if value is None else f"{kind} {value!r}"
            self._log.error(f"applying {what} raised {named(error)}; the training goes on")
            return False
        if not quiet:
            self._session.result(id, "applied", old, new, "")
        return True

    def _custom(self, id: str, name: str, payload: str) -> None:
        import json

        try:
            value = json.loads(payload) if payload else None
        except (ValueError, RecursionError) as error:
            self._session.result(id, "rejected", None, None, f"not JSON: {named(error)}")
            return
        self._call(CUSTOM_PREFIX + name, id, value)

    def _call(self, kind: str, id: str, value: object) -> None:
        """Calls the handler; what it returns, a path say, is the result's new value."""
        handler = self._handlers.get(kind)
        if handler is None:
            self._session.result(id, "unsupported", None, None, f"no handler: bus.on({kind!r}, ...) was not called")
            return
        try:
            returned = handler(value)
            new = None if returned is None else str(returned)
        except TrainingStopped as stop:
            self._session.result(id, "failed", None, None, named(stop))
            raise
        except Exception as error:  # the user's code; reported to who asked, and the training goes on
            self._session.result(id, "failed", None, None, named(error))
            self._log.error(f"the handler for {kind!r} raised {named(error)}; the training goes on")
            return
        self._session.result(id, "applied", None, new, "")


def named(error: BaseException) -> str:
    """Its class and its text, whatever its text does."""
    try:
        text = str(error)
    except Exception:
        text = "its text cannot be had"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
