"""Compares what trainers and operators saw with what the daemon's files say. Each function says what is wrong."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drive import Order, database
from trainer import Task

LINES = 2  # of MemoryProfilerHook, each time: the original's and the truth


@dataclass
class Counted:
    """What a table at the end shows."""

    events: int = 0
    lost: int = 0
    twice: int = 0
    holes: int = 0
    holes_counted: int = 0
    actions: int = 0
    told_applied: int = 0


def rank(state: Path, task: Task, saw: dict, counted: Counted) -> Iterator[str]:
    """One rank: its events and holes, its commands, and what it did."""
    who = f"{task.name}, rank {task.rank}"
    with closing(sqlite3.connect(database(state, task.name))) as file:
        yield from (f"{who}: {line}" for line in _events(file, task, saw, counted))
        yield from (f"{who}: {line}" for line in _commands(file, task, saw, counted))


def _events(file: sqlite3.Connection, task: Task, saw: dict, counted: Counted) -> Iterator[str]:
    emitted = saw["events"]
    sql = """SELECT e.seq, e.point, e.iter, loss.value, lr.value FROM events e
        LEFT JOIN metrics loss ON loss.rank = e.rank AND loss.seq = e.seq AND loss.metric = 'loss'
        LEFT JOIN metrics lr ON lr.rank = e.rank AND lr.seq = e.seq AND lr.metric = 'lr'
        WHERE e.rank = ? ORDER BY e.seq"""
    written = {seq: what for seq, *what in file.execute(sql, [task.rank])}  # lists, as JSON has them
    counted.events += len(written)
    covered = Counter(written.keys())
    holes: dict[tuple[int, int], Counter[str]] = {}
    for first, last, point, count in file.execute(
        "SELECT first_seq, last_seq, point, count FROM holes WHERE rank = ?", [task.rank]
    ):
        holes.setdefault((first, last), Counter())[point] += count
    for (first, last), points in holes.items():
        covered.update(range(first, last + 1))
        counted.holes += last - first + 1
        counted.holes_counted += points.total()
        lost = Counter(event[0] for event in emitted[first - 1 : last])
        if lost != points:
            yield f"the hole from {first} to {last} says {dict(points)}; there were {dict(lost)}"
    acked, last = saw["acked"], len(emitted)
    missing = [seq for seq in range(1, acked + 1) if seq not in covered]
    counted.lost += len(missing)
    if missing:
        yield f"{len(missing)} of {acked} acknowledged numbers are neither event nor hole: {missing[:10]}"
    if acked != last or sorted(covered) != list(range(1, last + 1)) or covered.total() != last:
        double = [seq for seq, times in covered.items() if times > 1]
        yield f"{last} events, {acked} acknowledged, {len(covered)} in the file, double {double[:10]}"
    dropped = sum(points.total() for points in holes.values())
    if dropped != saw["dropped"]:
        yield f"the client dropped {saw['dropped']}; the holes have {dropped}"
    for seq, what in written.items():
        if seq <= last and what != emitted[seq - 1]:
            yield f"event {seq} is {what}; it was {emitted[seq - 1]}"
            break
    (settled, events) = file.execute("SELECT settled, events FROM ranks WHERE rank = ?", [task.rank]).fetchone()
    if settled != last or events != len(written):
        yield f"the rank's row says {settled} settled and {events} events; there are {last} and {len(written)}"


def _commands(file: sqlite3.Connection, task: Task, saw: dict, counted: Counted) -> Iterator[str]:
    ids = Counter(id for _, id, _ in saw["actions"] if id)
    counted.actions += ids.total()
    twice = [id for id, times in ids.items() if times > 1]
    counted.twice += len(twice)
    if twice:
        yield f"{len(twice)} applied twice: {twice[:5]}"
    each = file.execute("SELECT id, outcome FROM commands WHERE rank = ?", [task.rank]).fetchall()
    unanswered = [id for id, outcome in each if outcome in (None, "taken")]
    if unanswered:
        yield f"{len(unanswered)} of {len(each)} commands have no outcome in the file: {unanswered[:3]}"
    undone = [id for id, outcome in each if outcome != "rejected" and not ids[id]]
    if undone:
        yield f"{len(undone)} commands are in the file and were never applied: {undone[:3]}"
    if task.memory_every:
        due = sum(1 for point, iter, *_ in saw["events"] if _is_due(task, point, iter))
        lines = sum(1 for kind, id, _ in saw["actions"] if kind == "log" and id.startswith("MemoryProfilerHook/"))
        sql = "SELECT count(*), count(DISTINCT id) FROM decisions WHERE rank = ? AND who = 'MemoryProfilerHook'"
        decisions, different = file.execute(sql, [task.rank]).fetchone()
        if not due * LINES == lines == decisions == different:
            found = f"{decisions} decisions, {different} different, {lines} lines written"
            yield f"memory was due {due} times, {LINES} lines each: {found}"


def _is_due(task: Task, point: str, iter: int) -> bool:
    return point == "after_train_iter" and (iter % task.iters_per_epoch + 1) % task.memory_every == 0


def run(state: Path, name: str) -> Iterator[str]:
    """A run's file as a whole."""
    with closing(sqlite3.connect(database(state, name))) as file:
        attempts = file.execute("SELECT attempt, phase, reason FROM attempts").fetchall()
        if len(attempts) != 1 or attempts[0][1:] != ("finished", ""):
            yield f"{name}: attempts are {attempts}"
        for kind, text in file.execute("SELECT kind, text FROM incidents"):
            yield f"{name}: incident {kind}: {text}"
        sql = "SELECT id, rank, count(*) FROM results GROUP BY id, rank HAVING count(*) > 1"
        for id, by, times in file.execute(sql):
            yield f"{name}: the result of {id} on rank {by} was written down {times} times"
        (sound,) = file.execute("PRAGMA integrity_check(1)").fetchone()
        if sound != "ok":
            yield f"{name}: the file is damaged: {sound}"
    others = [path.name for path in state.glob("*.set-aside*")] + [path.name for path in state.glob("*.2.db")]
    if others:
        yield f"{name}: there are {others}"


