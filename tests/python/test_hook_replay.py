"""A hook on a recorded run: the recording that ships, a folder of an export, and what cannot be read."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from own_hooks import HEAD, Load, load_text, offered

from hookbus.hooks._recording import SHIPPED, NoRecording, of_rows, read
from hookbus.hooks._replay import NOT_RECORDED, Replayed, replay

__all__ = ["load_text"]
CHECKS = """
    fields = ("loss",)
    gate = "!is_finite(loss)"
    every = "interval"
    def __init__(self, interval=10):
        self.interval = interval
    def after_train_iter(self, event, cx):
        cx.stop("loss become infinite or NaN!")
"""


def replayed(loaded: object, *requests: dict, recording: Path = SHIPPED) -> Replayed:
    found = offered(loaded, *requests)  # type: ignore[arg-type]
    assert not found.refused, found.refused
    return replay(read(recording), found.hooks, loaded.file)  # type: ignore[attr-defined]


def test_the_shipped_recording_has_a_plateau_and_a_nan() -> None:
    recording = read(SHIPPED)
    losses = [event.fields["loss"] for event in recording.events if event.point == "after_train_iter"]
    assert sum(map(math.isnan, losses)) == 9
    val = [event.fields["val_loss"] for event in recording.events if event.point == "after_val_epoch"]
    assert val[0] - val[3] > 1
    assert 0 < val[3] - val[9] < 0.02
    assert recording.attempts[0].facts["max_epochs"] == 14
    assert recording.attempts[0].facts["groups"] == [(0.5, "0")]
    assert [(then.hook, then.what, then.iter) for then in recording.then] == [("CheckInvalidLossHook", "stop", 99)]


def test_a_hook_that_decides_alike_is_the_same(load_text: Load) -> None:
    loaded = load_text(HEAD + CHECKS)
    out = replayed(loaded, dict(type="Own", name="CheckInvalidLossHook"))
    (decided,) = out.decided
    assert (decided.which, decided.what, decided.iter, decided.point) == ("same", "stop", 99, "after_train_iter")
    assert (decided.text, decided.then.split(" (")[0]) == ("loss become infinite or NaN!",) * 2
    assert out.calls == {"CheckInvalidLossHook": 1}, "a gate that does not hold calls nobody"


def test_a_hook_that_decides_otherwise_shows_both(load_text: Load) -> None:
    loaded = load_text(HEAD + CHECKS)
    out = replayed(loaded, dict(type="Own", name="CheckInvalidLossHook", interval=1))
    assert [(each.which, each.iter) for each in out.decided] == [("only now", 91), ("only then", 99)]
    assert out.after_stop == {"CheckInvalidLossHook": 8}
    out = replayed(loaded, dict(type="Own", interval=1))
    assert [(each.which, each.iter) for each in out.decided] == [("only now", 91)], "another name is another hook"


def test_only_what_is_due_comes_with_what_was_asked_for(load_text: Load) -> None:
    loaded = load_text(
        HEAD
        + '    fields = ("loss", "accuracy")\n    memory = True\n    every = {"after_train_iter": 4}\n    seen = []\n'
        "    def after_train_iter(self, event, cx):\n        self.seen.append((event, cx))\n"
        "    def before_train(self, event, cx):\n        self.seen.append((event, cx))\n"
    )
    out = replayed(loaded)
    seen = loaded.module.Own.seen
    assert [event.iter for event, _ in seen[1:]] == list(range(3, 100, 4))
    assert out.calls == {"Own": 26}
    assert seen[0][0].point == "before_train"
    assert all(list(event) == ["loss"] and event.unknown == {"accuracy": NOT_RECORDED} for event, _ in seen[1:])
    assert seen[-1][1].memory["host_total_bytes"].value > 1 << 30
    assert 0 <= seen[-1][1].memory["host_total_bytes"].age_s < 60
    assert seen[-1][1].run.iters_per_epoch == 9


def test_a_hook_that_raises_is_told_with_its_line(load_text: Load) -> None:
    loaded = load_text(HEAD + "    every = 50\n    def after_train_iter(self, event, cx):\n        event['loss']\n")
    out = replayed(loaded)
    assert [(each.iter, each.point) for each in out.raised] == [(49, "after_train_iter"), (99, "after_train_iter")]
    assert out.raised[0].error.startswith("KeyError: this event has no 'loss'; it has: nothing")
    assert out.raised[0].error.endswith("(my_hooks.py:8)")


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hookbus.replaying", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


def test_the_line_for_people_and_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "my_hooks.py"
    file.write_text(HEAD + CHECKS + "        print('not part of the answer')\n")
    hook = "Own(name='CheckInvalidLossHook', interval=1)"
    done = run("my_hooks.py", "--hook", hook, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [
        "digits@recorded: 1 attempt, 269 events",
        "only now   epoch 10, iteration 91, after_train_iter  CheckInvalidLossHook  stop: loss become infinite or NaN!",
        "only then  epoch 11, iteration 99, after_train_iter  CheckInvalidLossHook  stop: loss become infinite or NaN! "
        "(loss NaN, at iteration 99, epoch 11)",
    ]
    assert done.stderr == "not part of the answer\n"
    told = json.loads(run("my_hooks.py", "--hook", hook, "--json", cwd=tmp_path).stdout)
    assert [(each["which"], each["iter"]) for each in told["decisions"]] == [("only now", 91), ("only then", 99)]
    assert told["hooks"] == [
        {
            "name": "CheckInvalidLossHook",
            "type": "Own",
            "args": {"interval": 1},
            "points": ["after_train_iter"],
            "calls": 1,
            "due_after_its_stop": 8,
        }
    ]


def test_what_is_wrong_is_one_line_and_a_status(tmp_path: Path) -> None:
    (tmp_path / "my_hooks.py").write_text(HEAD + CHECKS)
    (tmp_path / "none.py").write_text("import hookbus\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "hooks.toml").write_text("[[hooks]]\ntype = 'Own'\nmodule = 'others'\n")
    table = [
        (["my_hooks.py", "--recording", "none"], 1, "none cannot be read: No such file or directory"),
        (["my_hooks.py", "--recording", "my_hooks.py"], 1, "my_hooks.py:1 is no JSON"),
        (["none.py"], 1, "none.py has no hook"),
        (["nowhere.py"], 1, "there is no file nowhere.py"),
        (["my_hooks.py", "--hook", "Own(10)"], 2, "write it as TYPE or TYPE(ARG=VALUE, ...)"),
        (["my_hooks.py", "--hook", "Own(interval=f())"], 2, "write it as TYPE"),
        (["my_hooks.py", "--hook", "Own(interval={1})"], 2, "write it as TYPE"),
        (["my_hooks.py", "--hook", "Own(interval=9223372036854775808)"], 2, "write it as TYPE"),
        (["my_hooks.py", "--hook", "Own(type='Own')"], 2, "write it as TYPE"),
        (["my_hooks.py", "--recording", "bytes"], 1, "bytes is no text in UTF-8"),
        (["."], 1, ". is no name of a module: letters, digits and _; a file ends in .py"),
        (["json.py"], 1, "json.py would stand before Python's own module json: give it another name"),
        (["my-hooks.py"], 1, "my-hooks.py is no name of a module"),
        (["my_hooks.py", "--hooks", "hooks.toml"], 2, 'hooks.toml has no [[hooks]] with module = "my_hooks"'),
    ]
    for words, status, text in table:
        done = run(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (status, ""), words
        assert text in done.stderr
        assert done.stderr.count("\n") == 1
    done = run("my_hooks.py", "--hook", "Own(intervall=1)", cwd=tmp_path)
    assert done.returncode == 1
    assert "refused: hook Own: its arguments do not fit" in done.stdout


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML since 3.11")
def test_hooks_of_a_toml_file_are_those_of_the_module(tmp_path: Path) -> None:
    (tmp_path / "my_hooks.py").write_text(HEAD + CHECKS)
    (tmp_path / "hooks.toml").write_text(
        "[[hooks]]\ntype = 'Own'\nmodule = 'my_hooks'\nname = 'first'\ninterval = 1\n"
        "[[hooks]]\ntype = 'Own'\nmodule = 'others'\n[[hooks]]\ntype = 'Own'\n"
    )
    told = json.loads(run("my_hooks.py", "--hooks", "hooks.toml", "--json", cwd=tmp_path).stdout)
    assert [(each["name"], each["args"]) for each in told["hooks"]] == [("first", {"interval": 1})]


def test_a_folder_of_an_export_is_read_alike(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in SHIPPED.read_text().splitlines()]
    for table in {row["table"] for row in rows}:
        lines = [json.dumps({k: v for k, v in row.items() if k != "table"}) for row in rows if row["table"] == table]
        (tmp_path / f"{table}.ndjson").write_text("\n".join(lines) + "\n")
    here, there = read(tmp_path), read(SHIPPED)
    assert here.attempts == there.attempts
    assert here.then == there.then
    assert [event[:8] for event in here.events] == [event[:8] for event in there.events]
    (tmp_path / "log.ndjson").unlink()
    with pytest.raises(NoRecording, match=r"there is no log.ndjson in .*: hookbus export RUN --ndjson"):
        read(tmp_path)


def test_attempts_and_ranks_of_a_recording_stay_apart(load_text: Load) -> None:
    rows: list[dict] = [{"table": "run", "name": "r", "launch": "1"}, {"table": "more", "x": 1}]
    at = {"epoch": 0, "inner_iter": 0, "rss_bytes": None, "point": "after_train_iter"}
    seq = 0
    for attempt in (0, 1):
        rows.append({"table": "attempts", "attempt": attempt, "world_size": 2, "facts": None})
        for iter in (0, 1):
            for rank in (0, 1):
                seq += 1
                who = {"attempt": attempt, "rank": rank, "seq": seq, "iter": iter, "time_unix_s": float(seq), **at}
                rows.append({"table": "events", **who})
                value = {"metric": "loss", "value": "Infinity", "unknown": None}
                rows.append({"table": "metrics", **who, **value})
    where = {"rank": 1, "kind": "decision", "what": "stop", "who": "Own", "text": "then", "point": "after_train_iter"}
    rows.append({"table": "log", "attempt": 1, "epoch": 0, "iter": 0, "inner_iter": 0, **where})
    loaded = load_text(HEAD + CHECKS)
    found = offered(loaded, dict(type="Own", interval=1))
    out = replay(of_rows(rows, "here"), found.hooks, loaded.file)
    told = [(each.which, each.attempt, each.rank, each.iter) for each in out.decided]
    assert told == [("only now", 0, 0, 0), ("only now", 1, 0, 0), ("only then", 1, 1, 0)]
    with pytest.raises(NoRecording, match=r"here has a row that is not as docs/journal\.md says: KeyError"):
        of_rows([*rows, {"table": "events"}], "here")
    with pytest.raises(NoRecording, match="no attempt"):
        of_rows(rows[:1], "here")
