"""A recorded run, fed through the same dispatcher: what each hook decides now, beside what was decided then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ._dispatch import Dispatcher, Opened
from ._plan import Subscription, wants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._context import Decision
    from ._event import Call, Number
    from ._offer import Made
    from ._recording import Attempt, Happened, Recording, Sample, Then

SAME, ONLY_NOW, ONLY_THEN = "same", "only now", "only then"
SET_FOR_ALL = ("lr", "size", "mode", "set_epoch", "sync_norm")
NO_STATE = ("stop", "lr", "size", "mode", "set_epoch", "sync_norm")
"""What was asked of the training is not in a recording: `cx.desired` has every key, and None."""
NOT_RECORDED = "it was not recorded: the trainer did not report it there, or [record] left it out"


class Decided(NamedTuple):
    """One decision, now or then."""

    which: str
    """same, only now or only then."""
    hook: str
    what: str
    text: str
    """In words; with its reason."""
    then: str
    """What was said then; empty: nothing."""
    attempt: int
    rank: int | None
    point: str | None
    epoch: int | None
    iter: int | None
    inner_iter: int | None


class Raised(NamedTuple):
    """A call in which a hook raised."""

    hook: str
    error: str
    traceback: str
    attempt: int
    rank: int
    point: str
    epoch: int
    iter: int


class Replayed(NamedTuple):
    """What came of it."""

    decided: list[Decided]
    raised: list[Raised]
    calls: dict[str, int]
    """Of each hook, how often it was called."""
    after_stop: dict[str, int]
    """Of each hook, how many due events came after a stop of its own: the training would have ended."""


def replay(recording: Recording, hooks: Sequence[Made], file: str | None) -> Replayed:
    """Feeds what is due to each hook, attempt by attempt. After a hook's own stop it is not called in that attempt."""
    dispatcher = Dispatcher(hooks, file)
    out = Replayed([], [], {made.request.name: 0 for made in hooks}, {made.request.name: 0 for made in hooks})
    now: list[Decided] = []
    for attempt in recording.attempts:
        dispatcher.opened(_opened(recording, attempt))
        events = [event for event in recording.events if event.attempt == attempt.number]
        samples = iter(recording.samples.get(attempt.number, []))
        _feed(dispatcher, hooks, attempt, events, samples, out, now)
        dispatcher.closed(attempt.number)
    out.decided.extend(_compared(now, recording.then, {made.request.name for made in hooks}))
    return out


def _opened(recording: Recording, attempt: Attempt) -> Opened:
    who = (recording.name, recording.run_id, attempt.number, attempt.world_size)
    return Opened(attempt.number, *who, attempt.facts, {})


def _feed(
    dispatcher: Dispatcher,
    hooks: Sequence[Made],
    attempt: Attempt,
    events: Sequence[Happened],
    samples: Iterator[Sample],
    out: Replayed,
    now: list[Decided],
) -> None:
    by_point: dict[str, list[tuple[Made, Subscription]]] = {}
    for made in hooks:
        for each in made.subscriptions:
            by_point.setdefault(each.point, []).append((made, each))
    newest: dict[tuple[int | None, int | None, str], Sample] = {}
    ahead = next(samples, None)
    stopped: set[str] = set()
    id = 0
    for event in events:
        while ahead is not None and ahead.time_unix_s <= event.time_unix_s:
            newest[(ahead.rank, ahead.device, ahead.name)] = ahead
            ahead = next(samples, None)
        for made, each in by_point.get(event.point, ()):
            if not wants(each, event.epoch, event.iter, event.inner_iter, event.fields):
                continue
            name = made.request.name
            if name in stopped:
                out.after_stop[name] += 1
                continue
            id += 1
            memory = _memory(newest, event) if made.memory else []
            answer = dispatcher.answer(_call(id, attempt.number, name, each, event, memory))
            out.calls[name] += 1
            _, _, decisions, _, error, traceback = answer
            if error:
                where = (event.attempt, event.rank, event.point, event.epoch, event.iter)
                out.raised.append(Raised(name, error, traceback, *where))
            for decision in decisions:
                now.append(_decided(name, decision, event))
                if decision[0] == "stop":
                    stopped.add(name)


