"""The demo is a test of its own: it ends with status 0 only if it has seen what it shows. And it can fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, binary, clean_environment

sys.path.insert(0, str(ROOT / "demo"))

from beside import NotSeen
from demo_mmengine import require_same_end, require_the_same, stop_part

pytestmark = pytest.mark.torch

Record = dict[str, Any]


def run_demo(binaries: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "demo" / "demo_mmengine.py"), "--bin", str(binaries)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=2 * PATIENCE_S, env=clean_environment(), check=False
    )


def test_the_demo_sees_what_it_shows() -> None:
    done = run_demo(binary("hookbus").parent)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("seen: ") == 3
    # it fits a terminal; paths are as long as they are
    assert [line for line in done.stdout.splitlines() if len(line) > 110 and "/" not in line] == []


def test_the_demo_names_what_it_did_not_see(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_an_order_that_reaches_nobody_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKBUSD", str(binary("hookbusd")))
    hookbus = tmp_path / "hookbus"
    hookbus.write_text("#!/bin/sh\necho order sent\n")
    hookbus.chmod(0o755)
    with pytest.raises(NotSeen, match="the operator's reason"):
        stop_part(hookbus, tmp_path, 12)


def records() -> list[Record]:
    """What the demo's ranks write, as much of it as is looked at."""
    return [
        {
            "iterations": [{"iter": i, "losses": {"loss": "0x1.8p+0"}, "lr": ["0x1.8p-5"]} for i in range(12)],
            "epochs": [{"epoch": epoch, "use_l1": epoch >= 2} for epoch in range(4)],
            "norms": [[i, "a", "b"] for i in (3, 6, 9, 12)],
            "checkpoints": {"epoch_4.pth": "c"},
            "weights": "d" * 64,
            "set_epoch": [0, 1, 2, 3],
            "stopped_at": [4, 12],
            "ended": None,
        }
        for _ in range(2)
    ]


def test_what_is_the_same_is_seen() -> None:
    assert "24 losses" in require_the_same(records(), records())[0]
    assert require_same_end(records()) == 12


Alter = Callable[[list[Record]], Any]


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (lambda ours: ours[1]["iterations"][7]["losses"].update(loss="0x1.9p+0"), "the same iterations on rank 1"),
        (lambda ours: ours[0]["iterations"][0].update(lr=["0x1.9p-5"]), "the same iterations on rank 0"),
        (lambda ours: ours[0]["epochs"][2].update(use_l1=False), "the same epochs on rank 0"),
        (lambda ours: ours[1].update(weights="e" * 64), "the same weights on rank 1"),
        (lambda ours: ours[1].update(stopped_at=[3, 9]), "the same stopped_at on rank 1"),
    ],
)
def test_what_is_not_the_same_is_not_seen(alter: Alter, says: str) -> None:
    ours = records()
    alter(ours)
    with pytest.raises(NotSeen, match=says):
        require_the_same(records(), ours)


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (lambda both: [record["epochs"][2].update(use_l1=False) for record in both], "the switch at epoch 2"),
        (lambda both: [record.update(set_epoch=[]) for record in both], "set_epoch with each epoch"),
        (lambda both: [record["norms"].append([0, "a", "a"]) for record in both], "averaged"),
        (lambda both: both[1].update(weights="e" * 64), "the same weights on all ranks"),
    ],
)
def test_hooks_that_do_nothing_in_either_training_are_not_seen(alter: Alter, says: str) -> None:
    theirs, ours = records(), records()
    alter(theirs)
    alter(ours)
    with pytest.raises(NotSeen, match=says):
        require_the_same(theirs, ours)


@pytest.mark.parametrize(
    "alter", [lambda ours: ours[1].update(stopped_at=[2, 7]), lambda ours: ours[1]["iterations"].pop()]
)
def test_ranks_that_end_apart_are_not_seen(alter: Alter) -> None:
    ours = records()
    alter(ours)
    with pytest.raises(NotSeen):
        require_same_end(ours)
