"""The trainer's optimizers and scheduler: when they step, and the rate that a step used.

What is written into them is decided and written elsewhere. Holds no policy and never raises.
"""

from __future__ import annotations

from . import _facts, _steps

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._native import Session


class Rates:
    """The optimizers and the scheduler of one bus."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._optimizers: list[object] = []
        self._watched: list[tuple[Callable[[], object | None], bool]] = []
        self._used: object | None = None  # by the last step, until it is reported
        self._within = False

    def bind(self, optimizers: list[object]) -> None:
        self._optimizers = optimizers
        for optimizer in optimizers:
            if self._is_watched(optimizer) is None:
                self._watch(optimizer)
        self._session.set_optimizers(optimizers, [bool(self._is_watched(optimizer)) for optimizer in optimizers])

    def bind_scheduler(self, scheduler: object) -> None:
        _steps.before_steps(scheduler, self._scheduler_steps)

    def facts(self) -> _facts.Facts:
        """What is true of the bound optimizers now."""
        return _facts.of_optimizers(self._optimizers)

    def iteration_begins(self) -> None:
        self._used, self._within = None, True

    def iteration_ends(self) -> None:
        self._within = False

    def used(self) -> object | None:
        """The rate of the iteration's step: of the first optimizer's first group."""
        used, self._used = self._used, None
        if used is None and self._optimizers:
            used = _facts.first_rate(self._optimizers[0])
        return used

    def _watch(self, optimizer: object) -> None:
        known = _weakly(optimizer)  # an optimizer is not kept alive by its own hooks

        def before() -> None:
            stepping = known()
            if stepping is not None:
                self._session.write_rates_again(stepping)

        def after() -> None:
            stepped = known()
            if stepped is not None:
                if self._optimizers and stepped is self._optimizers[0]:
                    self._used = _kept(_facts.first_rate(stepped))
                self._session.give_rates_back(stepped)

        self._watched.append((known, _steps.around_steps(optimizer, before, after)))

    def _is_watched(self, optimizer: object) -> bool | None:
        """Whether its steps are noticed; None: it is a new one."""
        return next((noticed for known, noticed in self._watched if known() is optimizer), None)

    def _scheduler_steps(self) -> None:
        # of an optimizer whose steps are not noticed: a scheduler steps after it, so this is the rate that was used
        if self._within and self._used is None and self._optimizers and not self._is_watched(self._optimizers[0]):
            self._used = _kept(_facts.first_rate(self._optimizers[0]))
        self._session.give_rates_back()


def _weakly(thing: object) -> Callable[[], object | None]:
    import weakref

    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def _kept(rate: object | None) -> object | None:
    """A tensor is written to in place, so a copy is kept; it is not read, which could wait for a device."""
    clone = getattr(rate, "clone", None)
    try:
        return rate if clone is None else clone()
    except Exception:  # of another kind than a tensor
        return rate
