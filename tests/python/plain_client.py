"""A trainer's side of hookbus.v1 over plain grpcio: generated code and docs/clients.md, nothing of ours.

What a client in another language would be, without what it would need and a test does not: a buffer for outages and a
breaker. Runs in a process of its own, with the generated modules before the installed wheel on the path.
"""

from __future__ import annotations

import hashlib
import math
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from hookbus.v1 import session_pb2 as pb
from hookbus.v1 import session_pb2_grpc, types_pb2

POINTS = ["before_train", "before_train_epoch", "before_train_iter", "after_train_iter", "after_train_epoch"]
ATTACH_S = BEFORE_TRAIN_S = 5.0
HEARTBEAT_S = 1.0
PATIENCE_S = 60.0  # of what a test waits for, where a client would have given up

Fact = TypeVar("Fact")
At = tuple[int, int, int]  # epoch, iter, inner_iter


def channel(address: str, token: str | None = None, ca: bytes | None = None, **options: str) -> grpc.Channel:
    """To `unix:///path` with the authority that HTTP/2 needs, or to `https://host:port`."""
    if address.startswith("unix:"):
        named = {"grpc.default_authority": "localhost"} | options
        return grpc.insecure_channel(address, options=list(named.items()))
    credentials = grpc.ssl_channel_credentials(ca)
    if token is not None:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    return grpc.secure_channel(address.removeprefix("https://"), credentials, options=list(options.items()))


def hook(name: str, **args: bool | int | float | str) -> types_pb2.HookRequest:
    """As in an MMEngine config."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "text"}
    values = {key: types_pb2.Value(**{kinds[type(value)]: value}) for key, value in args.items()}
    return types_pb2.HookRequest(type=name, args=values)


def is_due(every: types_pb2.Every, at: At) -> bool:
    """The page's formula."""
    counts = {types_pb2.BASE_ITER: at[1], types_pb2.BASE_INNER_ITER: at[2], types_pb2.BASE_EPOCH: at[0]}
    if every.base not in counts:
        return True
    distance = counts[every.base] + 1 - every.start
    return every.n > 0 and distance >= 0 and distance % every.n == 0


