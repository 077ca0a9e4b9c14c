"""What a hook can decide, and what it knows of the run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from ._memory import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ._event import Number

    Line: TypeAlias = tuple[int, str]
    Decision: TypeAlias = tuple[object, ...]
    """Its kind, and what `_native.ProviderLink.answer` says of each."""

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""The numbers of Python's logging."""
MOST_TEXT_BYTES = 64 << 10
MAY_BE_EMPTY = ("tag",)
MOST_GROUP, MOST_PIXELS, MOST_EPOCH = (1 << 16) - 1, (1 << 20) - 1, (1 << 53) - 1


class Run:
    """The run and what its trainer has said of itself. What it has not said is None."""

    __slots__ = ("_facts", "attempt", "id", "name", "world_size")

    def __init__(self, name: str, run_id: str, attempt: int, world_size: int, facts: Mapping[str, object]) -> None:
        self.name = name
        self.id = run_id
        self.attempt = attempt
        self.world_size = world_size
        self._facts = facts

    @property
    def max_epochs(self) -> int | None:
        return self._whole("max_epochs")

    @property
    def max_iters(self) -> int | None:
        return self._whole("max_iters")

    @property
    def iters_per_epoch(self) -> int | None:
        return self._whole("iters_per_epoch")

    @property
    def seed(self) -> int | None:
        return self._whole("seed")

    @property
    def loader_workers(self) -> int | None:
        return self._whole("loader_workers")

    @property
    def scheduler(self) -> str | None:
        """The name of the trainer's own scheduler of learning rates."""
        known = self._facts.get("scheduler")
        return known if isinstance(known, str) and known else None

    @property
    def groups(self) -> list[tuple[float, str]]:
        """Of each parameter group its base learning rate and its name. Empty: not said."""
        known = self._facts.get("groups")
        return list(known) if isinstance(known, (list, tuple)) else []

    @property
    def facts(self) -> Mapping[str, object]:
        """All that the trainer has said, by the names of `hookbus.v1.Facts`."""
        return self._facts

    def _whole(self, name: str) -> int | None:
        known = self._facts.get(name)
        return known if isinstance(known, int) else None

    def __repr__(self) -> str:
        return f"Run({self.id}, attempt {self.attempt}, {self.world_size} ranks)"