def orders(state: Path, told: list[Order], tasks: list[Task], saw: list[dict], counted: Counted) -> Iterator[str]:
    """What operators were told is so."""
    for order in told:
        ranks = [(task, one) for task, one in zip(tasks, saw, strict=True) if task.name == order.run]
        for task, one in ranks:
            at = [iter for n, iter in one["marks"] if n == order.n] if order.marks else []
            if len(at) > 1:
                counted.twice += 1
                yield f"order {order.n} was applied {len(at)} times on rank {task.rank} of {task.name}: {at}"
            if at and order.at_iter not in (None, at[0]):
                yield f"order {order.n} was applied at iteration {at[0]}, not {order.at_iter}"
            if order.applied and order.marks and not at:
                yield f"order {order.n} was told to be applied, and rank {task.rank} of {task.name} did not"
        if not order.applied:
            continue
        counted.told_applied += 1
        with closing(sqlite3.connect(database(state, order.run))) as file:
            sql = "SELECT rank FROM results WHERE id = ? AND outcome = 'applied' ORDER BY rank"
            there = [by for (by,) in file.execute(sql, [order.id])]
        if there != sorted(task.rank for task, _ in ranks):
            yield f"order {order.n} ({order.id}) was told to be applied; its results in the file are of ranks {there}"


def same(what: str, tasks: list[Task], saw: list[dict], other: list[dict]) -> Iterator[str]:
    """Losses and weights, to the last bit."""
    for task, one, two in zip(tasks, saw, other, strict=True):
        for part in ("losses", "weights"):
            if one[part] != two[part]:
                yield f"{task.name}, rank {task.rank}: {part} are not the same as {what}"
