"""What a hook wants to see, as subscriptions; and which events are due: the client's rule, once more, for replays."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from ._hook import Hook
from ._points import ALWAYS, EPOCH, INNER_ITER, ITER, POINTS, base_of, close_to, is_at_iteration

NOT_SENT = {
    "model": "it stays in the trainer's process",
    "runner": "it stays in the trainer's process; the event and cx have what a hook may know of it",
    "data_batch": "tensors stay in the trainer's process",
    "outputs": 'tensors stay in the trainer\'s process; name the numbers that it reports: fields = ("loss",)',
    "optimizer": "it stays in the trainer's process; cx.lr() sets its learning rate",
    "dataset": "it stays in the trainer's process",
    "description": "a description of the model goes to built-in hooks only",
}
"""Fields that no trainer can send, and why."""

CONDITION = re.compile(r"!\s*is_finite\(\s*([^\s()]+)\s*\)")
MMENGINE_PRIVATE = ("_before_epoch", "_after_epoch", "_before_iter", "_after_iter")


class Refused(Exception):
    """A hook that does not hold; the text says why, and what to do."""


class Subscription(NamedTuple):
    """What is asked of the trainer at one point."""

    point: str
    base: str
    """What is counted: always, iter, inner_iter or epoch."""
    n: int
    fields: tuple[str, ...]
    gate: bool
    not_finite: str
    """The metric of a gate's condition; empty: none."""
    otherwise: str
    deadline_ms: int
    otherwise_text: str


def subscriptions(hook: Hook, name: str) -> list[Subscription]:
    """What its class overrides, as its attributes say; they may be set in the constructor. Raises Refused."""
    points = _points(type(hook))
    fields = _fields(hook)
    found = []
    for point in points:
        gate, condition = _gate(hook, point, points)
        base, n = _every(hook, point, points)
        wanted = fields if not condition or condition in fields or "*" in fields else (*fields, condition)
        text = hook.otherwise_text
        if text is None:
            text = f"{name}: it has not answered, and `otherwise` is stop"
        found.append(
            Subscription(point, base, n, wanted, gate, condition, _otherwise(hook), _deadline(hook, point), text)
        )
    if hook.otherwise is not None and not any(each.gate for each in found):
        raise Refused(f"otherwise = {hook.otherwise!r} without a gate: nothing waits; set gate, or leave it out")
    return found


def _points(kind: type[Hook]) -> list[str]:
    own = getattr(kind, "points", ())
    if not isinstance(own, (tuple, list)) and not isinstance(own, str):
        raise Refused(f"points = {own!r}: a tuple of names")
    if isinstance(own, str) or not all(isinstance(point, str) and point for point in own):
        raise Refused(f"points = {own!r}: a tuple of names, as ({own!r},)" if isinstance(own, str) else "points: names")
    for point in own:
        if not callable(getattr(kind, point, None)):
            raise Refused(f"points has {point!r}, and there is no method of that name")
    for name in dir(kind):
        if name in MMENGINE_PRIVATE:
            mode = name[1:].replace("_", "_{}_")
            these = ", ".join(mode.format(phase) for phase in ("train", "val", "test"))
            raise Refused(
                f"{name} is called at no point: write {these}; one may be another: after_val_iter = after_train_iter"
            )
        looks_so = name.startswith(("before_", "after_")) and callable(getattr(kind, name))
        if looks_so and name not in POINTS and name not in own:
            raise Refused(
                f"there is no point {name}{close_to(name, list(POINTS))} A point of the trainer's own is named in "
                f"points = ({name!r},); a method that is none begins with _"
            )
    known = [
        point
        for point in dict.fromkeys((*POINTS, *own))
        if point in own or getattr(kind, point) is not getattr(Hook, point)
    ]
    if not known:
        raise Refused("it overrides no point, so it would never be called")
    for point in known:
        _signature(kind, point)
    return known


def _signature(kind: type[Hook], point: str) -> None:
    method = inspect.getattr_static(kind, point)
    hint = f"write it as def {point}(self, event, cx)"
    if isinstance(method, (staticmethod, classmethod)):
        raise Refused(f"{point} is no plain method: {hint}")
    if inspect.iscoroutinefunction(method) or inspect.isgeneratorfunction(method):
        raise Refused(f"{point} would not run when it is called (it is async, or has a yield): {hint}")
    try:
        signature = inspect.signature(method)
        signature.bind(None, None, None)
    except TypeError:
        raise Refused(f"{point}{signature} does not take the event and cx: {hint}") from None
    except ValueError:
        return  # a builtin that does not say
    names = list(signature.parameters)
    if names[1:2] == ["runner"]:
        raise Refused(f"{point}{signature} is MMEngine's signature: {hint}; the runner's numbers are the event's")


