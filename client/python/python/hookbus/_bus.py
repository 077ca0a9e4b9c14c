"""The bus: what a training loop talks to.

It turns a plain loop into MMEngine's lifecycle points, in MMEngine's order. It never reorders, skips or repeats a
batch, and holds no policy: what is decided is decided in the daemon and applied by `_actions`.
"""

from __future__ import annotations

import os

from . import _describe, _exit, _facts
from ._actions import Actions, named
from ._agreement import ASIDE
from ._rates import Rates
from ._stopped import TrainingStopped

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Protocol, TypeVar

    from ._actions import Handler
    from ._log import TrainerLog
    from ._native import Session, Status

    Batch = TypeVar("Batch")

    class Emit(Protocol):
        """`event(point, **fields)`: says that a lifecycle point is reached."""

        def __call__(self, point: str, /, **fields: object) -> None: ...


# where one iteration of a loop stands
OUTSIDE, OPEN, REPORTED = 0, 1, 2


class Bus:
    """One rank's connection to its run; made by `hookbus.attach`, used as a context manager."""

    event: Emit
    """Says that a point is reached: `bus.event("after_train_iter", loss=0.5)`. The native function itself."""

    def __init__(
        self,
        session: Session,
        log: TrainerLog,
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        iters_per_epoch: int | None = None,
        seed: int | None = None,
        size_multiple: int | None = None,
        val_on_every_rank: bool = False,
        ranks_timeout_s: float | None = None,
        ranks_every: int | None = None,
        agreed_in: Mapping[str, object] | None = None,
    ) -> None:
        self.event = session.emit
        self._session = session
        self._log = log
        self._actions = Actions(session, log, self._tell_again)
        self._max_epochs = max_epochs
        self._rates = Rates(session)
        self._scheduler_bound = False
        self._train = OUTSIDE
        self._val = OUTSIDE
        self._said_twice = False
        self._val_loader: object | None = None
        self._run_begun = False
        self._closed = False
        self._pid = os.getpid()
        session.set_apply(self._actions.apply)
        self._actions.bound.evaluates = val_on_every_rank
        self._undescribed = False
        self._known: dict[str, object] = {}  # each Facts message is whole: the latest replaces the one before
        given = {
            "max_epochs": max_epochs,
            "max_iters": max_iters,
            "iters_per_epoch": iters_per_epoch,
            "seed": seed,
            "size_multiple": size_multiple,
        }
        self._tell({name: value for name, value in given.items() if value is not None})
        self._iters_per_epoch_given = iters_per_epoch is not None
        self._agreed_in = dict(agreed_in or {})
        self._leave: Callable[[], None] = lambda: None
        if session.is_gathering():
            from . import _ranks

            ranks = _ranks.Ranks(
                session,
                log,
                self._say_to_ranks,
                self._ranks_differ,
                timeout_s=_ranks.TIMEOUT_S if ranks_timeout_s is None else ranks_timeout_s,
                every=_ranks.EVERY if ranks_every is None else ranks_every,
                evaluates=val_on_every_rank,
            )
            session.set_ranks(ranks)
            self._leave = ranks.leave

    def bind(
        self,
        optimizer: object | None = None,
        model: object | None = None,
        sampler: object | None = None,
        loader: object | None = None,
        scheduler: object | None = None,
    ) -> None:
        """Tells the bus about the trainer's objects: what hooks need to know is read from them, once more when
        training begins, and what the daemon wants is applied to them (learning rate, input size, mode, set_epoch).
        Without a daemon none of their numbers is changed.

        `optimizer`: any object with `param_groups`, or a dict or list of them; each report then carries the learning
        rate of the step, of the first group. A schedule leaves each group's own rate beside it, as "initial_lr". What
        an operator holds is there during the iteration only; with an optimizer of PyTorch, during its steps only.
        `scheduler`: the trainer's own, if it has one; a scheduling hook beside it is refused, and while an operator
        holds the learning rate it steps from its own value.
        """
        facts: _facts.Facts = _facts.of_process_group()
        if optimizer is not None:
            self._rates.bind(_facts.optimizers_of(optimizer))
            self._forget_optimizers()
            facts.update(self._rates.facts())
            if self._scheduler_bound:
                facts.pop("scheduler", None)  # known by its name
        if loader is not None:
            facts.update(_facts.of_loader(loader))
            if self._iters_per_epoch_given:
                facts.pop("iters_per_epoch", None)  # what the user said outranks len(loader)
            self._actions.bound.loader = loader
        if model is not None:
            self._actions.bound.model = model
        if sampler is not None:
            self._actions.bound.sampler = sampler
        if scheduler is not None:
            facts.update(_facts.of_scheduler(scheduler))
            self._scheduler_bound = True
            self._rates.bind_scheduler(scheduler)
        self._tell(facts)

    def _tell(self, facts: Mapping[str, object]) -> None:
        if facts:
            self._known.update(facts)
            self._session.facts(**self._known)

    def _tell_again(self) -> None:
        """Training begins: a scheduler or a process group may have come, a checkpoint been loaded, since `bind`."""
        before = dict(self._known)
        facts: dict[str, object] = {**_facts.of_process_group(), **self._rates.facts()}
        self._forget_optimizers()
        if self._scheduler_bound:
            facts.pop("scheduler", None)  # known by its name
        self._known.update(facts)
        if self._known != before:
            self._session.facts(**self._known)

    def _say_to_ranks(self) -> dict[str, object]:
        """What all ranks must be the same in, or no decision could be."""
        epoch, iter, _ = self._session.position()
        return {
            "run": self._session.run_name(),
            **self._agreed_in,
            "max epochs": self._known.get("max_epochs"),
            "max iterations": self._known.get("max_iters"),
            "iterations an epoch": self._known.get("iters_per_epoch"),
            "where training starts": f"epoch {epoch}, iteration {iter}",
            ASIDE: self._actions.bound.norms(),
        }

    def _ranks_differ(self, what: str) -> None:
        self._actions.bound.differs = what

    def describe(self, point: str) -> None:
        """Before a point whose hook compares them: says what the bound model and the loaders' datasets are."""
        if not self._session.wants_description(point):
            return
        why = "no model is bound"
        if self._actions.bound.model is not None:
            loaders = {"train": self._actions.bound.loader, "val": self._val_loader}
            datasets = {phase: getattr(loader, "dataset", None) for phase, loader in loaders.items()}
            known = {phase: dataset for phase, dataset in datasets.items() if hasattr(dataset, "metainfo")}
            told = _describe.describe(self._session, self._actions.bound.model, known)
            if told is None:
                return
            why = told
        if not self._undescribed:
            self._undescribed = True
            self._log.warning(f"hookbus: the model and its datasets could not be described: {why}")

    def _forget_optimizers(self) -> None:
        """What was read from optimizers is read again: others may be bound."""
        for name in ("groups",) if self._scheduler_bound else ("groups", "own_scheduler", "scheduler"):
            self._known.pop(name, None)

    def resume(self, epoch: int, iter: int) -> None:
        """Says, after a checkpoint was loaded, where the training goes on: both counted from 0, as MMEngine counts."""
        self._session.set_position(epoch, iter, 0)
        self._session.facts(**self._known)  # schedules begin where the training does

    def on(self, kind: str, handler: Handler) -> None:
        """Calls `handler` on the training thread when it is asked for.

        "checkpoint": handler(tag), what it returns is reported (a path, say). "custom:NAME": handler(payload).
        "size": handler((height, width)). "mode": handler(skip_types). "set_epoch": handler(epoch). These three take
        the place of what `bind` would do. "stop": handler(reason), just before TrainingStopped is raised. One that
        raises is reported, never felt.
        """
        self._actions.add(kind, handler)

    def epochs(self) -> Iterator[int]:
        """Yields each epoch's number, from the resumed epoch to max_epochs, between its lifecycle points."""
        if self._max_epochs is None:
            raise ValueError("epochs() needs to know where to end: attach(..., max_epochs=N)")
        return self._epochs(self._session.position()[0], self._max_epochs)

    def _epochs(self, first: int, end: int) -> Iterator[int]:
        if not self._run_begun:
            self._run_begun = True
            self.event("before_run")
        self.event("before_train")
        for epoch in range(first, end):
            self._actions.bound.epoch_begins()
            self.describe("before_train_epoch")
            self.event("before_train_epoch")
            yield epoch
            self.event("after_train_epoch")
        self.event("after_train")
        self.event("after_run")

    def iters(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Yields each batch between before_train_iter and after_train_iter; see `report`."""
        try:
            for batch in loader:
                self.event("before_train_iter")
                self._train = OPEN
                self._rates.iteration_begins()
                yield batch
                if self._train == OPEN:
                    self.report()
        finally:
            if self._train == OPEN:  # the loop is left in the middle of an iteration
                self._rates.iteration_ends()
                self._session.give_rates_back()
            self._train = OUTSIDE

    def report(self, **metrics: object) -> None:
        """Ends this iteration with its numbers: `report(loss=..., accuracy=...)`, once an iteration, in one call.

        A stop that a hook decides on these numbers is raised here, as TrainingStopped.
        """
        if self._train == REPORTED:
            self._warn_twice("report", metrics)
            return
        if self._train == OPEN:
            self._train = REPORTED
            self._rates.iteration_ends()
        if "lr" not in metrics:
            lr = self._rates.used()
            if lr is not None:
                metrics["lr"] = lr
        self.event("after_train_iter", **metrics)

    def val_iters(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Yields each validation batch between the points of a validation; numbers go to `report_val`."""
        self.event("before_val")
        self._val_loader = loader
        self.describe("before_val_epoch")
        self.event("before_val_epoch")
        try:
            for batch in loader:
                self.event("before_val_iter")
                self._val = OPEN
                yield batch
                if self._val == OPEN:
                    self.report_val()
        finally:
            self._val = OUTSIDE
        self.event("after_val_epoch")
        self.event("after_val")

    def report_val(self, **metrics: object) -> None:
        """Ends this validation iteration with its numbers."""
        if self._val == REPORTED:
            self._warn_twice("report_val", metrics)
            return
        if self._val == OPEN:
            self._val = REPORTED
        self.event("after_val_iter", **metrics)

    def _warn_twice(self, name: str, metrics: dict[str, object]) -> None:
        if self._said_twice:
            return
        self._said_twice = True
        lost = ", ".join(metrics) or "nothing"
        self._log.warning(
            f"hookbus: {name}() was called twice in one iteration; the second call's values ({lost}) are not recorded: "
            f"pass them in one call (said once)"
        )

    @property
    def stop_reason(self) -> str | None:
        """Why a hook or an operator stopped this training, or None."""
        return self._actions.stop_reason

    def status(self) -> Status:
        """What the client knows of its connection: connected, run_id, dropped events, and more."""
        return self._session.status()

    def close(self, reason: str | None = None, *, failed: bool = False) -> None:
        """Says goodbye with a reason and lets what is buffered go out, for a second at most. May be called twice."""
        if self._closed or os.getpid() != self._pid:
            return
        self._actions.closing = True
        self._session.close(self._reason() if reason is None else reason, failed)
        self.closed()

    def goodbye(self, error: BaseException | None) -> tuple[Session, str, bool]:
        """What it has to say where this error, if any, has left the training."""
        self._actions.closing = True
        left = isinstance(error, SystemExit) and not error.code
        if error is None or left or isinstance(error, TrainingStopped):
            return self._session, self._reason(), False
        return self._session, named(error), True

    def closed(self) -> None:
        """The goodbye is said: nothing is kept for it any more."""
        self._closed = True
        _exit.forget(self)
        self._leave()

    def _reason(self) -> str:
        return "finished" if self.stop_reason is None else f"stopped: {self.stop_reason}"

    def __enter__(self) -> Bus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _, reason, failed = self.goodbye(error)
        self.close(reason, failed=failed)
