"""What the daemon decides is applied, each with its result; only a stop leaves, as TrainingStopped."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest
from fakes import FakeSession

import hookbus
from hookbus._bus import Bus
from hookbus._log import TrainerLog


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def bus(session: FakeSession) -> Bus:
    return Bus(session, TrainerLog())  # type: ignore[arg-type]


STOP = ("stop", "d1", "CheckInvalidLossHook", "loss is nan")


def test_a_stop_is_raised_out_of_the_report_that_caused_it(session: FakeSession, bus: Bus) -> None:
    session.due, session.due_at = [STOP], "after_train_iter"
    with pytest.raises(hookbus.TrainingStopped) as caught, bus:
        for _ in bus.iters(range(5)):
            bus.report(loss=float("nan"))
    stop = caught.value
    assert (str(stop), stop.reason, stop.by, stop.id) == ("loss is nan", "loss is nan", "CheckInvalidLossHook", "d1")
    assert isinstance(stop, AssertionError)
    assert session.points == ["before_train_iter", "after_train_iter"]
    assert session.results[0][:2] == ("d1", "applied")
    assert session.closed == [("stopped: loss is nan", False)]
    assert bus.stop_reason == "loss is nan"


def test_a_stop_that_is_caught_inside_is_still_told(session: FakeSession, bus: Bus) -> None:
    session.due, session.due_at = [STOP], "x"
    with bus, pytest.raises(hookbus.TrainingStopped, match="loss is nan"):
        bus.event("x")
    assert session.closed == [("stopped: loss is nan", False)]


def test_what_comes_with_a_stop_is_applied_before_it(
    session: FakeSession, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    order: list[str] = []
    bus.on("stop", lambda reason: order.append(f"stop {reason}"))
    bus.on("checkpoint", lambda tag: order.append(f"save {tag}"))
    with caplog.at_level(logging.INFO), pytest.raises(hookbus.TrainingStopped):
        session.apply([("log", "l1", logging.INFO, "invalid"), STOP, ("checkpoint", "c1", "last")], "x")
    assert order == ["stop loss is nan", "save last"]
    assert caplog.messages == ["invalid"]
    assert [r[:2] for r in session.results] == [("l1", "applied"), ("d1", "applied"), ("c1", "applied")]


def test_a_defect_of_ours_hides_no_stop(session: FakeSession, bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    defect: Any = ("checkpoint", "c1")  # it has no tag
    with pytest.raises(hookbus.TrainingStopped):
        session.apply([STOP, defect], "x")
    assert "checkpoint raised IndexError" in caplog.text


@pytest.mark.parametrize("action", [("checkpoint", "c1", "last"), ("size", "s1", 64, 64)])
def test_a_stop_that_is_reached_within_a_handler_is_raised_after_all_else(
    session: FakeSession, bus: Bus, action: Any
) -> None:
    def validate(_: object) -> None:
        session.apply([STOP], "before_val_iter")

    bus.on(action[0], validate)
    with pytest.raises(hookbus.TrainingStopped, match="loss is nan"):
        session.apply([action, ("custom", "x1", "there is none", "")], "x")
    results = [result[:2] for result in session.results]
    assert results == [("d1", "applied"), (action[1], "failed"), ("x1", "unsupported")]


def test_results_of_handlers(session: FakeSession, bus: Bus) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("disk full")

    payloads: list[object] = []
    bus.on("checkpoint", lambda tag: f"/tmp/{tag}.pt")
    bus.on("custom:twice", payloads.append)
    bus.on("custom:bad", fails)
    session.apply(
        [
            ("checkpoint", "1", "best"),
            ("custom", "2", "twice", '{"n": 2}'),
            ("custom", "3", "bad", ""),
            ("custom", "4", "unheard", "1"),
            ("custom", "5", "twice", "{"),
        ],
        "before_train_iter",
    )
    assert session.capabilities == ["checkpoint", "custom:twice", "custom:bad"]
    assert payloads == [{"n": 2}]
    got = {id: (outcome, new, reason) for id, outcome, _, new, reason in session.results}
    assert got["1"] == ("applied", "/tmp/best.pt", "")
    assert got["2"] == ("applied", None, "")
    assert got["3"] == ("failed", None, "RuntimeError: disk full")
    assert got["4"][0] == "unsupported"
    assert got["5"][0] == "rejected"


def test_a_stop_handler_that_raises_hides_neither_the_stop_nor_itself(
    session: FakeSession, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    bus.on("stop", lambda reason: 1 / 0)
    with pytest.raises(hookbus.TrainingStopped):
        session.apply([STOP], "x")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("kind", ["chekpoint", "custom:", "", "lr"])
def test_a_handler_for_what_there_is_not_is_refused_at_once(bus: Bus, kind: str) -> None:
    with pytest.raises(ValueError, match=r"there are 'checkpoint', 'stop', 'size', .* and 'custom:NAME'"):
        bus.on(kind, print)


def test_a_stop_that_comes_with_the_goodbye_raises_nothing(session: FakeSession, bus: Bus) -> None:
    def close(reason: str, failed: bool) -> None:
        session.apply([STOP], "close")

    session.close = close  # type: ignore[method-assign]
    bus.close()
    assert session.results[0][:2] == ("d1", "rejected")


def test_a_line_goes_to_stderr_where_logging_has_no_handler(capsys: pytest.CaptureFixture[str]) -> None:
    class Bare:
        def hasHandlers(self) -> bool:
            return False

        def log(self, level: int, msg: object, /) -> None:
            raise AssertionError("not asked")

    TrainerLog(Bare()).info("a line")
    assert capsys.readouterr().err == "a line\n"


def test_a_logger_that_raises_loses_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def log(self, level: int, msg: object, /) -> None:
            raise OSError("closed")

    TrainerLog(Broken()).info("a line")
    assert capsys.readouterr().err.splitlines()[-1] == "a line"


def test_a_stop_crosses_a_process() -> None:
    stop = pickle.loads(pickle.dumps(hookbus.TrainingStopped("why", "who", "id")))
    assert (stop.reason, stop.by, stop.id, str(stop)) == ("why", "who", "id", "why")