def _fields(hook: Hook) -> tuple[str, ...]:
    said = hook.fields
    if isinstance(said, str):
        raise Refused(f"fields = {said!r}: a tuple of names, as ({said!r},)")
    if not isinstance(said, (tuple, list)):
        raise Refused(f"fields = {said!r}: a tuple of names")
    fields = tuple(said)
    for field in fields:
        if not isinstance(field, str) or not field:
            raise Refused(f"fields has {field!r}, which is no name")
        if field in NOT_SENT:
            raise Refused(f"fields has {field!r}, which a trainer cannot send: {NOT_SENT[field]}")
    return fields


def _of_point(name: str, said: object, point: str, points: list[str]) -> object:
    """What an attribute that may be a dict says of this point."""
    if not isinstance(said, Mapping):
        return said
    for key in said:
        if key not in points:
            missing = f"there is no method {key}" if key in POINTS else f"there is no point {key}"
            raise Refused(f"{name} has {key!r}, and {missing}{close_to(str(key), points)}")
    return said.get(point)


def _gate(hook: Hook, point: str, points: list[str]) -> tuple[bool, str]:
    said = _of_point("gate", hook.gate, point, points)
    if said is None or said is False:
        return False, ""
    if said is True:
        return True, ""
    condition = CONDITION.fullmatch(said.strip()) if isinstance(said, str) else None
    if condition is None:
        raise Refused(f'gate = {said!r} is no condition: "!is_finite(NAME)", True (always) or None (never)')
    if condition[1] in NOT_SENT or condition[1] in ("*", "rss_bytes"):
        raise Refused(f"gate = {said!r}: {condition[1]} is no metric")
    return True, condition[1]


def _otherwise(hook: Hook) -> str:
    if hook.otherwise not in (None, "continue", "stop"):
        raise Refused(f'otherwise = {hook.otherwise!r}: "continue" or "stop"')
    return hook.otherwise or "continue"


def _deadline(hook: Hook, point: str) -> int:
    said = hook.deadline_ms
    if said is None:
        return 50 if is_at_iteration(point) else 2000
    if isinstance(said, bool) or not isinstance(said, int) or not 1 <= said <= 60_000:
        raise Refused(f"deadline_ms = {said!r}: a whole number of milliseconds, from 1 to 60000")
    return said


def _every(hook: Hook, point: str, points: list[str]) -> tuple[str, int]:
    said = _of_point("every", hook.every, point, points)
    if said is None:
        return ALWAYS, 0
    base = base_of(point)
    if base == ALWAYS:
        if isinstance(hook.every, Mapping) or all(base_of(each) == ALWAYS for each in points):
            raise Refused(f"every = {said!r} at {point}: there is nothing to count there")
        return ALWAYS, 0
    number = said
    name = "every"
    if isinstance(said, str):
        name = said
        known = {**vars(type(hook)), **getattr(hook, "__dict__", {})}
        if not hasattr(hook, said):
            raise Refused(
                f"every = {said!r}, and the hook has no attribute of that name{close_to(said, list(known))} Keep the "
                f"argument: self.{said} = {said}"
            )
        number = getattr(hook, said)
    if isinstance(number, float) and math.isfinite(number) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise Refused(f"{name} = {number!r}: how often is a whole number; 0 or less: never")
    return base, max(min(number, 2**63 - 1), -(2**63))


def is_due(base: str, n: int, epoch: int, iter: int, inner_iter: int, start: int = 0) -> bool:
    """Whether "every n" is reached there, as MMEngine counts. n <= 0 with a base: never."""
    if base == ALWAYS:
        return True
    count = {ITER: iter, INNER_ITER: inner_iter, EPOCH: epoch}[base]
    reached = count + 1 - start
    return n > 0 and reached >= 0 and reached % n == 0


def wants(each: Subscription, epoch: int, iter: int, inner_iter: int, fields: Mapping[str, float]) -> bool:
    """Whether an event of its point is due for this subscription: "every n", and the condition of a gate."""
    if not is_due(each.base, each.n, epoch, iter, inner_iter):
        return False
    if not each.gate or not each.not_finite:
        return True
    value = fields.get(each.not_finite)
    return value is not None and not math.isfinite(value)
