"""One hook in one run and attempt: its instance, its methods, and what it remembers."""

from __future__ import annotations

import json
from typing import NamedTuple

from ._context import Context
from ._errors import line_of, whole
from ._event import Event
from ._hook import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ._context import Decision, Run
    from ._event import Call
    from ._offer import Made

    Answer: TypeAlias = tuple[
        int,  # the run's number
        int,  # the call's id
        "list[Decision]",
        "str | None",  # its state as JSON; None: as before
        str,  # what it raised; empty: nothing
        str,  # the traceback
    ]

MOST_STATE_BYTES = 1 << 20
NOT_DESIRED = "this hook does not get the desired state: write `desired = True` into its class"


class Broken(NamedTuple):
    """Why a hook could not be made for a run, or could not take back its state."""

    error: str
    traceback: str


class Slot:
    """Calls go in, answers come out; nothing that the hook raises leaves."""

    __slots__ = (
        "_broken",
        "_desired",
        "_file",
        "_hook",
        "_keeps",
        "_memory",
        "_methods",
        "_not_finite",
        "_run",
        "_sent",
    )

    def __init__(self, made: Made, run: Run, state: str | None, file: str | None) -> None:
        self._run = run
        self._file = file
        self._memory = made.memory
        self._desired = made.desired
        self._keeps = made.kind.state_dict is not Hook.state_dict
        self._sent = state
        self._methods: dict[str, Callable[[Event, Context], object]] = {}
        self._not_finite = {each.point: each.not_finite for each in made.subscriptions if each.gate}
        self._broken: Broken | None = None
        try:
            self._hook = made.instance()
            if state is not None:
                self._hook.load_state_dict(json.loads(state))
            if self._keeps:
                self._sent = self._state()
            self._methods = {each.point: getattr(self._hook, each.point) for each in made.subscriptions}
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            doing = "its state cannot be taken back: " if state is not None else "it cannot be made: "
            self._broken = Broken(doing + line_of(error, file), whole(error))

    def answer(self, call: Call) -> Answer:
        """Calls the hook's method."""
        method = self._methods.get(call[4])
        if method is None:
            broken = self._broken or Broken(f"it has no method {call[4]}: the daemon's plan is another one", "")
            return call[1], call[0], [], None, broken.error, broken.traceback
        desired = (call[15] or {}) if self._desired else NOT_DESIRED
        cx = Context(self._run, call[14] if self._memory else None, desired)
        try:
            method(Event(call, self._not_finite.get(call[4], "")), cx)
            state = None
            if self._keeps:
                now = self._state()
                if now != self._sent:
                    state = self._sent = now
            return call[1], call[0], cx._decisions, state, "", ""
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return call[1], call[0], [], None, line_of(error, self._file), whole(error)

    def _state(self) -> str:
        state = self._hook.state_dict()
        try:
            text = json.dumps(state, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"state_dict() gave what is no JSON: {error}") from None
        if len(text) > MOST_STATE_BYTES:
            raise ValueError(f"state_dict() gave {len(text)} bytes of JSON; at most {MOST_STATE_BYTES} are kept")
        return text