class Context:
    """`cx`: the run, the machine's memory, and everything that a hook can decide.

    What is decided is sent when the method returns; where it raises, nothing of it is. A mistake in an argument raises
    here, at the hook's own line.
    """

    __slots__ = ("_decisions", "_desired", "_memory", "_numbers", "run")

    run: Run
    """The run, and what its trainer has said of itself."""

    def __init__(self, run: Run, numbers: list[Number] | None, desired: Mapping[str, object] | str) -> None:
        self.run = run
        self._numbers = numbers
        self._memory: Memory | None = None
        self._desired = desired
        self._decisions: list[Decision] = []

    @property
    def memory(self) -> Memory:
        """The newest reading of each series of memory; the class must say `memory = True`."""
        if self._memory is None:
            if self._numbers is None:
                raise LookupError("this hook does not get memory: write `memory = True` into its class")
            self._memory = Memory(self._numbers)
        return self._memory

    @property
    def desired(self) -> Mapping[str, object]:
        """The desired state of the training as it is now; the class must say `desired = True`."""
        if isinstance(self._desired, str):
            raise LookupError(self._desired)
        return self._desired

    def stop(self, reason: str, logs: Sequence[str | tuple[int | str, str]] | None = None) -> None:
        """Stops the training: of a gate at this very iteration, else before the next one.

        `logs` are written to the trainer's log before it, texts at level info or (level, text); by default the reason.
        """
        reason = _text("stop", "reason", reason)
        lines = [reason] if logs is None else logs
        self._decisions.append(("stop", reason, [_line("stop", line) for line in lines]))

    def log(self, text: str, level: int | str = "info") -> None:
        """A line for the trainer's log; `level` is a word or a number of Python's logging."""
        self._decisions.append(("log", *_line("log", (level, text))))

    def warn(self, text: str) -> None:
        """A line for the trainer's log at level warning."""
        self.log(text, "warning")

    def incident(self, text: str) -> None:
        """Something for a person to look at, in `hookbus show`; the training goes on."""
        self._decisions.append(("incident", _text("incident", "text", text)))

    def lr(
        self,
        value: float | None = None,
        *,
        scale: float | None = None,
        release: bool = False,
        group: int | None = None,
    ) -> None:
        """Holds a learning rate from the next iteration on: `value` itself, or `scale` times what the schedule or the
        trainer's own scheduler gives. `release=True` ends what was held. `group`: of this parameter group only.

        It takes the place of what this hook held before: two times scale=0.1 is 0.1.
        """
        said = [value is not None, scale is not None, bool(release)]
        if said.count(True) != 1:
            raise TypeError("cx.lr() wants one of value=, scale= and release=True")
        which = None if group is None else _whole("lr", "group", group, 0, MOST_GROUP)
        if value is not None:
            self._decisions.append(("lr", which, "value", _number("lr", "value", value)))
        elif scale is not None:
            self._decisions.append(("lr", which, "scale", _number("lr", "scale", scale)))
        else:
            self._decisions.append(("lr", which, "release", 0.0))

    def size(self, height: int, width: int) -> None:
        """The size of the network's input from the next boundary on, in pixels."""
        self._decisions.append(
            ("size", _whole("size", "height", height, 1, MOST_PIXELS), _whole("size", "width", width, 1, MOST_PIXELS))
        )

    def mode(self, from_epoch: int | None = None, skip_types: Sequence[str] = ()) -> None:
        """YOLOX's last epochs: without these augmentations from that epoch on, by default the next one."""
        if isinstance(skip_types, str):
            raise TypeError(f"cx.mode(skip_types={skip_types!r}): a list of names")
        first = None if from_epoch is None else _whole("mode", "from_epoch", from_epoch, 0, MOST_EPOCH)
        self._decisions.append(("mode", first, [_text("mode", "skip_types", each) for each in skip_types]))

    def set_epoch(self, on: bool = True) -> None:
        """Whether the model is told the epoch before each one: model.set_epoch(epoch)."""
        self._decisions.append(("set_epoch", bool(on)))

    def sync_norm(self, on: bool = True) -> None:
        """Whether the norm layers' states are averaged over the ranks before each validation."""
        self._decisions.append(("sync_norm", bool(on)))

    def checkpoint(self, tag: str = "") -> None:
        """Asks the trainer to save a checkpoint."""
        self._decisions.append(("checkpoint", _text("checkpoint", "tag", tag)))

    def custom(self, name: str, payload: object = None) -> None:
        """Calls the trainer's own handler "custom:NAME" with this payload, JSON values."""
        name = _text("custom", "name", name)
        try:
            text = json.dumps(payload, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"cx.custom({name!r}, ...): the payload is no JSON: {error}") from None
        self._decisions.append(("custom", name, text))


def _text(call: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"cx.{call}({name}={value!r}): it is a text")
    if not value and name not in MAY_BE_EMPTY:
        raise ValueError(f"cx.{call}({name}=''): it is empty")
    if len(value.encode("utf-8", "replace")) > MOST_TEXT_BYTES:
        raise ValueError(
            f"cx.{call}({name}=...): {len(value)} characters are too many; at most {MOST_TEXT_BYTES} bytes"
        )
    return value


def _line(call: str, line: str | tuple[int | str, str]) -> Line:
    level, text = ("info", line) if isinstance(line, str) else line
    number = LEVELS.get(level.lower()) if isinstance(level, str) else level
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 100:
        raise ValueError(f"cx.{call}(level={level!r}): one of {', '.join(LEVELS)}, or a number of Python's logging")
    return number, _text(call, "text", text)


def _number(call: str, name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"cx.{call}({name}={value!r}): it is no number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"cx.{call}({name}={value!r}): a learning rate is finite and not below 0")
    return number


def _whole(call: str, name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"cx.{call}({name}={value!r}): it is a whole number")
    number = int(value)
    if not least <= number <= most:
        raise ValueError(f"cx.{call}({name}={value!r}): from {least} to {most}")
    return number
