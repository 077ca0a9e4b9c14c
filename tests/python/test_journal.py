"""The journal as people meet it: files that do not fit, closed places, a full disk, and what goes and stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE_S, Daemon, Start, binary, clean_environment, ended, operator, said, told
from deployed import Serving

Run = Callable[..., "subprocess.CompletedProcess[str]"]
StartDaemon = Callable[..., Daemon]

OURS = 0x686B6273  # application_id: "hkbs"
LAUNCHED = {"HOOKBUS_LAUNCH": "L1"}

SHORT = """
import hookbus
with hookbus.attach("short", max_epochs=1) as bus:
    for i in bus.iters(range(5)):
        bus.report(loss=float(i))
"""

# takes a step for each line that it reads, of so many iterations
STEPS = """
import hookbus, itertools, sys
with hookbus.attach(sys.argv[1], max_epochs=1) as bus:
    print("attached", flush=True)
    at = iter(range(1_000_000))
    left = int(input())
    for i in bus.iters(at):
        bus.report(loss=float(i))
        left -= 1
        if left == 0:
            print(i, bus.status()["dropped"], flush=True)
            left = int(input() or 0)
            if left == 0:
                break
"""


def step(training: subprocess.Popen[str], iterations: int) -> tuple[int, int]:
    """So many more. Where it is then, and what its client has dropped."""
    assert training.stdin is not None
    training.stdin.write(f"{iterations}\n")
    training.stdin.flush()
    at, dropped = said(training).split()
    return int(at), int(dropped)


def until(what: str, fact: Callable[[], object]) -> None:
    """Asks until it is so; the wait is the test's patience, never its meaning."""
    patience = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < patience, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.02)


