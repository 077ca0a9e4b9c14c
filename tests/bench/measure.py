"""How things are timed, and the table's rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import hookbus

Work = Callable[[int], None]


def compare(*works: tuple[Work, int], blocks: int = 9, between: Callable[[], object] | None = None) -> list[float]:
    """Nanoseconds a call of each work, called so many times a block: the median of several blocks.

    The works take turns, so that noise of the machine hits them all. `between` follows each block and is not timed.
    """
    times: list[list[float]] = [[] for _ in works]
    for block in range(blocks + 1):
        for index, (work, count) in enumerate(works):
            start = time.perf_counter_ns()
            work(count)
            taken = (time.perf_counter_ns() - start) / count
            if block:  # the first one warms up
                times[index].append(taken)
            if between is not None:
                between()
    return [statistics.median(each) for each in times]


def settle(bus: hookbus.Bus) -> None:
    """Waits until the daemon has taken every event."""
    if not bus._session.flush(30.0):
        raise SystemExit("bench: the daemon did not take all events within 30 s")


def no_drops(bus: hookbus.Bus) -> None:
    """Says so where events were dropped: the figure before it is then of another thing."""
    dropped = bus.status()["dropped"]
    if dropped:
        print(f"  {dropped} events were dropped: the figure above is none")


def plain(point: str, **fields: float) -> None:
    """The call that an emit is compared with: same signature, same call form."""


def loops(call: Callable[..., None]) -> dict[str, Work]:
    """This call in a loop, with so many metrics."""

    def two(count: int) -> None:
        for _ in range(count):
            call("after_train_iter", loss=0.5, lr=0.1)

    def eight(count: int) -> None:
        for _ in range(count):
            call("after_train_iter", loss=0.5, lr=0.1, a=1.0, b=2.0, c=3.0, d=4.0, e=5.0, f=6.0)

    def bare(count: int) -> None:
        for _ in range(count):
            call("after_val_iter")

    return {"2": two, "8": eight, "0": bare}


def one_ms_loop(event: Callable[..., None], settled: Callable[[], object]) -> tuple[str, float]:
    """500 iterations of 1 ms of work each, with 10 events each and without: as text, and the ratio.

    Medians of seven pairs. What is still on its way after a loop is waited for and told apart: it costs the loop
    nothing, but where it is not small the sender falls behind the training.
    """

    def loop(count: int, events: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            until = time.thread_time_ns() + 1_000_000
            while time.thread_time_ns() < until:
                pass
            for _ in range(events):
                event("after_train_iter", loss=0.5, lr=0.1)
        return time.perf_counter() - start

    def behind() -> float:
        start = time.perf_counter()
        settled()
        return time.perf_counter() - start

    loop(50, 10)
    behind()
    triples = [(loop(500, 10), behind(), loop(500, 0)) for _ in range(7)]
    a, late, b = (statistics.median(each) for each in zip(*triples, strict=True))
    ratio = statistics.median(each / bare for each, _, bare in triples)
    return f"{a:.3f} / {b:.3f} s, {late:.2f} s behind", ratio


def head() -> None:
    """The table's first line."""
    _line("what", "measured", "ratio", "target", "")


def _line(what: str, measured: str, value: str, target: str, verdict: str) -> None:
    print(f"{what:<52}{measured:>32}{value:>17}{target:>17}  {verdict}".rstrip(), flush=True)


def row(what: str, measured: str, value: float, target: float, unit: str = "x", more_is_better: bool = False) -> None:
    """A figure with a target: at most it, or at least it."""
    met = value >= target if more_is_better else value <= target
    sign, digits = (">=" if more_is_better else "<="), (0 if abs(target) >= 1000 else 2)
    _line(
        what, measured, f"{value:,.{digits}f} {unit}", f"{sign} {target:,.{digits}f} {unit}", "met" if met else "MISSED"
    )


def info(what: str, measured: str, value: float | None = None, unit: str = "x ours") -> None:
    """A figure without a target."""
    _line(what, measured, "" if value is None else f"{value:,.2f} {unit}", "", "information")


def not_measured(what: str, why: object) -> None:
    """A row that has no figure here, and the reason."""
    text = f"{type(why).__name__}: {why}" if isinstance(why, BaseException) else str(why)
    print(f"{what:<52}not measured: {' '.join(text.split())[:160]}", flush=True)
