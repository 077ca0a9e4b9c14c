"""docs/journal.md against the file of a real training: every block is run, and every column is there, both ways."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import PATIENCE_S, ROOT, Daemon, binary, clean_environment, ended, operator, said, told

PAGE = (ROOT / "docs/journal.md").read_text()
RUN, LAUNCH = "digits", "4711"
FILE = f"{RUN}@{LAUNCH}.db"  # as the page calls it
MIB = 1 << 20
Row = tuple[Any, ...]

# A softmax regression that learns. Its second epoch has a child of 64 MiB and an operator's order, its third needs
# 128 MiB more and meets images that are NaN. It writes down what the journal must have.
TRAINING = """
import json, resource, sqlite3, subprocess, sys, time
import numpy as np
from sklearn.datasets import load_digits
import hookbus

journal, told = sys.argv[1:]
EPOCHS, ITERS, BATCH, MIB = 3, 20, 64, 1 << 20
CHILD = "import sys; held = b'x' * (64 << 20); print('held', flush=True); sys.stdin.read()"
SEEN = [("process_rss_bytes", 1), ("children_rss_bytes", 64 * MIB), ("process_rss_bytes", 128 * MIB)]

def until_sampled(epoch, name, least):
    # the file can be read while the daemon writes it
    until = time.monotonic() + 60
    sql = "SELECT count(*) FROM samples WHERE epoch = ? AND name = ? AND value >= ?"
    while not sqlite3.connect(f"file:{journal}?mode=ro", uri=True).execute(sql, (epoch, name, least)).fetchone()[0]:
        if time.monotonic() > until:
            sys.exit(f"no sample {name} of at least {least} in epoch {epoch}")
        time.sleep(0.01)

class Optimizer:
    param_groups = [{"lr": 0.5}]

