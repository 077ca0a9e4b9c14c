"""The loop: MMEngine's points in MMEngine's order, each batch once, and numbers where they belong."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from fakes import FakeSession

from hookbus._bus import Bus
from hookbus._log import TrainerLog


def bus_on(session: FakeSession, **known: int) -> Bus:
    return Bus(session, TrainerLog(), **known)  # type: ignore[arg-type]


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


def test_a_training_reaches_its_points_in_order(session: FakeSession) -> None:
    bus = bus_on(session, max_epochs=2)
    seen = []
    for epoch in bus.epochs():
        for batch in bus.iters("ab"):
            seen.append((epoch, batch))
            bus.report(loss=1.0)
    epoch = ["before_train_epoch", *["before_train_iter", "after_train_iter"] * 2, "after_train_epoch"]
    assert session.points == ["before_run", "before_train", *epoch, *epoch, "after_train", "after_run"]
    assert seen == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_an_iteration_without_a_report_is_ended_all_the_same(session: FakeSession) -> None:
    for _ in bus_on(session).iters(range(2)):
        pass
    assert session.points == ["before_train_iter", "after_train_iter"] * 2


def test_a_report_is_sent_at_once(session: FakeSession) -> None:
    bus = bus_on(session)
    for _ in bus.iters(range(1)):
        bus.report(loss=0.5, accuracy=0.25)
        assert session.events[-1] == ("after_train_iter", {"loss": 0.5, "accuracy": 0.25})


def test_a_second_report_is_told_once_and_by_name(session: FakeSession, caplog: pytest.LogCaptureFixture) -> None:
    bus = bus_on(session)
    for _ in bus.iters(range(3)):
        bus.report(loss=0.5)
        bus.report(accuracy=0.25)
    assert session.points == ["before_train_iter", "after_train_iter"] * 3
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "accuracy" in caplog.text
    assert "in one call" in caplog.text


def test_reports_outside_of_iters_are_iterations(session: FakeSession) -> None:
    bus = bus_on(session)
    bus.report(loss=1.0)
    bus.report(loss=2.0)
    assert session.points == ["after_train_iter"] * 2


def test_the_bound_optimizers_rate_is_reported_as_it_is_now(session: FakeSession) -> None:
    class Optimizer:
        param_groups = [{"lr": 0.1, "initial_lr": 0.5, "name": "body"}, {"lr": 0.2}]  # noqa: RUF012

    bus = bus_on(session)
    bus.bind(optimizer=Optimizer)
    assert session.known["groups"] == [(0.5, "body"), (0.2, "1")]
    bus.report(loss=1.0)
    Optimizer.param_groups[0]["lr"] = 0.05
    bus.report(loss=1.0)
    bus.report(loss=1.0, lr=7.0)
    assert [fields["lr"] for _, fields in session.events] == [0.1, 0.05, 7.0]


@pytest.mark.parametrize("thing", [None, 3, object(), [], {"param_groups": 3}])
def test_binding_a_thing_of_another_shape_is_harmless(session: FakeSession, thing: object) -> None:
    bus = bus_on(session)
    bus.bind(optimizer=thing, model=thing, sampler=thing, loader=thing)
    bus.report(loss=1.0)
    assert session.events == [("after_train_iter", {"loss": 1.0})]


def test_a_loaders_shape_is_known_but_what_the_user_said_wins(session: FakeSession) -> None:
    class Loader:
        num_workers, persistent_workers = 2, True

        def __len__(self) -> int:
            return 9

    bus_on(session, iters_per_epoch=7).bind(loader=Loader())
    assert session.known == {"iters_per_epoch": 7, "loader_workers": 2, "persistent_workers": True}
    bus_on(session).bind(loader=Loader())
    assert session.known["iters_per_epoch"] == 9


class Awkward:
    num_workers = 2

    def __len__(self) -> int:
        raise RuntimeError("not before the first batch")

    def __float__(self) -> float:
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


def test_objects_that_raise_what_they_like_yield_fewer_facts(session: FakeSession) -> None:
    bus = bus_on(session, max_epochs=3)
    bus.bind(optimizer=SimpleNamespace(param_groups=[{"lr": Awkward()}]), loader=Awkward())
    assert session.known == {"max_epochs": 3, "loader_workers": 2}


def test_each_facts_message_is_whole(session: FakeSession) -> None:
    bus = bus_on(session, max_epochs=3)
    bus.bind(optimizer=SimpleNamespace(param_groups=[{"lr": 0.5}]))
    bus.bind(loader=[1, 2])
    assert session.known == {"max_epochs": 3, "groups": [(0.5, "0")], "iters_per_epoch": 2}


def test_a_resumed_training_begins_at_its_epoch(session: FakeSession) -> None:
    bus = bus_on(session, max_epochs=5)
    bus.resume(epoch=3, iter=30)
    assert list(bus.epochs()) == [3, 4]


def test_epochs_without_an_end_is_refused_before_anything_runs(session: FakeSession) -> None:
    with pytest.raises(ValueError, match="max_epochs"):
        bus_on(session).epochs()
    assert session.points == []


def test_a_loop_that_breaks_begins_anew(session: FakeSession) -> None:
    bus = bus_on(session)
    for _ in bus.iters(range(9)):
        bus.report(loss=1.0)
        break
    for _ in bus.iters(range(1)):
        bus.report(loss=2.0)
    assert [fields["loss"] for point, fields in session.events if point == "after_train_iter"] == [1.0, 2.0]


def test_a_validation_has_its_own_points(session: FakeSession) -> None:
    bus = bus_on(session)
    for _ in bus.iters(range(1)):
        for _ in bus.val_iters(range(2)):
            bus.report_val(accuracy=1.0)
    val = ["before_val", "before_val_epoch", *["before_val_iter", "after_val_iter"] * 2, "after_val_epoch", "after_val"]
    assert session.points == ["before_train_iter", *val, "after_train_iter"]


@pytest.mark.parametrize(
    ("error", "goodbye"),
    [
        (None, ("finished", False)),
        (ValueError("no"), ("ValueError: no", True)),
        (KeyboardInterrupt(), ("KeyboardInterrupt", True)),
        (SystemExit(0), ("finished", False)),
        (SystemExit(2), ("SystemExit: 2", True)),
    ],
)
def test_the_goodbye_says_how_it_ended(
    session: FakeSession, error: BaseException | None, goodbye: tuple[str, bool]
) -> None:
    def body() -> None:
        with bus_on(session):
            if error is not None:
                raise error

    if error is None:
        body()
    else:
        with pytest.raises(type(error)):
            body()
    assert session.closed == [goodbye]
