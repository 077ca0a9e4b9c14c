"""What a replay showed, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._offer import Offer
    from ._recording import Recording
    from ._replay import Decided, Raised, Replayed

MOST_LINES = 200


def as_json(recording: Recording, offer: Offer, replayed: Replayed) -> dict[str, object]:
    """Names as in `_replay`; what is not known is null."""
    hooks = [
        {
            "name": made.request.name,
            "type": made.request.type,
            "args": made.args,
            "points": [each.point for each in made.subscriptions],
            "calls": replayed.calls[made.request.name],
            "due_after_its_stop": replayed.after_stop[made.request.name],
        }
        for made in offer.hooks
    ]
    return {
        "run": recording.run_id,
        "attempts": len(recording.attempts),
        "events": len(recording.events),
        "hooks": hooks,
        "refused": [{"what": what, "reason": why} for what, why in offer.refused],
        "decisions": [each._asdict() for each in replayed.decided],
        "errors": [each._asdict() for each in replayed.raised],
    }


def as_text(recording: Recording, offer: Offer, replayed: Replayed) -> str:
    """A line a decision, and what it comes to."""
    count = len(recording.attempts)
    lines = [f"{recording.run_id}: {count} attempt{'s'[: count != 1]}, {len(recording.events)} events"]
    lines += [f"refused: {what}: {why}" for what, why in offer.refused]
    lines += [_line(each) for each in replayed.decided[:MOST_LINES]]
    if len(replayed.decided) > MOST_LINES:
        lines.append(f"… and {len(replayed.decided) - MOST_LINES} more: --json has all")
    lines += [_error(each) for each in replayed.raised[:3]]
    if len(replayed.raised) > 3:
        lines.append(f"… and it raised {len(replayed.raised) - 3} more times: --json has all")
    for made in offer.hooks:
        lines.append(_summary(made.request.name, replayed))
    return "\n".join(lines) + "\n"


def _line(each: Decided) -> str:
    said = each.text or each.then
    what = f"{each.what}: {said}" if said else each.what
    return f"{each.which:<9}  {_where(each)}  {each.hook}  {what}"


def _where(each: Decided) -> str:
    where = f"attempt {each.attempt}, " if each.attempt else ""
    if each.iter is None:
        return f"{where}{each.point or 'before the first point'}"
    return f"{where}epoch {each.epoch}, iteration {each.iter}, {each.point or 'no point'}"


def _error(each: Raised) -> str:
    where = f"epoch {each.epoch}, iteration {each.iter}, {each.point}"
    return f"{'raised':<9}  {where}  {each.hook}  {each.error}\n{each.traceback}"


def _summary(name: str, replayed: Replayed) -> str:
    own: Sequence[Decided] = [each for each in replayed.decided if each.hook == name]
    counts = ", ".join(
        f"{sum(each.which == which for each in own)} {which}" for which in ("same", "only now", "only then")
    )
    raised = sum(each.hook == name for each in replayed.raised)
    errors = f", raised {raised} times" if raised else ""
    stop = replayed.after_stop[name]
    ended = f"; {stop} due events after its stop were not fed" if stop else ""
    return f"{name}: {replayed.calls[name]} calls; decisions: {counts}{errors}{ended}"
