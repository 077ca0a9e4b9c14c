"""What a provider does with each frame: runs open and close, calls are answered in their order. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from ._context import Run
from ._slot import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._event import Call
    from ._offer import Made
    from ._slot import Answer


class Opened(NamedTuple):
    """An attempt of a run; what was known of it before is void."""

    run: int
    """Its number in this connection."""
    name: str
    run_id: str
    attempt: int
    world_size: int
    facts: Mapping[str, object] | None
    """None: not known yet."""
    states: Mapping[str, str]
    """Of hooks that kept one, as JSON."""


class Dispatcher:
    """The hooks of one module in all runs."""

    def __init__(self, hooks: Sequence[Made], file: str | None = None) -> None:
        self._hooks = list(hooks)
        self._file = file
        self._facts: dict[int, dict[str, object]] = {}
        self._slots: dict[int, dict[str, Slot]] = {}

    def opened(self, opened: Opened) -> None:
        """Makes each hook anew, and gives it its state."""
        facts = dict(opened.facts or {})
        run = Run(opened.name, opened.run_id, opened.attempt, opened.world_size, facts)
        self._facts[opened.run] = facts
        self._slots[opened.run] = {
            made.request.name: Slot(made, run, opened.states.get(made.request.name), self._file) for made in self._hooks
        }

    def facts(self, run: int, facts: Mapping[str, object]) -> None:
        """New facts of a run: they replace those before."""
        known = self._facts.get(run)
        if known is not None:
            known.clear()
            known.update(facts)

    def closed(self, run: int) -> None:
        """The run is over, or at another attempt: its hooks are let go."""
        self._facts.pop(run, None)
        self._slots.pop(run, None)

    def lost(self) -> None:
        """The connection is gone: the daemon opens each run again on the next one."""
        self._facts.clear()
        self._slots.clear()

    def answer(self, call: Call) -> Answer:
        """Calls the hook that the call names. Calls of one run are made in their order."""
        try:
            slot = self._slots[call[1]][call[2]]
        except KeyError:
            return _nobody(call, call[1] in self._slots)
        return slot.answer(call)

    def calls(self, calls: Iterable[Call]) -> list[Answer]:
        """An answer to each call, in their order."""
        return [self.answer(call) for call in calls]


def _nobody(call: Call, opened: bool) -> Answer:
    why = f"there is no hook {call[2]} in this module" if opened else f"run {call[1]} was not opened"
    return call[1], call[0], [], None, why, ""
