"""A recorded run: lines of JSON, each a row of a journal's table with the table's name in "table".

`hookbus hooks test --replay RUN` makes such lines of a run's journal; a folder of `hookbus export RUN --ndjson` is read
too, and a file of them ships with this package. docs/journal.md has the tables.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

Row: TypeAlias = Mapping[str, Any]

TABLES = ("run", "attempts", "events", "metrics", "samples", "log")
"""What a replay reads; any other table is passed over."""
SHIPPED = Path(__file__).with_name("digits.ndjson")
"""A training on handwritten digits: its validation loss reaches a plateau, and then its loss becomes NaN."""


class NoRecording(Exception):
    """What cannot be read; the text says where and why."""


class Happened(NamedTuple):
    """An event as it was recorded."""

    attempt: int
    rank: int
    seq: int
    time_unix_s: float
    point: str
    epoch: int
    iter: int
    inner_iter: int
    rss_bytes: int | None
    fields: dict[str, float]
    unknown: dict[str, str]


class Sample(NamedTuple):
    """One reading of memory as it was recorded."""

    time_unix_s: float
    rank: int | None
    device: int | None
    name: str
    value: float | None
    unknown: str
    source: str


class Then(NamedTuple):
    """What a hook decided in that run."""

    attempt: int
    rank: int | None
    hook: str
    what: str
    point: str | None
    epoch: int | None
    iter: int | None
    inner_iter: int | None
    text: str


class Attempt(NamedTuple):
    """One start of the run."""

    number: int
    world_size: int
    facts: dict[str, object]


class Recording(NamedTuple):
    """A run, whole."""

    name: str
    run_id: str
    attempts: list[Attempt]
    events: list[Happened]
    """In the order of attempts and times."""
    samples: dict[int, list[Sample]]
    """By attempt, in the order of times."""
    then: list[Then]


def read(path: Path) -> Recording:
    """From a file of lines, "-" for standard input, or a folder of an export. Raises NoRecording."""
    try:
        rows = list(_folder(path) if path.is_dir() else _lines(path, None))
    except OSError as error:
        raise NoRecording(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise NoRecording(f"{path} is no text in UTF-8: {error}") from None
    return of_rows(rows, str(path))


def _folder(path: Path) -> Iterator[Row]:
    for table in TABLES:
        file = path / f"{table}.ndjson"
        if not file.exists():
            raise NoRecording(f"there is no {table}.ndjson in {path}: hookbus export RUN --ndjson {path}")
        yield from _lines(file, table)


def _lines(path: Path, table: str | None) -> Iterator[Row]:
    with sys.stdin if str(path) == "-" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise NoRecording(f"{path}:{number} is no JSON: {error}") from None
            if not isinstance(row, dict) or (table is None and not isinstance(row.get("table"), str)):
                raise NoRecording(f'{path}:{number} is no row of a table: an object with "table"')
            yield row if table is None else {**row, "table": table}


def of_rows(rows: Iterable[Row], where: str) -> Recording:
    """From the rows of the tables, in any order. Raises NoRecording."""
    tables: dict[str, list[Row]] = {table: [] for table in TABLES}
    for row in rows:
        tables.get(row["table"], []).append(row)
    try:
        return _recording(tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NoRecording(f"{where} has a row that is not as docs/journal.md says: {error!r}") from None


def _recording(tables: dict[str, list[Row]]) -> Recording:
    run = tables["run"][0] if tables["run"] else {"name": "", "launch": ""}
    attempts = [_attempt(row) for row in sorted(tables["attempts"], key=lambda row: row["attempt"])]
    if not attempts:
        raise NoRecording("the recording has no attempt: nothing was recorded of this run")
    events = {(row["attempt"], row["rank"], row["seq"]): _happened(row) for row in tables["events"]}
    for row in tables["metrics"]:
        event = events.get((row["attempt"], row["rank"], row["seq"]))
        if event is None:
            continue
        if row["value"] is None and row["unknown"] is not None:
            event.unknown[row["metric"]] = row["unknown"]
        else:
            event.fields[row["metric"]] = _number(row["value"])
    samples: dict[int, list[Sample]] = {attempt.number: [] for attempt in attempts}
    for row in sorted(tables["samples"], key=lambda row: row["time_unix_s"]):
        samples.setdefault(row["attempt"], []).append(_sample(row))
    in_order = sorted(events.values(), key=lambda event: (event.attempt, event.time_unix_s, event.rank, event.seq))
    name = str(run["name"])
    then = [_then(row) for row in tables["log"] if row["kind"] == "decision"]
    return Recording(name, f"{name}@{run['launch']}", attempts, in_order, samples, then)


def _number(value: object) -> float:
    """NULL without a reason is a NaN; infinities are words."""
    if value is None:
        return math.nan
    return float(value)  # type: ignore[arg-type]


def _attempt(row: Row) -> Attempt:
    said = json.loads(row["facts"]) if row["facts"] else {}
    facts: dict[str, object] = {name: value for name, value in said.items() if value is not None}
    if isinstance(said.get("groups"), list):
        facts["groups"] = [(group["base_lr"], group["name"]) for group in said["groups"]]
    if "own_scheduler" in facts:
        facts["scheduler"], facts["own_scheduler"] = facts["own_scheduler"], True
    return Attempt(row["attempt"], row["world_size"] or 1, facts)


def _happened(row: Row) -> Happened:
    at = (row["epoch"], row["iter"], row["inner_iter"])
    who = (row["attempt"], row["rank"], row["seq"])
    return Happened(*who, row["time_unix_s"], row["point"], *at, row["rss_bytes"], {}, {})


def _sample(row: Row) -> Sample:
    value = None if row["value"] is None else _number(row["value"])
    about = (row["rank"], row["device"], row["name"])
    return Sample(row["time_unix_s"], *about, value, row["unknown"] or "", row["source"] or "")


OVERRULED = re.compile(r"(\w+) is decided by .* here; it was: (.*)", re.S)


def _then(row: Row) -> Then:
    """A decision that its policy withheld, or that another hook's overruled, is a decision too."""
    at = (row["point"] or None, row["epoch"], row["iter"], row["inner_iter"])
    what, text = row["what"].removeprefix("would "), row["text"] or ""
    overruled = OVERRULED.fullmatch(text) if what == "overruled" else None
    if overruled is not None:
        what, text = overruled[1], overruled[2]
    return Then(row["attempt"], row["rank"], row["who"] or "", what, *at, text)
