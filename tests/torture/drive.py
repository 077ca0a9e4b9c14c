"""Drives trainings beside a daemon that is killed: real processes, and every step waits for a fact."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from conftest import PATIENCE_S, Daemon, binary, clean_environment
from trainer import Live, Task

LAUNCH = "torture"
TRAINER = Path(__file__).with_name("trainer.py")
LOOKS_S = 0.0005
ORDER_TIMEOUT_S = 10


class Wrong(Exception):
    """Something did not come that must."""


def wait_for(what: str, there: Callable[[], bool], progress: Callable[[], int] = lambda: 0) -> None:
    """Waits for a fact, as long as there is progress."""
    deadline, before = time.monotonic() + PATIENCE_S, progress()
    while not there():
        now = progress()
        if now != before:
            deadline, before = time.monotonic() + PATIENCE_S, now
        if time.monotonic() > deadline:
            raise Wrong(f"in {PATIENCE_S} s there was no {what}")
        time.sleep(LOOKS_S)


def database(state: Path, name: str) -> Path:
    return state / f"{name}@{LAUNCH}.db"


class Training:
    """One rank's process."""

    def __init__(self, task: Task, world_size: int = 1, address: str | None = None) -> None:
        self.task = task
        self.live = Live.make(task.live)
        self.limit = 0
        place = dict(RANK=str(task.rank), WORLD_SIZE=str(world_size), HOOKBUS_LAUNCH=LAUNCH)
        said = dict(HOOKBUS_ADDRESS=address) if address else {}
        self.log = task.file.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(TRAINER), task.text()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env=clean_environment(**place, **said),
            )

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def let(self, iters: int) -> None:
        """It may go on by so many iterations."""
        self.limit = min(self.limit + iters, self.task.iters)
        self._tell(str(self.limit))

    def end(self) -> None:
        self._tell("end")

    @property
    def in_flight(self) -> int:
        acked = self.live.get("acked")  # first: it never overtakes the other
        return self.live.get("generated") - acked

    @property
    def waits(self) -> bool:
        return self.live.get("iter") >= self.limit

    @property
    def connected(self) -> bool:
        return bool(self.live.get("connected"))

    def check(self) -> None:
        code = self.process.poll()
        if code is not None:
            raise Wrong(f"{self.task.name}, rank {self.task.rank} ended with {code}: {self.log.read_text()[-2000:]}")

    def result(self) -> dict:
        code = self.process.wait(PATIENCE_S)
        if code:
            raise Wrong(f"{self.task.name}, rank {self.task.rank} ended with {code}: {self.log.read_text()[-2000:]}")
        return json.loads(self.task.file.read_text())


@dataclass
class Order:
    """What an operator asked for, and was told."""

    run: str
    n: int
    at_iter: int | None
    process: subprocess.Popen[str]
    marks: bool = True
    id: str = ""
    applied: bool = False
    said: str = ""

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def take(self) -> None:
        out, err = self.process.communicate()
        lines = [json.loads(line) for line in out.splitlines()]
        self.id = lines[0]["id"] if lines else ""
        self.applied = self.process.returncode == 0
        self.said = err.strip()


