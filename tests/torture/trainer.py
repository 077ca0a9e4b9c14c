"""One rank of a training that the torture test watches: plain floats, seeded, the same to the last bit each time.

It iterates as far as it is let, by a number a line on its standard input, and ends with the word "end". Beside the
training it writes down what hookbus should know of it: every event with its number, every order that it was given, and
how far it saw itself acknowledged. `trainer.py JSON`: the fields of `Task`.
"""

from __future__ import annotations

import json
import logging
import mmap
import random
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOOKS_S = 0.002  # how often the client is asked how far it is
INPUTS = 4
PADDING = type("x" * 3500, (), {})()  # no number: its type's name goes out as the reason, and fills the client's buffer


@dataclass
class Task:
    """What to train, and where to say what came of it."""

    name: str
    epochs: int
    iters_per_epoch: int
    out: str
    rank: int = 0
    with_hookbus: bool = True
    steered: bool = False  # the daemon decides learning rates and sizes
    padded: bool = False  # large events
    pause_s: float = 0.0  # what an iteration takes beside its arithmetic
    memory_every: int = 5

    @property
    def iters(self) -> int:
        return self.epochs * self.iters_per_epoch

    @property
    def file(self) -> Path:
        return Path(self.out, f"{self.name}-{self.rank}.json")

    @property
    def live(self) -> Path:
        return self.file.with_suffix(".live")

    def text(self) -> str:
        return json.dumps(asdict(self))


class Live:
    """Numbers that this process and who watches it see at the same time."""

    FIELDS = ("iter", "generated", "acked", "dropped", "connected")

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 8 * len(self.FIELDS))

    @classmethod
    def make(cls, file: Path) -> Live:
        file.write_bytes(bytes(8 * len(cls.FIELDS)))
        return cls(file)

    def put(self, field: str, number: int) -> None:
        struct.pack_into("<q", self._map, 8 * self.FIELDS.index(field), number)

    def get(self, field: str) -> int:
        number: int = struct.unpack_from("<q", self._map, 8 * self.FIELDS.index(field))[0]
        return number


class Model:
    """Linear, and trained by stochastic gradient descent."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.weights = [self.random.uniform(-1, 1) for _ in range(INPUTS)]
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.01}]
        self.scale = 1.0

    def step(self) -> float:
        inputs = [self.random.gauss(0, 1) * self.scale for _ in range(INPUTS)]
        wanted = sum(inputs) + self.random.gauss(0, 0.1)
        wrong = sum(weight * one for weight, one in zip(self.weights, inputs, strict=True)) - wanted
        rate = self.param_groups[0]["lr"]
        self.weights = [weight - rate * wrong * one for weight, one in zip(self.weights, inputs, strict=True)]
        return wrong * wrong

    def resize(self, size: tuple[int, int]) -> None:
        self.scale = size[0] / 64


class Watched:
    """What happened in this training, for the comparison with what the daemon wrote down."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.live = Live(task.live)
        self.iter = 0
        self.limit = 0  # so far it may go
        self.events: list[tuple[str, int, float | None, float | None]] = []  # the n-th has the number n + 1
        self.times: list[float] = []
        self.lags: list[float] = []
        self.actions: list[tuple[str, str, int]] = []  # kind, id, iteration
        self.marks: list[tuple[int, int]] = []  # what the operator's orders said, iteration
        self.acked = 0
        self.dropped = 0
        self._over = threading.Event()

    def attach(self, bus: Any) -> None:
        """Sees each event before hookbus does, and each action before it is applied."""
        emit, apply = bus.event, bus._actions.apply

        def event(point: str, **fields: Any) -> None:
            self.events.append((point, self.iter, fields.get("loss"), fields.get("lr")))
            self.times.append(time.monotonic())
            self.live.put("generated", len(self.events))
            emit(point, **fields)
            if point == "after_train_iter":
                self.iter += 1
                self.live.put("iter", self.iter)

        def applying(actions: list[tuple[Any, ...]], point: str) -> None:
            self.actions += [(action[0], action[1], self.iter) for action in actions if len(action) > 2]
            apply(actions, point)

        bus.event = event
        bus._session.set_apply(applying)
        self._looking = threading.Thread(target=self._look, args=(bus,), daemon=True)
        self._looking.start()

    def mark(self, payload: dict[str, int]) -> None:
        self.marks.append((payload["n"], self.iter))

    def settled(self) -> bool:
        return self.acked == len(self.events)

    def _look(self, bus: Any) -> None:
        while not self._over.wait(LOOKS_S):
            self._note(bus.status())

    def _note(self, status: dict[str, Any]) -> None:
        acked, now = status["acked"], time.monotonic()
        assert acked >= self.acked, f"acknowledged {self.acked}, and later only {acked}"
        self.lags += [now - at for at in self.times[self.acked : acked]]
        self.acked, self.dropped = acked, status["dropped"]
        self.live.put("dropped", status["dropped"])
        self.live.put("connected", status["connected"])
        self.live.put("acked", acked)

    def detach(self, bus: Any) -> None:
        self._over.set()
        self._looking.join()
        self._note(bus.status())


