"""The demo is a test of its own: it ends with status 0 only if it has seen what it shows. And it can fail."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, binary, clean_environment

sys.path.insert(0, str(ROOT / "demo"))

from beside import NotSeen
from steering import FROM_ITER, RELEASED_AT_EPOCH, check, planned_rates

Done = subprocess.CompletedProcess  # of text


def run(*command: str, timeout_s: float = PATIENCE_S) -> Done[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=clean_environment())


def run_demo(binaries: Path) -> Done[str]:
    return run(sys.executable, str(ROOT / "demo" / "demo.py"), "--bin", str(binaries), timeout_s=120)


@pytest.fixture(scope="module")
def demo() -> Done[str]:
    """One run of the demo for all who look at it."""
    return run_demo(binary("hookbus").parent)


def test_the_demo_sees_what_it_shows(demo: Done[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "What was shown" in demo.stdout


def test_the_demo_fits_a_terminal(demo: Done[str]) -> None:
    # paths are as long as they are
    assert [line for line in demo.stdout.splitlines() if len(line) > 110 and "/" not in line] == []


def test_the_demo_names_what_it_did_not_see(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_what_the_demo_says_to_try_next_works(demo: Done[str]) -> None:
    indented = [line.strip() for line in demo.stdout.partition("Try next\n")[2].splitlines() if line[:4] == "    "]
    second = max(i for i, line in enumerate(indented) if line.startswith("export PATH="))
    path, orders = indented[second], [line for line in indented[second:] if line.startswith("hookbus ")]
    assert len(orders) >= 8
    training = subprocess.Popen(
        ["bash", "-ec", "\n".join(indented[:second])],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
        start_new_session=True,
    )
    assert training.stdout is not None
    try:
        address = training.stdout.readline().strip()
        assert training.stdout.readline().startswith("epoch 0: "), "it trains"
        for order in orders:
            # of what goes on until Ctrl-C the first line is enough
            first = " | head -1" if "Ctrl-C" in order else ""
            command = order.partition("#")[0] + first
            done = run("bash", "-ec", f"{path}\nexport HOOKBUS_ADDRESS={shlex.quote(address)}\n{command}")
            assert (done.returncode, done.stderr) == (0, ""), order
            assert done.stdout, order
        training.communicate(timeout=PATIENCE_S)
        assert training.returncode == 3, "an order stops it"
    finally:
        if training.poll() is None:
            os.killpg(training.pid, signal.SIGTERM)
            training.communicate()


STEERING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from steering import steering_part
steering_part(Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("""if [ "$1" = send ]; then echo 'error: nobody listens' >&2; exit 1; fi""", "nobody listens"),
        ("""set -- "${@/#0.5/0.25}" """, f"0.5 of the curve's learning rate at iteration {FROM_ITER}"),
        ("""set -- "${@/#6/5}" """, "0.5 of the curve's learning rate at iteration 220"),
        ("""set -- "${@/#150/1}" """, "iteration 1 has passed"),
    ],
    ids=["no orders", "another factor", "released early", "ordered late"],
)
def test_an_order_that_comes_out_otherwise_is_not_seen(tmp_path: Path, other: str, says: str) -> None:
    # an operator's binary that does something else; the training, which waits for the demo, must not be left behind
    hookbus = tmp_path / "hookbus"
    hookbus.write_text(f"""#!/bin/bash\n{other}\nexec {shlex.quote(str(binary("hookbus")))} "$@"\n""")
    hookbus.chmod(0o755)
    done = run(sys.executable, "-c", STEERING, str(ROOT / "demo"), str(hookbus), str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("beside.NotSeen: "), done.stderr
    assert says in done.stderr.splitlines()[-1]


def a_training() -> dict[str, Any]:
    """What the demo's steered training writes about itself, here by the plan."""
    hooks = [
        dict(type="YOLOXLrUpdaterHook", warmup_iters=1, warmup_ratio=1.0, num_last_epochs=1, min_lr_ratio=0.05),
        dict(type="SyncRandomSizeHook", ratio_range=[1, 2], interval=3),
        dict(type="YOLOXModeSwitchHook", num_last_epochs=2),
    ]
    trained = dict(hooks=hooks, lr=0.1, epochs=8, iters_per_epoch=44, seed=1)
    trained["trained_with"] = [
        dict(
            lr=rate * (0.5 if FROM_ITER <= i < RELEASED_AT_EPOCH * 44 else 1),
            epoch=i // 44,
            pixels=64 if 132 <= i < 264 else 32,
            steps=["RandomShift"] if i < 220 else [],
        )
        for i, rate in enumerate(planned_rates(trained))
    ]
    return trained


def the_record() -> list[dict[str, Any]]:
    """What the daemon has about it."""
    applied = [
        ("YOLOXLrUpdaterHook", "x", 0),
        ("SyncRandomSizeHook", "y", 0),
        ("SyncRandomSizeHook", "y/0", 132),
        ("an operator", "order-1", 150),
        ("YOLOXModeSwitchHook", "z", 220),
        ("SyncRandomSizeHook", "y/1", 264),
        ("an operator", "order-3", 264),
    ]
    return [dict(by=by, result=dict(id=id, outcome="applied", at=dict(iter=at))) for by, id, at in applied]


def test_what_was_planned_is_seen() -> None:
    assert "64 x 64 from epoch 3 on, 32 x 32 from epoch 6 on" in " ".join(
        check(a_training(), the_record(), ["order-1", "order-3"])
    )


def change(index: int, **values: object) -> Callable[[dict[str, Any], list[dict[str, Any]]], None]:
    return lambda trained, record: trained["trained_with"][index].update(values)


def result(index: int, **values: object) -> Callable[[dict[str, Any], list[dict[str, Any]]], None]:
    return lambda trained, record: record[index]["result"].update(values)


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (change(100, lr=0.08925925925925926), "the curve's learning rate at iteration 100"),
        (change(151, lr=0.06), "0.5 of the curve's learning rate at iteration 151"),
        (change(132, pixels=32), "64 pixels at iteration 132"),
        (change(220, steps=["RandomShift"]), "the augmentations [] at iteration 220"),
        (change(219, steps=[]), "the augmentations ['RandomShift'] at iteration 219"),
        (lambda trained, record: trained["trained_with"].pop(), "all 352 iterations"),
        (result(0, outcome="rejected"), "YOLOXLrUpdaterHook applied at iteration 0 (it has: rejected"),
        (result(2, at=dict(iter=176)), "SyncRandomSizeHook applied at iteration 0, applied at iteration 132"),
        (result(3, outcome="expired"), "order-1 applied at iteration 150"),
        (result(6, at=dict(iter=265)), "order-3 applied at iteration 264"),
        (lambda trained, record: record.pop(4), "YOLOXModeSwitchHook applied at iteration 220 (it has: nothing)"),
    ],
)
def test_what_is_not_as_planned_is_not_seen(alter: Callable[[Any, Any], None], says: str) -> None:
    trained, record = a_training(), the_record()
    alter(trained, record)
    with pytest.raises(NotSeen) as missing:
        check(trained, record, ["order-1", "order-3"])
    assert says in str(missing.value)
