"""Several ranks, one decision: whatever happens to a daemon, all ranks do the same at the same iteration, or hookbus is
off on all of them and the training goes on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, Daemon, operator
from trainings import Records, Training, begun

pytestmark = pytest.mark.torch

Start = Callable[..., Daemon]
Settings = dict[str, Any]

RATES = dict(
    type="YOLOXLrUpdaterHook",
    by_epoch=False,
    warmup="exp",
    warmup_iters=5,
    warmup_ratio=1.0,
    num_last_epochs=1,
    min_lr_ratio=0.05,
)
CHECK = dict(type="CheckInvalidLossHook", interval=1)
SCRIPT = "loop.py"
LENGTH = 40


def loop(folder: Path, settings: Settings, daemons: list[Daemon], ranks: int = 2) -> tuple[Records, Training]:
    with begun(folder, settings, ranks, daemons, SCRIPT) as training:
        return training.records(), training


def undisturbed(folder: Path, settings: Settings, start_daemon: Start) -> Records:
    return loop(folder, settings, [start_daemon()])[0]


def the_same(some: Records, other: Records) -> None:
    for rank, (one, two) in enumerate(zip(some, other, strict=True)):
        for what in ("losses", "rates", "weights", "stopped", "raised"):
            assert one[what] == two[what], f"{what} on rank {rank}"


@pytest.mark.parametrize("killed", [[0], [1], [0, 1]], ids=["rank 0's", "rank 1's", "both"])
def test_a_daemon_killed_in_mid_run_changes_no_number(tmp_path: Path, start_daemon: Start, killed: list[int]) -> None:
    settings = {"asked": [RATES, CHECK], "ask_at": [17]}
    quiet = undisturbed(tmp_path, {**settings, "ask_at": []}, start_daemon)
    assert len(set(quiet[0]["rates"])) > 20, "the schedule is in force"
    daemons = [start_daemon(), start_daemon()]
    with begun(tmp_path, settings, 2, daemons, SCRIPT) as training:
        for rank in (0, 1):
            training.at(rank, 17)
        for rank in killed:
            daemons[rank].kill()
        for rank in (0, 1):
            training.go(rank)
        disturbed = training.records()
    the_same(disturbed, quiet)
    assert disturbed[0]["weights"] == disturbed[1]["weights"] or disturbed[0]["iterations"] == LENGTH


@pytest.mark.parametrize("dead", ["killed in mid-run", "never there"])
def test_a_stop_reaches_every_rank_at_the_same_iteration_though_rank_1_has_no_daemon(
    tmp_path: Path, start_daemon: Start, dead: str
) -> None:
    """It is taken where the ranks meet: every tenth iteration, and where an epoch begins."""
    daemons = [start_daemon(), start_daemon()]
    if dead == "never there":
        daemons[1].kill()
    settings = {"asked": [CHECK], "iterations": 100, "ask_at": [23]}
    with begun(tmp_path, settings, 2, daemons, SCRIPT) as training:
        for rank in (0, 1):
            training.at(rank, 23)
        daemons[1].kill()
        sending = subprocess.Popen(
            [*operator.command(daemons[0]), "send", "loop", "stop", "--reason", "enough", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sending.stdout is not None
        taken = json.loads(sending.stdout.readline())  # by the daemon, on its way to rank 0
        assert taken["waiting"] == [0], "rank 1 is told by rank 0"
        for rank in (0, 1):
            training.go(rank)
        answers = sending.communicate(timeout=PATIENCE_S)[0].splitlines()
        records = training.records()
    assert (sending.returncode, json.loads(answers[-1])["result"]["outcome"]) == (0, "applied"), answers
    stops = [record["stopped"] for record in records]
    assert stops[0] == stops[1], stops
    at, reason, by = stops[0]
    assert (at % 10, reason) == (0, "enough"), stops
    assert 23 < at < 400, stops
    assert by


@pytest.mark.parametrize(
    ("daemons", "at"),
    [(0, 12), (1, 0), (1, 39), (2, 12)],
    ids=["no daemon", "rank 0's alone, at first", "rank 0's alone, at last", "one each"],
)
def test_a_loss_that_is_no_number_on_rank_1_alone_stops_both_there(
    tmp_path: Path, start_daemon: Start, at: int, daemons: int
) -> None:
    there = [start_daemon(), start_daemon()]
    for rank in range(daemons, 2):
        there[rank].kill()
    records, training = loop(tmp_path, {"asked": [CHECK], "nan": [1, at]}, there)
    stops = [record["stopped"] for record in records]
    if daemons == 0:
        assert stops == [None, None]
        assert "no CheckInvalidLossHook" in training.said(0)
        return
    assert stops[0] == stops[1]
    assert stops[0][0] == at + 1, stops
    assert "on rank 1" in stops[0][1], stops
    for rank in (0, 1):
        assert "loss become infinite or NaN!" in training.said(rank)


def test_ranks_that_a_parent_has_spawned_are_one_run_too(tmp_path: Path, start_daemon: Start) -> None:
    """No environment says their ranks: the process group does."""
    daemon = start_daemon()
    settings = {"asked": [CHECK], "nan": [1, 12], "started": "by a parent"}
    records, _ = loop(tmp_path, settings, [daemon])
    assert [record["stopped"][0] for record in records] == [13, 13]
    (run,) = daemon.ask("runs")
    assert run["world_size"] == 2, run


def test_without_rank_0s_daemon_nothing_is_decided_and_nothing_hangs(tmp_path: Path, start_daemon: Start) -> None:
    daemons = [start_daemon(), start_daemon()]
    daemons[0].kill()
    records, _ = loop(tmp_path, {"asked": [RATES, CHECK], "nan": [1, 7]}, daemons)
    bare, _ = loop(tmp_path, {"attached": [], "nan": [1, 7]}, daemons)
    the_same(records, bare)


def test_a_gate_is_answered_by_its_otherwise_where_rank_0s_daemon_has_died(tmp_path: Path, start_daemon: Start) -> None:
    daemons = [start_daemon(), start_daemon()]
    settings = {"asked": [CHECK], "nan": [1, 25], "ask_at": [11]}
    with begun(tmp_path, settings, 2, daemons, SCRIPT) as training:
        for rank in (0, 1):
            training.at(rank, 11)
        daemons[0].kill()
        for rank in (0, 1):
            training.go(rank)
        records = training.records()
    assert [record["stopped"][0] for record in records] == [26, 26]


OFF = "hookbus is off on every rank that has it; the training goes on"
DISAGREEMENTS: dict[str, tuple[list[Settings], str]] = {
    "hooks": ([{}, {"hooks": [dict(type="SetEpochInfoHook")]}], "ranks 0 and 1 disagree in hooks: [{'type': 'Check"),
    "length": ([{}, {"max_iters": 39}], "ranks 0 and 1 disagree in max iterations: None and 39"),
    "epochs": ([{"max_epochs": 3}, {}], "ranks 0 and 1 disagree in max epochs: 3 and 4"),
    "meetings": ([{}, {"ranks_every": 7}], "ranks 0 and 1 disagree in iterations between two meetings: 10 and 7"),
}


@pytest.mark.parametrize("what", DISAGREEMENTS)
def test_ranks_that_disagree_go_on_without_hookbus(tmp_path: Path, start_daemon: Start, what: str) -> None:
    arguments, says = DISAGREEMENTS[what]
    settings = {"arguments": arguments, "epochs": 4 if what != "epochs" else 3}
    if what == "epochs":
        arguments[1]["max_epochs"] = 4
    records, training = loop(tmp_path, {**settings, "asked": [CHECK], "nan": [1, 3]}, [start_daemon()])
    bare, _ = loop(tmp_path, {**settings, "attached": [], "nan": [1, 3]}, [start_daemon()])
    if what != "epochs":
        the_same(records, bare)
    for rank in (0, 1):
        lines = [line for line in training.said(rank).splitlines() if " ERROR " in line]
        assert len(lines) == 1, training.said(rank)
        assert says in lines[0], lines[0]
        assert OFF in lines[0], lines[0]


@pytest.mark.parametrize("alone", [0, 1])
def test_a_rank_that_attaches_alone_goes_on_without_hookbus(tmp_path: Path, start_daemon: Start, alone: int) -> None:
    other = 1 - alone
    arguments = [{"ranks_timeout_s": 0.5}, {"ranks_timeout_s": 0.5}]
    settings = {"arguments": arguments, "nan": [alone, 3]}
    records, training = loop(tmp_path, {**settings, "asked": [CHECK, RATES], "attached": [alone]}, [start_daemon()])
    bare, _ = loop(tmp_path, {**settings, "attached": []}, [start_daemon()])
    the_same(records, bare)
    (line,) = [line for line in training.said(alone).splitlines() if " ERROR " in line]
    assert f"rank {other} of 2 did not attach within" in line, line
    assert f"rank {alone} did" in line, line
    assert "waiting for rank" in training.said(alone)


def test_a_rank_that_only_watches_may_attach_alone(tmp_path: Path, start_daemon: Start) -> None:
    daemon = start_daemon()
    arguments: list[Settings] = [{"allow": ["log"]}, {}]
    records, training = loop(
        tmp_path, {"arguments": arguments, "asked": [CHECK], "attached": [0], "nan": [0, 3]}, [daemon]
    )
    assert [record["iterations"] for record in records] == [LENGTH, LENGTH]
    assert " ERROR " not in training.said(0)


def errors(training: Training, rank: int) -> list[str]:
    return [line for line in training.said(rank).splitlines() if " ERROR " in line]


@pytest.mark.parametrize("more", [[0, 1], [1, 0]], ids=["rank 1", "rank 0"])
def test_ranks_that_make_different_iterations_part_and_go_on(
    tmp_path: Path, start_daemon: Start, more: list[int]
) -> None:
    """A loop that has no collective of its own must not hang in ours."""
    settings = {"asked": [CHECK], "extra": more, "iterations": 7}
    records, training = loop(tmp_path, settings, [start_daemon()])
    assert [record["iterations"] for record in records] == [4 * (7 + extra) for extra in more]
    said = [line for rank in (0, 1) for line in errors(training, rank)]
    assert said
    assert all("the ranks of this job cannot meet any more" in line for line in said), said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_closes_its_bus_in_mid_run_holds_nobody_up(tmp_path: Path, start_daemon: Start, rank: int) -> None:
    settings = {"asked": [CHECK, RATES], "closed_at": [rank, 13]}
    records, training = loop(tmp_path, settings, [start_daemon()])
    assert [record["iterations"] for record in records] == [LENGTH, LENGTH]
    assert errors(training, rank) == []
    (line,) = errors(training, 1 - rank)
    assert "the ranks of this job cannot meet any more" in line


def test_a_training_that_ends_well_says_no_error(tmp_path: Path, start_daemon: Start) -> None:
    _, training = loop(tmp_path, {"asked": [CHECK, RATES]}, [start_daemon()])
    assert errors(training, 0) == errors(training, 1) == []


def test_a_model_that_only_one_rank_binds_is_averaged_on_none(tmp_path: Path, start_daemon: Start) -> None:
    arguments = {"val_on_every_rank": True}
    settings = {"asked": [dict(type="SyncNormHook")], "bound": [0], "arguments": [arguments, arguments]}
    with begun(tmp_path, settings | {"validates": True}, 2, [daemon := start_daemon()], SCRIPT) as training:
        records = training.records()
    assert [record["iterations"] for record in records] == [LENGTH, LENGTH]
    assert errors(training, 0) == errors(training, 1) == []
    results = [one["result"] for one in daemon.ask("show", "loop")["results"] if one["what"] == "sync_norm"]
    assert [result["outcome"] for result in results] == ["unsupported", "unsupported"]
    assert all("5 tensors with 33 numbers and no model is bound" in result["reason"] for result in results)


def test_a_point_before_the_process_group_is_up_leaves_no_rank_alone(tmp_path: Path, start_daemon: Start) -> None:
    settings = {"asked": [CHECK], "point_before": True, "nan": [1, 12]}
    records, _ = loop(tmp_path, settings, [start_daemon()])
    assert [record["stopped"][0] for record in records] == [13, 13]
    settings["started"] = "by a parent"  # nothing said then that there would be others
    records, training = loop(tmp_path, settings, [start_daemon()])
    assert [record["iterations"] for record in records] == [LENGTH, LENGTH]
    for rank in (0, 1):
        (line,) = errors(training, rank)
        assert "torch.distributed came up after a point of the training had been reached" in line
        assert OFF in line


def test_a_rank_that_dies_ends_the_other_as_without_hookbus(tmp_path: Path, start_daemon: Start) -> None:
    def ends(settings: Settings) -> tuple[dict[str, Any], str]:
        with begun(tmp_path, {**settings, "die": [1, 13]}, 2, [start_daemon()], SCRIPT) as training:
            training.processes[0].communicate(timeout=PATIENCE_S)
            training.processes[1].wait(timeout=PATIENCE_S)
            return json.loads(training.record(0).read_text()), training.said(0)

    (with_hooks, said), (bare, _) = ends({"asked": [CHECK, RATES]}), ends({"attached": []})
    assert bare["raised"] is not None
    assert with_hooks["raised"] is not None, said
    assert with_hooks["raised"][0] == bare["raised"][0] == 13


NORMS = dict(type="SyncNormHook")
CLASSES = dict(type="NumClassCheckHook")


def validated(folder: Path, settings: Settings, daemons: list[Daemon]) -> Records:
    with begun(folder, settings, 2, daemons, "validation.py") as training:
        return training.records()


def test_a_validation_alone_is_decided_on_every_rank(tmp_path: Path, start_daemon: Start) -> None:
    records = validated(tmp_path, {"asked": [NORMS, CLASSES]}, [start_daemon(), start_daemon()])
    assert [record["weight"] for record in records] == [[0.5, 0.5]] * 2, "the mean over the ranks"
    assert [record["errors"] for record in records] == [[], []]
    records = validated(tmp_path, {"asked": [CLASSES], "heads": 3}, [start_daemon(), start_daemon()])
    assert records[0]["stopped"] == records[1]["stopped"]
    assert "The `num_classes` (3)" in records[0]["stopped"]


@pytest.mark.parametrize("alone", [0, 1])
def test_a_validation_alone_with_hookbus_on_one_rank_goes_on_without(
    tmp_path: Path, start_daemon: Start, alone: int
) -> None:
    settings = {"asked": [NORMS, CLASSES], "attached": [alone], "heads": 3}
    records = validated(tmp_path, settings, [start_daemon()])
    assert [record["stopped"] for record in records] == [None, None]
    assert [record["weight"] for record in records] == [[0.0, 0.0], [1.0, 1.0]]
    (error,) = records[alone]["errors"]
    assert OFF in error