class PlainClient:
    """One rank's session. What comes is kept, so that a test can look at all of it."""

    def __init__(self, channel: grpc.Channel, run: str, **hello: object) -> None:
        self.channel = channel
        self.identity: dict[str, Any] = {
            "protocol": 1,
            "run": run,
            "launch": f"plain-{uuid.uuid4().hex}",
            "world_size": 1,
            "node": socket.gethostname(),
            "process": this_process(),
            "session": uuid.uuid4().hex,
            "points": POINTS,
            "capabilities": ["stop", "log", "lr"],
            "client": "plain grpcio",
        } | hello
        self.metrics: list[str] = []
        self.named_metrics = 0
        self.next_seq = 1
        self.facts_number = 0
        self.in_force: dict[str, int] = {}  # ids of holds, with the iteration from which they hold
        self.reported: set[str] = set()
        self._connect()

    def _connect(self) -> None:
        self.changed = threading.Condition()
        self.frames: list[pb.ServerFrame] = []
        self.ended: str | None = None  # how the stream ended
        self.state = pb.State()
        self.schedules: dict[str, pb.Schedule] = {}
        self.chunks: dict[str, dict[int, bytes]] = {}
        self._out: queue.Queue[pb.ClientFrame | None] = queue.Queue()
        self._closed = threading.Event()
        stub = session_pb2_grpc.HookBusStub(self.channel)
        self._call = stub.Session(iter(self._out.get, None))
        threading.Thread(target=self._receive, daemon=True).start()

    def attach(self) -> pb.Welcome:
        """Hello, then at most 5 s for Welcome. A Fence, or the status of a stream that ended, is raised."""
        had = {"state": self.state} if self.state.generation else {}
        self.send(hello=pb.Hello(**self.identity, **had, metrics=self.metrics, next_seq=self.next_seq))
        self.named_metrics = len(self.metrics)
        self.wait(lambda: self.frames or self.ended, ATTACH_S)
        if not self.frames:
            raise ConnectionError(self.ended or "no Welcome within 5 s")
        first = self.frames[0]
        if first.WhichOneof("frame") != "welcome":
            raise ConnectionError(f"{pb.FenceReason.Name(first.fence.reason)}: {first.fence.text}")
        self.plan = first.welcome.plan
        threading.Thread(target=self._heartbeat, daemon=True).start()
        return first.welcome

    def again(self, channel: grpc.Channel | None = None) -> pb.Welcome:
        """The same session on a new stream, with the state that it had."""
        self._call.cancel()
        self.wait(lambda: self.ended)
        self._closed.set()
        self.channel, state = channel or self.channel, self.state
        self._connect()
        self.state = state
        return self.attach()

    def facts(self, **facts: object) -> pb.FactsTaken:
        """What the trainer knows; at most 5 s for what is decided from it."""
        self.facts_number += 1
        number = self.facts_number
        self.send(facts=pb.Facts(number=number, **facts))
        taken = self.wait(lambda: [one for one in self.seen("facts_taken") if one.number >= number], BEFORE_TRAIN_S)
        return taken[0]

    def emit(self, point: str, at: At, gate_s: float | None = None, **values: float) -> pb.GateAnswer | None:
        """A point is reached: sent if it is due for anybody. A gate whose `when` holds is waited for."""
        subscriptions = [one for one in self.plan.subscriptions if one.point in ("*", point) and is_due(one.every, at)]
        gates = [one for one in subscriptions if one.way == pb.WAY_GATE and self._holds(one, values)]
        observed = [one for one in subscriptions if one.way != pb.WAY_GATE]
        if not gates and not observed:
            return None
        wanted = {field for one in gates + observed for field in one.fields}
        fields = {name: value for name, value in values.items() if name in wanted or "*" in wanted}
        self.metrics += [name for name in fields if name not in self.metrics]
        event = pb.Event(
            point=self.identity["points"].index(point),
            epoch=at[0],
            iter=at[1],
            inner_iter=at[2],
            metrics=[self.metrics.index(name) for name in fields],
            values=list(fields.values()),
        )
        seq, deadline_ms = self.next_seq, max((one.deadline_ms for one in gates), default=0)
        asked = [pb.GateRequest(seq=seq, subscribers=[one.subscriber for one in gates], deadline_ms=deadline_ms)]
        self.batch([event], asked if gates else [])
        if not gates:
            return None
        try:
            answers = self.wait(
                lambda: [one for one in self.seen("gate") if one.seq == seq],
                deadline_ms / 1000 if gate_s is None else gate_s,
            )
            return answers[0]
        except TimeoutError:
            return self._otherwise(gates, seq, at)

    @staticmethod
    def _holds(gate: pb.Subscription, values: Mapping[str, float]) -> bool:
        if gate.when.WhichOneof("condition") != "not_finite":
            return True  # no condition, or one that this client does not know
        return not math.isfinite(values.get(gate.when.not_finite, 0.0))

    @staticmethod
    def _otherwise(gates: Sequence[pb.Subscription], seq: int, at: At) -> pb.GateAnswer:
        for gate in gates:
            if gate.otherwise == pb.OTHERWISE_STOP:
                return pb.GateAnswer(
                    seq=seq,
                    verdict=pb.GATE_VERDICT_STOP,
                    reason=gate.otherwise_text,
                    decision_id=f"local:{gate.subscriber}:{at[1]}",
                    by=gate.subscriber,
                    logs=[pb.LogLine(level=pb.LOG_LEVEL_INFO, text=gate.otherwise_text)],
                )
        return pb.GateAnswer(seq=seq, verdict=pb.GATE_VERDICT_CONTINUE)

    def batch(self, events: Sequence[pb.Event], gates: Sequence[pb.GateRequest] = ()) -> None:
        """Sends events with the next numbers, and the names that no batch has said yet."""
        new = enumerate(self.metrics[self.named_metrics :], start=self.named_metrics)
        self.send(
            batch=pb.EventBatch(
                first_seq=self.next_seq,
                base_ns=time.monotonic_ns(),
                new_metrics=[pb.Name(id=id, name=name) for id, name in new],
                events=events,
                gates=gates,
            )
        )
        self.named_metrics = len(self.metrics)
        self.next_seq += len(events)

    def rates(self, own: Sequence[float], at: At) -> list[float]:
        """Top of an iteration: what each group's learning rate is to be. What comes into force here is reported."""
        with self.changed:
            lr = self.state.lr
            schedule = self.schedules.get(lr.schedule)
        planned = [self._planned(schedule, group, at[1]) for group in range(len(own))]
        for hold in lr.holds:
            if hold.id not in self.in_force and self._begins(hold.effective, at):
                self.in_force[hold.id] = at[1]
        rates = []
        for group, (plan, mine) in enumerate(zip(planned, own, strict=True)):
            base = mine if plan is None else plan
            about = [one for one in lr.holds if one.id in self.in_force]
            about = [one for one in about if not one.HasField("group") or one.group == group]
            # of two that came into force together the later one in the list
            last = max(reversed(about), key=lambda one: self.in_force[one.id], default=None)
            how = last.WhichOneof("how") if last is not None else None
            rates.append(last.value if how == "value" else base * last.scale if how == "scale" else base)
        for id in [lr.schedule] * (schedule is not None) + [one.id for one in lr.holds if one.id in self.in_force]:
            if id not in self.reported:
                self.result(id, at, "before_train_iter", old=text(own), new=text(rates))
        return rates

    @staticmethod
    def _planned(schedule: pb.Schedule | None, group: int, iter: int) -> float | None:
        if schedule is None:
            return None
        curve = schedule.curves[schedule.group_curve[group]]
        index = iter - curve.first_iter
        return curve.values[index] if 0 <= index < len(curve.values) else None

    @staticmethod
    def _begins(effective: pb.Effective, at: At) -> bool:
        if effective.when == pb.EFFECTIVE_WHEN_ITER:
            return at[1] == effective.iter
        if effective.when == pb.EFFECTIVE_WHEN_EPOCH:
            return at[0] == effective.epoch
        return True

    def result(self, id: str, at: At, point: str, outcome: int = types_pb2.OUTCOME_APPLIED, **more: str) -> None:
        """What this rank did, once for each id."""
        self.reported.add(id)
        self.send(result=types_pb2.Result(id=id, outcome=outcome, at=position(at), point=point, **more))

    def commands(self, at: At, point: str) -> list[str]:
        """Log lines are taken; what this client does not know it says so of. Returns the lines."""
        lines = []
        for command in self.seen("command"):
            if command.id in self.reported:
                continue
            if command.WhichOneof("what") == "log":
                lines.append(command.log.text)
                self.result(command.id, at, point)
            else:
                why = "this client saves no checkpoints and knows no orders of its own"
                self.result(command.id, at, point, types_pb2.OUTCOME_UNSUPPORTED, reason=why)
        return lines

    def bye(self, reason: str, at: At) -> None:
        """The last frame; the daemon ends the stream when it has taken it."""
        self.send(bye=pb.Bye(reason=reason, position=position(at)))
        self._out.put(None)
        self._closed.set()
        self.wait(lambda: self.ended)

    def send(self, **frame: object) -> None:
        self._out.put(pb.ClientFrame(**frame))

    def seen(self, kind: str) -> list[Any]:
        """The frames of one kind that came on this connection, in their order."""
        return [getattr(frame, kind) for frame in self.frames if frame.WhichOneof("frame") == kind]

    def wait(self, fact: Callable[[], Fact], timeout_s: float = PATIENCE_S) -> Fact:
        """Until the fact is there; it is returned. TimeoutError if it is not there in time."""
        with self.changed:
            if not self.changed.wait_for(fact, timeout_s):
                kinds = [frame.WhichOneof("frame") for frame in self.frames]
                raise TimeoutError(f"not within {timeout_s} s; ended: {self.ended}; came: {kinds}")
            return fact()

    def _receive(self) -> None:
        ended = "OK: "
        try:
            for frame in self._call:
                with self.changed:
                    self._take(frame)
                    self.frames.append(frame)
                    self.changed.notify_all()
        except grpc.RpcError as error:
            ended = f"{error.code().name}: {error.details()}"
        with self.changed:
            self.ended = ended
            self.changed.notify_all()

    def _take(self, frame: pb.ServerFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "plan":
            self.plan = frame.plan
        elif kind in ("welcome", "state"):
            state = frame.welcome.state if kind == "welcome" else frame.state
            if state.generation > self.state.generation:
                self.state = state
        elif kind == "schedule":
            chunk = frame.schedule
            parts = self.chunks.setdefault(chunk.id, {})
            parts[chunk.index] = chunk.data
            if len(parts) == chunk.count:
                data = b"".join(parts[index] for index in range(chunk.count))
                assert hashlib.sha256(data).digest() == chunk.hash
                self.schedules[chunk.id] = pb.Schedule.FromString(data)

    def _heartbeat(self) -> None:
        closed = self._closed
        while not closed.wait(HEARTBEAT_S):
            self.send(heartbeat=pb.Heartbeat(now_ns=time.monotonic_ns(), points=self.next_seq - 1))


def text(rates: Sequence[float]) -> str:
    return ", ".join(map(repr, rates))


def position(at: At) -> types_pb2.Position:
    return types_pb2.Position(epoch=at[0], iter=at[1], inner_iter=at[2])


def this_process() -> pb.Process:
    """Who this is, in the words that the daemon can check."""
    status = Path("/proc/self/status").read_text().splitlines()
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return pb.Process(
        ns_pids=next([int(pid) for pid in line.split()[1:]] for line in status if line.startswith("NSpid:")),
        start_ticks=int(stat[19]),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        command="plain",
    )


def iterations(epochs: int, iters_per_epoch: int) -> Iterator[At]:
    for epoch in range(epochs):
        for inner in range(iters_per_epoch):
            yield epoch, epoch * iters_per_epoch + inner, inner