digits = load_digits()
images, labels = digits.data / 16, np.eye(10)[digits.target]
weights, optimizer, wrote = np.zeros((64, 10)), Optimizer(), []
hooks = [dict(type="CheckInvalidLossHook", interval=10)]
with hookbus.attach("digits", hooks=hooks, max_epochs=EPOCHS, iters_per_epoch=ITERS) as bus:
    bus.bind(optimizer=optimizer)
    try:
        for epoch in bus.epochs():
            optimizer.param_groups[0]["lr"] = 0.5 / (1 + epoch)
            if epoch == 1:
                print("epoch 1", flush=True)
                input()
            for inner in bus.iters(range(ITERS)):
                at = epoch * ITERS + inner
                if (epoch, inner) == (1, 5):
                    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1)
                    child.stdout.readline()
                if (epoch, inner) == (2, 5):
                    more = np.ones(128 * MIB // 8)
                if inner == 10:
                    until_sampled(epoch, *SEEN[epoch])
                if (epoch, inner) == (1, 15):
                    child.communicate()
                rows = slice(at * BATCH % 1500, at * BATCH % 1500 + BATCH)
                x = images[rows] * (np.nan if at >= 55 else 1)
                logits = x @ weights
                p = np.exp(logits - logits.max(1, keepdims=True))
                p /= p.sum(1, keepdims=True)
                loss = float(-np.log((p * labels[rows]).sum(1)).mean())
                lr = optimizer.param_groups[0]["lr"]
                weights -= lr * x.T @ (p - labels[rows]) / BATCH
                wrote.append(dict(epoch=epoch, iter=at, inner_iter=inner, loss=loss, lr=lr, before=time.monotonic()))
                try:
                    bus.report(loss=loss)
                finally:
                    wrote[-1]["after"] = time.monotonic()
    except hookbus.TrainingStopped as stop:
        reason = str(stop)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with open(told, "w") as out:
    json.dump(dict(iters=wrote, reason=reason.strip(), peak_bytes=peak), out)
"""


class Recorded:
    """A training that is over, its daemon still there, and its file."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.state = daemon.state
        self.file = daemon.state / FILE
        wrote = json.loads((folder / "told").read_text())
        self.iters: list[dict[str, Any]] = wrote["iters"]
        self.reason: str = wrote["reason"]
        self.peak_bytes: int = wrote["peak_bytes"]

    def rows(self, sql: str) -> list[Row]:
        with contextlib.closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as file:
            return file.execute(sql).fetchall()

    def loss(self, at: int) -> float | None:
        """As a file without NaN has it."""
        loss = self.iters[at]["loss"]
        return None if math.isnan(loss) else loss


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        folder = Path(name)
        daemon = Daemon(folder, "[journal]\nsample_ms = 100\n")
        try:
            training_of(daemon, folder)
            yield Recorded(daemon, folder)
        finally:
            daemon.kill()


def training_of(daemon: Daemon, folder: Path) -> None:
    (folder / "train.py").write_text(TRAINING)
    environment = clean_environment(HOOKBUS_ADDRESS=daemon.address, HOOKBUS_RUN=RUN, HOOKBUS_LAUNCH=LAUNCH)
    training = subprocess.Popen(
        [sys.executable, str(folder / "train.py"), str(daemon.state / FILE), str(folder / "told")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert said(training) == "epoch 1"
        order = [*operator.command(daemon), "send", RUN, "lr", "--scale", "0.5"]
        with subprocess.Popen(
            order, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as sent:
            until(lambda: count(daemon.state / FILE, "states"), "the order is taken")
            told(training)
            code, _, err = ended(training)
            assert code == 0, err
            assert sent.wait(PATIENCE_S) == 0, sent.stdout and sent.stdout.read()
    finally:
        training.kill()
    until(lambda: count(daemon.state / FILE, "attempts WHERE phase = 'stopped'"), "the end is written down")


def count(file: Path, of: str) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal:
        return int(journal.execute(f"SELECT count(*) FROM {of}").fetchone()[0])


def until(fact: Callable[[], object], what: str) -> None:
    """Asks until it is so; the wait is the test's patience, never its meaning."""
    patience = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < patience, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.02)


# --- the page's blocks


def section(title: str) -> str:
    """What is under a heading, up to the next one of its rank or a higher one."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", PAGE, re.M | re.S)
    assert found is not None, title
    return found[2]


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.M | re.S)


def with_python(title: str) -> list[Row]:
    sqlite, duck = blocks(title, "sql")
    assert ".parquet'" not in sqlite
    assert ".parquet'" in duck
    with contextlib.closing(sqlite3.connect(f"file:{FILE}?mode=ro", uri=True)) as file:
        return file.execute(sqlite).fetchall()


def with_sqlite3(title: str) -> list[Row]:
    if shutil.which("sqlite3") is None:
        pytest.skip("there is no program sqlite3")
    command = ["sqlite3", "-readonly", "-json", FILE]
    done = subprocess.run(command, input=blocks(title, "sql")[0], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    return [tuple(row.values()) for row in json.loads(done.stdout)]


def with_pandas(title: str) -> list[Row]:
    (opening,), (reading,) = blocks("Open it", "python"), blocks(title, "python")
    shown: list[Any] = []
    names: dict[str, Any] = {"print": shown.append}
    exec(opening + reading, names)
    names["journal"].close()
    (frame,) = shown
    missing = frame.isna()
    values = zip(frame.itertuples(index=False), missing.itertuples(index=False), strict=True)
    return [tuple(None if none else value for value, none in zip(*row, strict=True)) for row in values]


def with_duckdb(title: str) -> list[Row]:
    return duckdb.sql(blocks(title, "sql")[1]).fetchall()


@pytest.fixture(scope="module")
def exported(recorded: Recorded) -> Path:
    """What the page's own line leaves in out/."""
    (commands,) = blocks("Open it", "sh")
    line = next(line for line in commands.splitlines() if line.startswith("hookbus export"))
    hookbus, *words = line.split()
    assert hookbus == "hookbus"
    done = subprocess.run(
        [*operator.command(recorded.daemon), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=recorded.state,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    return recorded.state / words[-1]


ways = pytest.mark.parametrize("way", [with_python, with_sqlite3, with_pandas, with_duckdb])


@pytest.fixture
def rows_of(
    way: Callable[[str], list[Row]], recorded: Recorded, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[Row]]:
    """The rows that a section's block for this reader gives, in the folder in which the page says to run it."""
    if way is with_duckdb:
        request.getfixturevalue("exported")
    monkeypatch.chdir(recorded.state)
    return way


def same(value: float | None) -> object:
    """As far as sqlite3 prints it: 15 digits."""
    return None if value is None else pytest.approx(value, rel=1e-14, abs=0)


@ways
def test_loss_and_learning_rate_are_what_the_training_wrote_down(
    rows_of: Callable[[str], list[Row]], recorded: Recorded
) -> None:
    rows = rows_of("Loss and learning rate by iteration")
    told = recorded.iters
    assert [row[:4] for row in rows] == [(0, 0, one["epoch"], one["iter"]) for one in told]
    assert [row[4] for row in rows] == [same(recorded.loss(one["iter"])) for one in told]
    assert [row[5] for row in rows] == [same(one["lr"]) for one in told]
    assert {row[5] for row in rows[20:25]} == {0.125}, "an operator's order halves it from the second epoch on"
    for epoch in range(3):
        finite = [one["loss"] for one in told if one["epoch"] == epoch and math.isfinite(one["loss"])]
        means = [row[6] for row in rows if row[2] == epoch]
        assert means == [pytest.approx(sum(finite) / len(finite))] * 20
    assert [row[4] for row in rows[-5:]] == [None] * 5, "they were NaN"


@ways
def test_step_times_are_the_trainings_own_and_the_slowest_come_first(
    rows_of: Callable[[str], list[Row]], recorded: Recorded
) -> None:
    rows = rows_of("The slowest iterations")
    assert len(rows) == 10
    tick = 2e-6  # the file has microseconds
    least, most = {}, {}
    for last, one in zip(recorded.iters, recorded.iters[1:], strict=False):
        least[one["iter"]] = one["before"] - last["after"] - tick
        most[one["iter"]] = one["after"] - last["before"] + tick
    for attempt, rank, epoch, at, inner_iter, step_s in rows:
        assert (attempt, rank, epoch, inner_iter) == (0, 0, at // 20, at % 20)
        assert least[at] <= step_s <= most[at]
    steps = [row[5] for row in rows]
    assert steps == sorted(steps, reverse=True)
    shown = {row[3] for row in rows}
    assert len(shown) == 10
    assert all(least[at] <= steps[-1] for at in set(least) - shown), "none is slower that is not shown"


@ways
def test_memory_by_epoch_is_the_trainings_own_beside_what_happened(
    rows_of: Callable[[str], list[Row]], recorded: Recorded
) -> None:
    rows = rows_of("Memory by epoch, and what happened then")
    assert [row[:3] for row in rows] == [(0, 0, epoch) for epoch in range(3)]
    main, children, happened = ([row[at] for row in rows] for at in (3, 4, 5))
    assert main[2] >= main[0] + 100, "the third epoch took 128 MiB more"
    assert all(0 < mib <= recorded.peak_bytes / MIB + 4 for mib in main), "no more than the kernel's own peak"
    assert 64 <= children[1] < 128, "a child with 64 MiB, and the Python around it"
    assert children[0] == 0, "there was no child, which is known"
    assert happened[:2] == [None, None]
    assert recorded.reason.split("!")[0] in happened[2]
    assert re.fullmatch(r"stop: loss become .*; invalid_loss: loss become .*", happened[2]), happened[2]


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="there is no program sqlite3")
def test_the_commands_to_open_it_work(recorded: Recorded, tmp_path: Path) -> None:
    (commands,) = blocks("Open it", "sh")
    cd, *lines = [line.replace("/tmp/", f"{tmp_path}/") for line in commands.splitlines()]
    assert cd == "cd ~/.local/state/hookbus"
    lines = [line for line in lines if line.startswith("sqlite3 ")]
    done = [
        subprocess.run(line, shell=True, capture_output=True, text=True, timeout=PATIENCE_S, cwd=recorded.state)
        for line in lines
    ]
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 2
    assert recorded.reason.split("!")[0] in done[0].stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "digits.db")) as copy:
        assert copy.execute("SELECT count(*) FROM events").fetchall() == recorded.rows("SELECT count(*) FROM events")


# --- the page's tables


def documented() -> dict[str, list[str]]:
    """table -> its columns, as the page has them."""
    tables = re.findall(r"^### `(\w+)`\n(.*?)(?=^### |\Z)", PAGE, re.M | re.S)
    cells = {name: re.findall(r"^\| (`.*?) \| ", text, re.M) for name, text in tables}
    return {name: re.findall(r"`(\w+)`", " ".join(columns)) for name, columns in cells.items()}


def test_the_documented_tables_and_columns_are_those_of_the_file(recorded: Recorded) -> None:
    for name, columns in documented().items():
        there = [row[1] for row in recorded.rows(f"PRAGMA table_info({name})")]
        assert sorted(columns) == sorted(there), name
    rest = re.search(r"^The rest of the file is .*\Z", PAGE, re.M | re.S)
    assert rest is not None
    named = set(re.findall(r"`(\w+)`", rest[0])) | set(documented())
    there = {row[0] for row in recorded.rows("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")}
    assert there == named


def test_the_exported_files_are_the_documented_tables_with_the_same_rows(recorded: Recorded, exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == sorted(f"{name}.parquet" for name in documented())
    for name in documented():
        columns = [row[1] for row in recorded.rows(f"PRAGMA table_info({name})")]
        parquet = duckdb.sql(f"FROM '{exported / name}.parquet'")
        assert parquet.columns == columns, name
        key = repr
        assert sorted(parquet.fetchall(), key=key) == sorted(recorded.rows(f"SELECT * FROM {name}"), key=key), name


def test_the_words_and_numbers_of_the_page_are_in_the_file(recorded: Recorded) -> None:
    """What a reader would look for by name."""
    names = {row[0] for row in recorded.rows("SELECT DISTINCT name FROM samples WHERE name NOT LIKE 'gpu%'")}
    assert names == set(
        re.findall(r"`((?:process|children|workers|tree|cgroup|shm|host|swap)_\w+)`", section("`samples`"))
    )
    assert recorded.rows("SELECT name || '@' || launch FROM run") == [(f"{RUN}@{LAUNCH}",)]
    assert recorded.rows("SELECT count(*), count(value) FROM metrics WHERE metric = 'loss'") == [(60, 55)]
    assert recorded.rows("SELECT DISTINCT unknown FROM metrics") == [(None,)]
    ((last,),) = recorded.rows("SELECT last FROM ranks")
    assert json.loads(last)["loss"] == "NaN"
    ((first, most, number, settled),) = recorded.rows(
        "SELECT min(e.seq), max(e.seq), count(*), max(settled) FROM events e JOIN ranks USING (attempt, rank)"
    )
    assert first == 1
    assert most == number == settled, "without gaps, for nothing was dropped"
    ((began, over, attached, left),) = recorded.rows(
        "SELECT started_unix_us / 1e6, ended_unix_us / 1e6, attached_unix_s, ended_unix_s FROM attempts JOIN ranks"
    )
    assert began <= attached <= left <= over + 1e-3
    assert abs(time.time() - over) < 10 * PATIENCE_S
    assert recorded.rows("SELECT what, who, outcome, old, new FROM results ORDER BY time_unix_s")[0][0::2] == (
        "lr",
        "applied",
        "0.125",
    )
    ids = "SELECT count(*) FROM {} d JOIN results r USING (attempt, id)"
    for table in ("decisions", "states"):
        assert recorded.rows(ids.format(table)) == [(1,)], table
    assert recorded.rows("SELECT kind, change FROM incidents") == [("invalid_loss", "opened")]


def test_the_page_names_commands_and_keys_that_there_are() -> None:
    config = subprocess.run([binary("hookbusd"), "--print-config"], capture_output=True, text=True, check=True).stdout
    keys = re.search(r"^\[journal\]\n(.*?)^$", config + "\n", re.M | re.S)
    assert keys is not None
    defaults = dict(re.findall(r"^(\w+) = (.*)$", keys[1], re.M))
    assert set(re.findall(r"`journal\.(\w+)", PAGE)) == set(defaults)
    assert defaults["max_age_days"] == "30"
    assert defaults["max_bytes"] == str(10 << 30)
    assert defaults["sample_ms"] == "10000"
    help_text = subprocess.run([binary("hookbusd"), "--help"], capture_output=True, text=True, check=True).stdout
    for flag in re.findall(r"`hookbusd (--[\w-]+)", PAGE):
        assert flag in help_text, flag