def allowed(watched: Watched) -> Iterator[int]:
    """The iterations of an epoch, each once it may begin."""
    task = watched.task
    for _ in range(task.iters_per_epoch):
        while watched.iter >= watched.limit:
            line = sys.stdin.readline()
            if not line:
                sys.exit("whoever drives this training is gone")
            watched.limit = int(line)
        if task.pause_s:
            time.sleep(task.pause_s)  # the iteration's own work
        yield watched.iter


def hooks(task: Task) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = [dict(type="CheckInvalidLossHook", interval=7)]
    if task.memory_every:
        asked.append(dict(type="MemoryProfilerHook", interval=task.memory_every))
    if task.steered:
        rates = dict(by_epoch=False, warmup="exp", warmup_by_epoch=True, warmup_iters=1, warmup_ratio=1.0)
        asked.append(dict(type="YOLOXLrUpdaterHook", num_last_epochs=1, min_lr_ratio=0.05, **rates))
        asked.append(dict(type="SyncRandomSizeHook", ratio_range=(1, 3), img_scale=(32, 32), interval=1))
    return asked


def train(task: Task) -> dict[str, Any]:
    model, watched = Model(task.rank + 1), Watched(task)
    losses: list[float] = []
    if not task.with_hookbus:
        losses = [model.step() for _ in range(task.iters)]
        return dict(losses=losses, weights=model.weights)
    import hookbus

    logger = logging.getLogger("trainer")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(sys.stdout))
    more = dict(padding=PADDING) if task.padded else {}
    known = dict(max_epochs=task.epochs, iters_per_epoch=task.iters_per_epoch, seed=1)
    with hookbus.attach(task.name, hooks=hooks(task), logger=logger, **known) as bus:  # type: ignore[arg-type]
        assert bus.status()["connected"], bus.status()
        bus.bind(optimizer=model)
        bus.on("custom:mark", watched.mark)
        bus.on("size", model.resize)
        watched.attach(bus)
        for _epoch in bus.epochs():
            for _iter in bus.iters(allowed(watched)):
                losses.append(model.step())
                bus.report(loss=losses[-1], **more)
        while not watched.settled():
            time.sleep(LOOKS_S)
        while sys.stdin.readline() not in ("end\n", ""):
            pass
        watched.detach(bus)
        dropped, warnings = watched.dropped, bus.status()["warnings"]
    return dict(
        losses=losses,
        weights=model.weights,
        events=watched.events,
        lags=watched.lags,
        actions=watched.actions,
        marks=watched.marks,
        acked=watched.acked,
        dropped=dropped,
        warnings=warnings,
    )


if __name__ == "__main__":
    told = Task(**json.loads(sys.argv[1]))
    told.file.write_text(json.dumps(train(told)))