def rows(file: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal:
        return journal.execute(sql).fetchall()


def rank(daemon: Daemon, run: str) -> dict:
    (only,) = daemon.ask("show", run)["ranks"]
    return only


def incident(daemon: Daemon, run: str, kind: str) -> dict | None:
    found = [one for one in daemon.ask("show", run)["incidents"] if one["kind"] == kind]
    assert len(found) <= 1, found
    return found[0] if found else None


def lines(log: str, *words: str) -> list[str]:
    return [line for line in log.splitlines() if all(word in line for word in words)]


# --- files that do not fit


def damaged(file: Path) -> None:
    file.write_text("no database at all, but long enough to have a header of one" * 20)


def newer(file: Path) -> None:
    sqlite(file, f"PRAGMA application_id = {OURS}; PRAGMA user_version = 99; CREATE TABLE run (name)")


def foreign(file: Path) -> None:
    sqlite(file, "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)")


def sqlite(file: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as there:
        there.executescript(sql)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (damaged, "is damaged"),
        (newer, "is of a newer hookbusd (schema version 99"),
        (foreign, "is no journal of hookbus"),
    ],
    ids=["damaged", "newer", "foreign"],
)
def test_a_file_that_does_not_fit_is_set_aside_and_the_run_is_written_down(
    spoil: Callable[[Path], None], why: str, run_script: Run, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    file, others = state / "short@L1.db", state / "others.db"
    for one in (file, others):
        spoil(one)
    before = file.read_bytes()
    daemon = start_daemon(state=state)
    log = daemon.log.read_text()
    for one in (file, others):
        assert len(lines(log, "WARN", "a journal cannot be read", str(one))) == 1, log

    done = run_script(SHORT, daemon, **LAUNCHED)
    assert (done.returncode, done.stderr) == (0, ""), "the trainer hears nothing of it"
    (line,) = lines(daemon.log.read_text(), "ERROR", "a journal is set aside")
    assert why in line
    (aside,) = state.glob("short@L1.db.set-aside-*")
    assert aside.name in line
    assert aside.read_bytes() == before
    assert others.exists(), "nobody asked for this one"

    seen = incident(daemon, "short", "journal_set_aside")
    assert seen is not None
    assert seen["open"]
    assert why in seen["text"]
    assert aside.name in seen["text"]
    shown = operator(daemon, "show", "short").stdout
    assert lines(shown, "open", "journal_set_aside", str(file), aside.name), shown
    until("the end is written down", lambda: rows(file, "SELECT phase FROM attempts") == [("finished",)])
    assert rows(file, "SELECT count(*) FROM events WHERE point = 'after_train_iter'") == [(5,)]
    assert rows(file, "SELECT kind, change FROM incidents") == [("journal_set_aside", "opened")]


def test_a_journal_with_damage_in_its_middle_is_set_aside_whole(
    run_script: Run, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    first = start_daemon(state=state)
    assert run_script(SHORT, first, **LAUNCHED).returncode == 0
    first.process.terminate()
    assert first.process.wait(PATIENCE_S) == 0
    file = state / "short@L1.db"
    whole = file.read_bytes()
    half = len(whole) // 2 // 4096 * 4096
    file.write_bytes(whole[:half] + b"\x5a" * (len(whole) - half))
    again = start_daemon(state=state)
    done = run_script(SHORT, again, **LAUNCHED)
    assert (done.returncode, done.stderr) == (0, "")
    seen = incident(again, "short", "journal_set_aside")
    assert seen is not None
    assert "is damaged" in seen["text"]
    (aside,) = state.glob("short@L1.db.set-aside-*")
    assert aside.stat().st_size == len(whole)
    until("the end is written down", lambda: rows(file, "SELECT phase FROM attempts") == [("finished",)])


# --- places that cannot be written


def closed(folder: Path) -> Path:
    """Where not even root can make a folder."""
    (folder / "file").write_text("")
    return folder / "file/state"


def test_a_directory_that_was_said_and_cannot_be_written_ends_the_daemon_with_one_line(tmp_path: Path) -> None:
    place = closed(tmp_path)
    command = [binary("hookbusd"), "--socket", tmp_path / "s", "--state-dir", place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=clean_environment())
    said_lines = [line for line in (done.stdout + done.stderr).splitlines() if str(place) in line]
    assert done.returncode == 1
    assert len(said_lines) == 1, done.stdout + done.stderr
    assert "journal.dir" in said_lines[0]
    assert "journal.enabled = false" in said_lines[0], "what mends it"
    assert not (tmp_path / "s").exists(), "nobody finds a socket without a daemon"


def test_a_directory_of_somebody_else_that_was_said_ends_the_daemon(open_folder: Path) -> None:
    place = open_folder / "closed"
    place.mkdir(mode=0o555)
    with Serving(open_folder, "--state-dir", place) as daemon:
        assert daemon.process.wait(PATIENCE_S) == 1
        log = daemon.log.read_text()
        assert len(lines(log, "journal.dir", str(place), "Permission denied")) == 1, log


def test_without_a_place_there_is_one_warning_and_everything_else_works(
    run_script: Run, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    place = closed(tmp_path)
    daemon = start_daemon(HOOKBUSD_JOURNAL__DIR="auto", STATE_DIRECTORY=str(place))
    done = run_script(SHORT, daemon)
    assert (done.returncode, done.stderr) == (0, "")
    shown = daemon.ask("show", "short")
    assert (shown["run"]["phase"], shown["ranks"][0]["position"]["iter"]) == ("finished", 4)
    assert shown["ranks"][0]["acked"] == shown["ranks"][0]["events"] > 0, "settled is what the bus has taken"
    log = daemon.log.read_text()
    assert len(lines(log, "WARN", "not written down", "journal.dir", str(place))) == 1, log
    assert not daemon.state.exists()


# --- a full disk


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "none", name], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            # lazily: a daemon of the test may still have a file open
            subprocess.run(["umount", "--lazy", name], check=True)


def fill(disk: Path) -> Path:
    """Takes all that there is. Who removes the file makes room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as out:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(b"x" * size)
    assert shutil.disk_usage(disk).free == 0
    return filler


def whole(file: Path, events: int) -> int:
    """Every number is in `events` or in `holes`, and in one of them only. How many are in holes."""
    spans = rows(file, "SELECT DISTINCT first_seq, last_seq FROM holes ORDER BY 1")
    lost = sum(last - first + 1 for first, last in spans)
    inside = "SELECT count(*) FROM events JOIN holes ON seq BETWEEN first_seq AND last_seq"
    assert rows(file, inside) == [(0,)]
    assert rows(file, "SELECT coalesce(sum(count), 0) FROM holes") == [(lost,)]
    assert rows(file, "SELECT count(*) FROM events") == [(events - lost,)]
    assert rows(file, "SELECT max(seq) FROM events")[0][0] <= events
    return lost


def test_a_full_disk_stops_acknowledgements_and_nothing_else_until_there_is_room(
    start_script: Start, start_daemon: StartDaemon, small_disk: Path
) -> None:
    daemon = start_daemon(state=small_disk)
    file = small_disk / "full@L1.db"
    training = start_script(STEPS, daemon.address, "full", **LAUNCHED)
    assert said(training) == "attached"
    assert step(training, 100) == (99, 0)
    until("the first hundred are acknowledged", lambda: (one := rank(daemon, "full"))["acked"] == one["events"] >= 200)

    filler = fill(small_disk)
    step(training, 2000)  # more than fits into what the file already has
    until("it is known", lambda: (one := incident(daemon, "full", "journal_stopped")) and one["open"])
    acked = rank(daemon, "full")["acked"]
    assert step(training, 2000) == (4099, 0), "the training goes on"
    until("the live view goes on", lambda: rank(daemon, "full")["events"] >= 8200)
    assert rank(daemon, "full")["acked"] == acked, "nothing is acknowledged that is not in the file"
    shown = operator(daemon, "show", "full").stdout
    assert lines(shown, "open", "journal_stopped", str(file), "full"), shown
    assert len(lines(daemon.log.read_text(), "ERROR", "nothing is acknowledged until it can")) == 1

    filler.unlink()
    until("all is acknowledged", lambda: (one := rank(daemon, "full"))["acked"] == one["events"] >= 8200)
    until("the incident closes", lambda: not (incident(daemon, "full", "journal_stopped") or {"open": True})["open"])
    told(training)
    code, _, err = ended(training)
    assert (code, err) == (0, "")
    until("the end is written down", lambda: rows(file, "SELECT phase FROM attempts") == [("finished",)])
    assert whole(file, rows(file, "SELECT events FROM ranks")[0][0]) == 0
    assert rows(file, "SELECT kind, change FROM incidents ORDER BY time_unix_s") == [
        ("journal_stopped", "opened"),
        ("journal_stopped", "closed"),
    ]
    assert len(lines(daemon.log.read_text(), "INFO", "the journal is written again")) == 1


def test_what_does_not_fit_in_memory_while_the_disk_is_full_is_a_hole_that_is_counted(
    start_script: Start, start_daemon: StartDaemon, small_disk: Path
) -> None:
    daemon = start_daemon(state=small_disk)
    file = small_disk / "flood@L1.db"
    training = start_script(STEPS, daemon.address, "flood", **LAUNCHED)
    assert said(training) == "attached"
    step(training, 100)
    until("the first hundred are acknowledged", lambda: (one := rank(daemon, "flood"))["acked"] == one["events"] >= 200)
    filler = fill(small_disk)
    at, dropped = step(training, 60_000)  # 120,000 events, 84,000 of which wait
    assert (at, dropped) == (60_099, 0)
    until("the daemon has them all", lambda: rank(daemon, "flood")["events"] >= 2 * at)
    assert incident(daemon, "flood", "journal_stopped")
    filler.unlink()
    until("all is settled", lambda: (one := rank(daemon, "flood"))["acked"] >= 2 * at and one["acked"] == one["events"])
    told(training)
    assert ended(training)[0] == 0
    until("the end is written down", lambda: rows(file, "SELECT phase FROM attempts") == [("finished",)])
    lost = whole(file, rows(file, "SELECT events FROM ranks")[0][0])
    assert lost > 0
    assert rows(file, "SELECT DISTINCT why FROM holes") == [("the daemon's disk took no more",)]
    assert {point for (point,) in rows(file, "SELECT point FROM holes")} >= {"before_train_iter", "after_train_iter"}


def test_a_run_that_begins_on_a_full_disk_is_written_down_when_there_is_room(
    start_script: Start, start_daemon: StartDaemon, small_disk: Path
) -> None:
    daemon = start_daemon(state=small_disk)
    filler = fill(small_disk)
    training = start_script(STEPS, daemon.address, "late", **LAUNCHED)
    assert said(training) == "attached"
    assert step(training, 100) == (99, 0)
    until("it is known", lambda: (one := incident(daemon, "late", "journal_stopped")) and one["open"])
    assert rank(daemon, "late")["acked"] == 0
    filler.unlink()
    until("all is acknowledged", lambda: (one := rank(daemon, "late"))["acked"] == one["events"] >= 200)
    until("the incident closes", lambda: not (incident(daemon, "late", "journal_stopped") or {"open": True})["open"])
    told(training)
    assert ended(training)[0] == 0
    file = small_disk / "late@L1.db"
    until("the end is written down", lambda: rows(file, "SELECT phase FROM attempts") == [("finished",)])
    assert whole(file, rows(file, "SELECT events FROM ranks")[0][0]) == 0


def test_a_daemon_that_is_started_again_on_a_full_disk_goes_on_with_the_run(
    start_script: Start, start_daemon: StartDaemon, small_disk: Path
) -> None:
    first = start_daemon(state=small_disk)
    file = small_disk / "again@L1.db"
    training = start_script(STEPS, first.address, "again", **LAUNCHED)
    assert said(training) == "attached"
    step(training, 100)
    until("the first hundred are acknowledged", lambda: (one := rank(first, "again"))["acked"] == one["events"] >= 200)
    filler = fill(small_disk)
    first.kill()
    second = start_daemon(socket=first.socket, state=small_disk)
    assert step(training, 100) == (199, 0)
    until("it goes on from what the first daemon counted", lambda: rank(second, "again")["events"] >= 400)
    filler.unlink()
    until("all is acknowledged", lambda: (one := rank(second, "again"))["acked"] == one["events"] >= 400)
    told(training)
    assert ended(training)[0] == 0
    until("the end is written down", lambda: rows(file, "SELECT phase FROM attempts") == [("finished",)])
    assert whole(file, rows(file, "SELECT events FROM ranks")[0][0]) == 0


# --- what goes


@pytest.mark.parametrize("limit", ["max_age_days = 0", "max_bytes = 0"])
def test_retention_removes_runs_that_are_over_and_never_one_that_is_under_way(
    limit: str, run_script: Run, start_script: Start, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    first = start_daemon(state=state)
    assert run_script(SHORT, first, **LAUNCHED).returncode == 0
    here = start_script(STEPS, first.address, "here", **LAUNCHED)
    assert said(here) == "attached"
    step(here, 10)
    other = start_daemon(state=state)
    there = start_script(STEPS, other.address, "there", **LAUNCHED)
    assert said(there) == "attached"
    step(there, 10)
    for daemon, name in ((first, "here"), (other, "there")):
        until(
            "they are written down",
            lambda daemon=daemon, name=name: (one := rank(daemon, name))["acked"] == one["events"] >= 20,
        )
    file = state / "short@L1.db"
    until("the end is written down", lambda: rows(file, "SELECT phase FROM attempts") == [("finished",)])
    first.kill()

    second = start_daemon(f"[journal]\n{limit}\n", socket=first.socket, state=state)
    until("the run that is over goes", lambda: not list(state.glob("short@*")))
    (line,) = lines(second.log.read_text(), "INFO", "a run's journal is removed")
    assert str(file) in line
    assert "short" not in operator(second, "runs").stdout
    for training, daemon, name in ((here, second, "here"), (there, other, "there")):
        at, _ = step(training, 10)
        assert at == 19
        until("it goes on", lambda daemon=daemon, name=name: rank(daemon, name)["position"]["iter"] == 19)
        told(training)
        code, _, err = ended(training)
        assert (code, err) == (0, "")
        of = state / f"{name}@L1.db"
        until("its end is written down", lambda of=of: rows(of, "SELECT phase FROM attempts") == [("finished",)])
        assert whole(of, rows(of, "SELECT events FROM ranks")[0][0]) == 0
