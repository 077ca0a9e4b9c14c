"""Kills the daemon of running trainings, again and again, and compares everything at the end.

    make torture KILLS=1000
    python tests/torture/torture.py --kills 1000 --seed 7

Exit status 1 if anything is wrong; a line for each says what.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import check
import providers
from drive import Ride, Wrong, flood, torture, undisturbed, without_hookbus
from trainer import Task

EPOCH = 50
LAG_S = 1.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--floods", type=int, help="kills while more happens than a client keeps (default: a 50th)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--chunk", type=int, default=40, help="iterations between two kills")
    parser.add_argument("--pause-ms", type=float, default=3.0, help="of each iteration")
    parser.add_argument("--timed", action="store_true", help="an acknowledgement that takes too long is an error")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where files and logs stay")
    return parser.parse_args()


def epochs(iters: float) -> int:
    return math.ceil(iters / EPOCH)


class Report:
    """What was seen, and what is wrong."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.rows: list[tuple[str, str]] = []

    def row(self, name: str, text: str) -> None:
        self.rows.append((name, text))
        print(f"  {name:<34} {text}", flush=True)

    def add(self, lines: list[str]) -> None:
        self.wrong += lines
        for line in lines:
            print(f"  WRONG: {line}", flush=True)


def main() -> int:
    args = arguments()
    floods = max(1, args.kills // 50) if args.floods is None else args.floods
    print(f"torture: {args.kills} kills, seed {args.seed}", flush=True)
    report = Report()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hbt") as made:  # short: a socket's path has 108 bytes at most
        folder = args.keep.resolve() if args.keep else Path(made)
        try:
            killed(args, folder, report)
            flooded(args, floods, folder, report)
            provided(args, folder, report)
        except Wrong as wrong:
            report.add([str(wrong)])
        report.row("seconds", f"{time.monotonic() - began:.0f}")
        if report.wrong:
            for log in sorted(folder.glob("*/log")):
                print(f"--- the end of {log}:\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            again = f"the same again: {' '.join(sys.argv)} --seed {args.seed} (--keep FOLDER keeps the files)"
            print(f"torture: {len(report.wrong)} things are wrong; {again}")
            return 1
    print("torture: nothing is wrong")
    return 0


def killed(args: argparse.Namespace, folder: Path, report: Report) -> None:
    """Three trainers in two runs, and operators."""
    place = made(folder / "killed")
    length = epochs(1.3 * args.kills * args.chunk + 100)

    def tasks(place: Path, pause_s: float) -> list[Task]:
        common = dict(epochs=length, iters_per_epoch=EPOCH, out=str(place), pause_s=pause_s)
        pair = [Task("pair", rank=rank, **common) for rank in (0, 1)]  # type: ignore[arg-type]
        return [*pair, Task("steered", steered=True, **common)]  # type: ignore[arg-type]

    calm = made(folder / "calm")
    before = undisturbed(calm, tasks(calm, 0.001))
    plain = made(folder / "plain")
    alone = without_hookbus([replace(task, with_hookbus=False) for task in tasks(plain, 0)[:2]])
    counted = check.Counted()
    for task, saw in zip(tasks(calm, 0), before, strict=True):
        report.add([f"undisturbed: {line}" for line in check.rank(calm / "state", task, saw, counted)])
    lags(report, sorted(lag for saw in before for lag in saw["lags"]), args.timed)

    mine = tasks(place, args.pause_ms / 1000)
    ride = Ride(place, mine, random.Random(args.seed))
    try:
        torture(ride, args.kills, args.chunk)
        after = ride.finish()
    finally:
        ride.stop()
    counted = check.Counted()
    for task, saw in zip(mine, after, strict=True):
        report.add([*check.rank(ride.state, task, saw, counted)])
    for name in ("pair", "steered"):
        report.add([*check.run(ride.state, name)])
    report.add([*check.orders(ride.state, ride.orders, mine, after, counted)])
    report.add([*check.same("undisturbed", mine, after, before)])
    report.add([*check.same("without hookbus", mine[:2], after[:2], alone)])
    half, most = middle(ride.at_kills)
    report.row("kills with events in flight", f"{ride.kills}, {half} events (median), {most} (most)")
    half, most = middle([round(start * 1000) for start in ride.starts])
    report.row("a start", f"{half} ms (median), {most} ms (most)")
    report.row("events", f"{counted.events} of 3 trainers")
    report.row("acknowledged and lost", str(counted.lost))
    report.row("looks at live files", str(ride.looks))
    report.row("actions, applied twice", f"{counted.actions}, {counted.twice}")
    report.row("orders, told applied", f"{len(ride.orders)}, {counted.told_applied}")


def flooded(args: argparse.Namespace, floods: int, folder: Path, report: Report) -> None:
    """A trainer whose buffer is too small."""
    place = made(folder / "flooded")
    task = Task("flooded", epochs(floods * 5000 + 1000), EPOCH, str(place), padded=True, memory_every=0)
    ride = Ride(place, [task], random.Random(args.seed + 1))
    try:
        flood(ride, floods, args.chunk)
        after = ride.finish()
    finally:
        ride.stop()
    counted = check.Counted()
    plain = made(folder / "dry")
    alone = without_hookbus([replace(task, with_hookbus=False, out=str(plain))])
    report.add([*check.rank(ride.state, task, after[0], counted)])
    report.add([*check.run(ride.state, task.name)])
    report.add([*check.same("without hookbus", [task], after, alone)])
    if not counted.holes:
        report.add(["nothing was dropped in the flood: it tests nothing"])
    report.row("kills in a flood, events", f"{ride.kills}, {counted.events}")
    report.row("holes, accounted", f"{counted.holes}, {counted.holes_counted}")


def lags(report: Report, each: list[float], timed: bool) -> None:
    """From an event to when its client knows that it is acknowledged."""
    late = each[int(len(each) * 0.99)]
    half, p99, most = (round(one * 1000) for one in (each[len(each) // 2], late, each[-1]))
    report.row("acknowledgement, undisturbed", f"p50 {half} ms, p99 {p99} ms, most {most} ms")
    if timed and late > LAG_S:
        report.add([f"99 % of acknowledgements take up to {late:.2f} s; at most {LAG_S} s is promised"])


def middle(numbers: list[int]) -> tuple[int, int]:
    """The median and the largest."""
    return sorted(numbers)[len(numbers) // 2], max(numbers)


def provided(args: argparse.Namespace, folder: Path, report: Report) -> None:
    """A hook in Python, whose process is killed."""
    kills = max(2, args.kills // 10)
    seen = providers.killed(made(folder / "provided"), kills, args.seed + 2)
    report.add([f"hooks in Python: {line}" for line in seen.wrong])
    report.row("kills of a hook's process", f"{kills}, in {seen.failures} of them a call was under way")
    report.row("iterations beside it, longest", f"{seen.iters}, {seen.longest_ms:.0f} ms (its gates wait 50 at most)")


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