def _call(id: int, run: int, hook: str, each: Subscription, event: Happened, memory: list[Number]) -> Call:
    every = "*" in each.fields
    fields = event.fields if every else {f: event.fields[f] for f in each.fields if f in event.fields}
    unknown = {f: event.unknown[f] for f in (event.unknown if every else each.fields) if f in event.unknown}
    for field in each.fields:
        if field not in ("*", "rss_bytes") and field not in fields and field not in unknown:
            unknown[field] = NOT_RECORDED
    rss = event.rss_bytes if "rss_bytes" in each.fields else None
    at = (event.epoch, event.iter, event.inner_iter)
    who = (id, run, hook, event.rank, event.point)
    return (
        *who,
        *at,
        dict(fields),
        unknown,
        rss,
        each.gate,
        each.deadline_ms,
        [],
        memory,
        {"generation": 0, **dict.fromkeys(NO_STATE)},
    )


def _memory(newest: Mapping[tuple[int | None, int | None, str], Sample], event: Happened) -> list[Number]:
    return [
        (name, device, sample.value, sample.unknown, event.time_unix_s - sample.time_unix_s, sample.source)
        for (rank, device, name), sample in newest.items()
        if rank is None or rank == event.rank
    ]


def _decided(hook: str, decision: Decision, event: Happened) -> Decided:
    where = (event.attempt, event.rank, event.point, event.epoch, event.iter, event.inner_iter)
    return Decided(ONLY_NOW, hook, str(decision[0]), words(decision), "", *where)


def words(decision: Decision) -> str:
    """A decision for people, as the daemon's journal has it."""
    what, *rest = decision
    if what in ("stop", "incident"):
        return str(rest[0])
    if what == "log":
        return str(rest[1])
    if what == "lr":
        group = "" if rest[0] is None else f" in group {rest[0]}"
        how = {"value": "held at ", "scale": "scaled by ", "release": "released"}[str(rest[1])]
        number = "" if rest[1] == "release" else _number(rest[2])
        return f"learning rate {how}{number}{group}"
    if what == "size":
        return f"input size {rest[0]} x {rest[1]}"
    if what == "mode":
        return f"mode on from {'the next epoch' if rest[0] is None else f'epoch {rest[0]}'}"
    if what in ("set_epoch", "sync_norm"):
        return f"{what} {'on' if rest[0] else 'off'}"
    return f'a checkpoint "{rest[0]}"' if what == "checkpoint" else str(rest[0])


def _number(value: object) -> str:
    """As the daemon writes it: 1e-5, not 1e-05."""
    return re.sub(r"e([-+])0*", lambda found: "e" + found[1].strip("+"), repr(value))


def _compared(now: Sequence[Decided], then: Sequence[Then], hooks: set[str]) -> list[Decided]:
    """The same: of the same hook, of the same kind, at the same position of the same attempt and rank."""
    left = [each for each in then if each.hook in hooks]
    out: list[Decided] = []
    stops: dict[tuple[str, int, int | None], tuple[int, int]] = {}
    for each in now:
        if each.what == "stop":
            stops[(each.hook, each.attempt, each.rank)] = (each.epoch or 0, each.iter or 0)
        found = next((at for at, old in enumerate(left) if _is_same(each, old)), None)
        if found is not None:
            out.append(each._replace(which=SAME, then=left.pop(found).text))
        elif not any(_is_again(each, before) for before in out):
            out.append(each)
    first = {(old.hook, old.attempt, old.rank): old for old in reversed(then) if old.what == "stop"}
    for old in left:
        who = (old.hook, old.attempt, old.rank)
        ended = stops.get(who)
        if ended is not None and (old.epoch or 0, old.iter or 0) > ended and old is not first.get(who):
            continue  # the hook was not called any more
        where = (old.attempt, old.rank, old.point, old.epoch, old.iter, old.inner_iter)
        out.append(Decided(ONLY_THEN, old.hook, old.what, "", old.text, *where))
    return sorted(out, key=lambda each: (each.attempt, each.iter if each.iter is not None else -1))


def _is_again(now: Decided, before: Decided) -> bool:
    """What a hook sets once for all ranks it may have decided for several of them."""
    return (
        now.what in SET_FOR_ALL
        and now.rank != before.rank
        and (now.hook, now.what, now.text, now.attempt) == (before.hook, before.what, before.text, before.attempt)
        and (now.point, now.epoch, now.iter) == (before.point, before.epoch, before.iter)
    )


def _is_same(now: Decided, old: Then) -> bool:
    if (now.hook, now.what, now.attempt) != (old.hook, old.what, old.attempt):
        return False
    if old.rank is not None and old.rank != now.rank:
        return False
    if now.what in (*SET_FOR_ALL, "checkpoint", "custom") and now.text != old.text:
        return False
    at = ((now.epoch, old.epoch), (now.iter, old.iter), (now.inner_iter, old.inner_iter), (now.point, old.point))
    return all(then is None or then == here for here, then in at)
