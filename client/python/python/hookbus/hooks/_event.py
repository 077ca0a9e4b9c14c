"""What a hook sees of a point that was reached."""

from __future__ import annotations

import math

from ._memory import Unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias, TypeVar

    Default = TypeVar("Default")
    Number: TypeAlias = tuple[str, "int | None", "float | None", str, float, str]
    """Memory: series, index of the GPU, value, why there is none, age in seconds, source."""
    Call: TypeAlias = tuple[
        int,  # its id
        int,  # the run's number
        str,  # the hook's name
        int,  # rank
        str,  # point
        int,  # epoch
        int,  # iter
        int,  # inner_iter
        "dict[str, float]",  # fields
        "dict[str, str]",  # wanted and not there: why
        "int | None",  # rss_bytes
        bool,  # gate
        int,  # deadline_ms
        "list[int]",  # held_on
        "list[Number]",  # memory
        "dict[str, object] | None",  # desired
    ]


class Event:
    """A point at a position, with the metrics that the hook's `fields` name: `event["loss"]`.

    Positions count from 0, as MMEngine counts.
    """

    __slots__ = ("_fields", "epoch", "gate", "held_on", "inner_iter", "iter", "point", "rank", "rss_bytes", "unknown")

    point: str
    """The point's name."""
    rank: int
    """Whose event it is."""
    epoch: int
    """Grows after after_train_epoch."""
    iter: int
    """Grows over the whole training."""
    inner_iter: int
    """MMEngine's batch_idx: begins anew with each epoch, validation and test."""
    unknown: Mapping[str, str]
    """Fields that were wanted and are not there, each with why."""
    rss_bytes: int | None
    """The trainer's own resident set size, where `fields` has "rss_bytes" and it could be read."""
    gate: bool
    """The training waits for this call."""
    held_on: tuple[int, ...]
    """A gate of ranks that act together: on which of them its condition held. Empty: on this event's own.

    Where its condition is that a metric is not finite, and it held on other ranks only, that metric is NaN in this
    event: what is asked is whether the job goes on.
    """

    def __init__(self, call: Call, not_finite: str = "") -> None:
        """`not_finite`: the metric of the gate's condition. Where it held on other ranks only, it is NaN here too."""
        (_, _, _, self.rank, self.point, self.epoch, self.iter, self.inner_iter) = call[:8]
        (self._fields, self.unknown, self.rss_bytes, self.gate) = call[8:12]
        held_on = call[13]
        self.held_on = tuple(held_on) if held_on else ()
        if not_finite and self.held_on and self.rank not in self.held_on:
            self._fields = {**self._fields, not_finite: math.nan}

    def __getitem__(self, name: str) -> float:
        """The metric's value. Raises KeyError where this event has none of that name, Unknown where it has no value."""
        try:
            return self._fields[name]
        except KeyError:
            pass
        if name in self.unknown:
            raise Unknown(f"{name} is unknown at {self.point}: {self.unknown[name]}")
        there = ", ".join(self._fields) or "nothing"
        raise KeyError(f"this event has no {name!r}; it has: {there}. A hook gets what its `fields` name")

    def get(self, name: str, default: Default | None = None) -> float | Default | None:
        """The metric's value, or the default where there is none or it is unknown."""
        return self._fields.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._fields.items())
        where = f"epoch={self.epoch}, iter={self.iter}, inner_iter={self.inner_iter}"
        return f"Event({self.point}, rank={self.rank}, {where}{', ' + fields if fields else ''})"