@dataclass
class Ride:
    """Trainings of one daemon, with what was done to it."""

    folder: Path
    tasks: list[Task]
    random: random.Random
    kills: int = 0
    starts: list[float] = field(default_factory=list)
    at_kills: list[int] = field(default_factory=list)  # events in flight
    orders: list[Order] = field(default_factory=list)
    settled: dict[tuple[str, int], int] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    looks: int = 0

    def __post_init__(self) -> None:
        self.daemon = Daemon(self.folder, "")
        sizes = {name: sum(task.name == name for task in self.tasks) for name in {task.name for task in self.tasks}}
        self.trainings = [Training(task, sizes[task.name], self.daemon.address) for task in self.tasks]
        self.wait_for("trainer at its first iteration", lambda: all(one.connected for one in self.trainings))

    @property
    def state(self) -> Path:
        return self.daemon.state

    def wait_for(self, what: str, there: Callable[[], bool]) -> None:
        def looked() -> bool:
            for one in self.trainings:
                one.check()
            return there()

        wait_for(what, looked, lambda: sum(one.live.get("generated") + one.live.get("acked") for one in self.trainings))

    def let(self, iters: int) -> None:
        for one in self.trainings:
            one.let(iters)

    def kill(self) -> None:
        """SIGKILL; counted where events were in flight."""
        self.daemon.kill()
        in_flight = sum(one.in_flight for one in self.trainings)
        if in_flight:
            self.kills += 1
            self.at_kills.append(in_flight)
        self.wait_for("trainer that sees the daemon gone", lambda: not any(one.connected for one in self.trainings))

    def start(self) -> None:
        began = time.monotonic()
        (self.folder / "ready").unlink()
        self.daemon = Daemon(self.folder, "")
        self.starts.append(time.monotonic() - began)

    def wait_connected(self) -> None:
        self.wait_for("connection after a restart", lambda: all(one.connected for one in self.trainings))

    def anything_in_flight(self) -> bool:
        return any(one.in_flight > 0 for one in self.trainings)

    def look(self) -> None:
        """Committed is at least what is acknowledged, and nothing in the file goes back, while the daemon writes."""
        one = self.random.choice(self.trainings)
        name, rank = one.task.name, one.task.rank
        acked = one.live.get("acked")
        uri = f"file:{database(self.state, name)}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=5)) as file:
            (settled,) = file.execute("SELECT settled FROM ranks WHERE rank = ?", [rank]).fetchone() or (0,)
            (generation,) = file.execute("SELECT max(generation) FROM desired").fetchone()
        self.looks += 1
        if settled < max(acked, self.settled.get((name, rank), 0)):
            raise Wrong(f"{name}, rank {rank}: {acked} acknowledged, {self.settled} before, in the file only {settled}")
        if (generation or 0) < self.generations.get(name, 0):
            raise Wrong(f"{name}: generation {generation} after {self.generations[name]}")
        self.settled[name, rank], self.generations[name] = settled, generation or 0

    def order(self) -> Order:
        """An operator's word to one of the runs: a mark, or a hold of the learning rate that changes no bit of it."""
        task = self.random.choice(self.tasks)
        n, at_iter, marks = len(self.orders), None, True
        if task.steered and self.random.random() < 0.5:
            words, marks = ["lr", *self.random.choice([["--scale", "1.0"], ["--release"]])], False
        else:
            words = ["custom", "mark", json.dumps({"n": n})]
            if self.random.random() < 0.3:
                there = max(one.live.get("iter") for one in self.trainings if one.task.name == task.name)
                at_iter = there + self.random.randrange(10, 100)
                words += ["--at-iter", str(at_iter)]
        words += ["--timeout", str(ORDER_TIMEOUT_S), "--json"]
        process = subprocess.Popen(
            [str(binary("hookbus")), "--address", self.daemon.address, "send", task.name, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        self.orders.append(Order(task.name, n, at_iter, process, marks))
        return self.orders[-1]

    def finish(self) -> list[dict]:
        """The rest goes by undisturbed. What each trainer wrote, in the order of the tasks."""
        self.let(max(task.iters for task in self.tasks))
        self.wait_for(
            "end of the training with everything acknowledged",
            lambda: all(one.live.get("iter") == one.task.iters and one.in_flight == 0 for one in self.trainings),
        )
        for order in self.orders:
            order.take()
        for one in self.trainings:
            one.end()
        results = [one.result() for one in self.trainings]
        self.daemon.process.terminate()
        self.daemon.process.wait(PATIENCE_S)
        return results

    def stop(self) -> None:
        for process in [self.daemon.process, *(one.process for one in [*self.trainings, *self.orders])]:
            if process.poll() is None:
                process.kill()
                process.wait()


def undisturbed(folder: Path, tasks: list[Task]) -> list[dict]:
    ride = Ride(folder, tasks, random.Random(0))
    try:
        return ride.finish()
    finally:
        ride.stop()


def without_hookbus(tasks: Iterable[Task]) -> list[dict]:
    return [Training(task).result() for task in tasks]


def torture(ride: Ride, kills: int, chunk: int) -> None:
    """Kills the daemon so often, each time with events in flight, at random moments of each phase of its life."""
    dice = ride.random
    while ride.kills < kills:
        left = min(one.task.iters - one.live.get("iter") for one in ride.trainings)
        if left <= 0:
            raise Wrong(f"the training was over after {ride.kills} kills")
        ride.let(chunk // 3)
        if dice.random() < 0.8:  # else it dies while they come back
            ride.wait_connected()
        ride.let(chunk - chunk // 3)
        if dice.random() < 0.4:
            order = ride.order()
            if dice.random() < 0.5:  # it dies when the operator has just been told
                wait_for("end of an order", lambda order=order: order.over or order.at_iter is not None)
        one = dice.choice(ride.trainings)
        target = one.live.get("generated") + dice.randrange(0, 2 * chunk)
        ride.wait_for("event more", lambda one=one, target=target: one.waits or one.live.get("generated") >= target)
        if dice.random() < 0.25:
            ride.look()
        time.sleep(dice.random() * 0.003)  # the moment of the kill is what is random here
        if not ride.anything_in_flight():
            ride.let(2)
            ride.wait_for("event in flight", ride.anything_in_flight)
        ride.kill()
        ride.start()


def flood(ride: Ride, kills: int, chunk: int) -> None:
    """The same, and while the daemon is away more happens than a client's buffer holds."""
    dice, one = ride.random, ride.trainings[0]
    while ride.kills < kills:
        ride.let(chunk)
        if dice.random() < 0.8:
            ride.wait_connected()
        ride.let(dice.randrange(1, chunk))
        time.sleep(dice.random() * 0.05)  # the moment of the kill is what is random here
        if not ride.anything_in_flight():
            ride.let(2)
            ride.wait_for("event in flight", ride.anything_in_flight)
        dropped = one.live.get("dropped")
        ride.kill()
        while one.live.get("dropped") == dropped:
            if one.limit == one.task.iters:
                raise Wrong(f"the training was over after {ride.kills} kills")
            one.let(200)
            ride.wait_for("iteration", lambda: one.waits)
        ride.start()
