"""What an adapter decides or carries out, put through what the genuine hooks were recorded to do, with real tensors,
models, loaders and Runners against the real daemon. Reads the directory named by HOOKBUS_ORACLE (default tests/oracle).

The Rust test of this name compares what the daemon decides; what is meant to differ is on the hooks' pages.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Daemon

PARTS = (
    "call_sequence",
    "check_invalid_loss",
    "num_class_check",
    "set_epoch_info",
    "sync_norm",
    "sync_random_size",
    "yolox_lr",
    "yolox_mode_switch",
)
pytest.register_assert_rewrite(*(f"parity_{name}" for name in PARTS))

import parity_call_sequence as call_sequence  # noqa: E402
import parity_check_invalid_loss as check_invalid_loss  # noqa: E402
import parity_num_class_check as num_class_check  # noqa: E402
import parity_set_epoch_info as set_epoch_info  # noqa: E402
import parity_sync_norm as sync_norm  # noqa: E402
import parity_sync_random_size as sync_random_size  # noqa: E402
import parity_yolox_lr as yolox_lr  # noqa: E402
import parity_yolox_mode_switch as yolox_mode_switch  # noqa: E402
from trainings import begun  # noqa: E402

pytestmark = pytest.mark.torch

Json = dict[str, Any]
Verdict = bool | tuple[str, str]  # it matches; or a file and kind of which a page says that they differ so
Decide = Callable[[Json, Daemon, Path], Verdict]
ORACLE = Path(os.environ.get("HOOKBUS_ORACLE", ROOT / "tests" / "oracle"))

# By file: kinds that are decided here, and by what.
HERE: dict[str, dict[str, Decide]] = {
    "call_sequence": {"*": call_sequence.decide},
    "check_invalid_loss": {"value": check_invalid_loss.decide, "not_a_tensor": check_invalid_loss.decide},
    "num_class_check": {"*": num_class_check.decide},
    "set_epoch_info": {"epochs": set_epoch_info.decide, "no_set_epoch": set_epoch_info.decide},
    "sync_random_size": {
        "default_device_cuda_on_cpu_host": sync_random_size.decide,
        "genuine_dataset": sync_random_size.decide,
    },
    "yolox_lr": {"*": yolox_lr.decide},
    "yolox_mode_switch": {
        "overridden_stages": yolox_mode_switch.stages,
        "real_dataloader": yolox_mode_switch.real_dataloader,
        **dict.fromkeys(
            (
                "switch_point",
                "default_config",
                "resume",
                "persistent",
                "persistent_not_exactly_true",
                "model_*",
                "skip_type_keys",
                "iter_based",
            ),
            yolox_mode_switch.decide,
        ),
    },
}

# Kinds that the daemon decides, all of it: the Rust test has them.
DAEMON: dict[str, tuple[str, ...]] = {
    "check_invalid_loss": ("seq_*",),
    "helpers": ("*",),
    "memory_profiler": ("*",),
    "sync_random_size": (
        "default",
        "interval",
        "interval_offset",
        "img_scale",
        "ratio_range",
        "ratio_none",
        "errors",
        "negative_interval",
        "other_random_use",
        "world*",
    ),
}


def cases(file: str) -> list[Json]:
    return json.loads((ORACLE / f"{file}.json").read_text()).get("cases", [])


def differences() -> list[tuple[str, str]]:
    """(file, kinds) of what the hooks' pages say is meant to differ."""
    found = []
    for page in (ROOT / "docs" / "hooks").glob("*Hook.md"):
        for file, kinds in re.findall(r"\| (\w+) ((?:`[^`]+`(?:, )?)+): [^|]+ \|$", page.read_text(), re.MULTILINE):
            found += [(file, kind) for kind in re.findall(r"`([^`]+)`", kinds)]
    assert found, "no page says that anything differs"
    return found


def is_said(file: str, kind: str) -> bool:
    return any(name == file and fnmatch.fnmatch(kind, pattern) for name, pattern in differences())


def decided_by(file: str, kind: str) -> Decide | str | None:
    for pattern, decide in HERE.get(file, {}).items():
        if fnmatch.fnmatch(kind, pattern):
            return decide
    if any(fnmatch.fnmatch(kind, pattern) for pattern in DAEMON.get(file, ())):
        return "daemon"
    return "ranks" if file == "sync_norm" else None


def print_row(*columns: object) -> None:
    name, *numbers = columns
    print(f"{name:<24}" + "".join(f"{number:>12}" for number in numbers))


def compare(file: str, decide_each: Callable[[Json], Verdict | str], capsys: pytest.CaptureFixture[str]) -> None:
    """Runs every case of a file, prints its row and fails with each case that does neither match nor differ as said."""
    tally: Counter[str] = Counter()
    failed = []
    for case in cases(file):
        try:
            matched = decide_each(case)
        except Exception as error:
            failed.append(f"{file} {case['name']}: {type(error).__name__}: {error}")
            continue
        if isinstance(matched, str):
            tally[matched] += 1
        elif matched is True:
            tally["matched"] += 1
        elif is_said(*(matched or (file, case["kind"]))):
            tally["differing"] += 1
        else:
            failed.append(f"{file} {case['name']}: it differs, and no hook's page says so of {case['kind']!r}")
    with capsys.disabled():
        print()
        print_row("file", "cases", "matched", "differing", "daemon's", "failed")
        print_row(file, len(cases(file)), tally["matched"], tally["differing"], tally["daemon"], len(failed))
    assert not failed, "\n".join(failed)
    assert sum(tally.values()) == len(cases(file)), "a case was dropped"


@pytest.mark.parametrize("file", sorted(HERE))
def test_the_recorded_cases(file: str, daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def decide(case: Json) -> Verdict | str:
        by = decided_by(file, case["kind"])
        assert by is not None, f"kind {case['kind']!r} is on no list"
        return by if isinstance(by, str) else by(case, daemon, tmp_path)

    compare(file, decide, capsys)


def test_that_every_kind_is_on_a_list() -> None:
    lost = [
        f"{path.stem} {case['name']}: kind {case['kind']!r} is on no list"
        for path in sorted(ORACLE.glob("*.json"))
        for case in cases(path.stem)
        if decided_by(path.stem, case["kind"]) is None
    ]
    assert not lost, "\n".join(lost)


def test_the_recorded_cases_of_several_ranks(
    start_daemon: Callable[..., Daemon], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon and a process for each rank, which goes through all cases of so many ranks."""
    daemons = [start_daemon() for _ in range(3)]
    sizes = sorted({case["input"]["world_size"] for case in cases("sync_norm")})
    assert sizes == [1, 2, 3]
    settings = {"file": str(ORACLE / "sync_norm.json")}
    with ExitStack() as stack:
        begin = {size: begun(tmp_path, settings, size, daemons, "norms.py") for size in sizes}
        trainings = {size: stack.enter_context(training) for size, training in begin.items()}
        went = {size: training.records() for size, training in trainings.items()}

    def decide(case: Json) -> bool:
        return sync_norm.decide(case, [rank[case["name"]] for rank in went[case["input"]["world_size"]]])

    compare("sync_norm", decide, capsys)
