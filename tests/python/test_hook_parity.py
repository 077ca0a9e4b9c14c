"""One recorded run, and the same hooks as classes in Python, in Rust and as a rule: each decides as the others do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import PATIENCE_S, Daemon, Start, binary, clean_environment, ended, said
from test_hook_guide import CHECK, PLATEAU
from test_own_hooks import until

import hookbus

RECORDING = Path(hookbus.__file__).parent / "hooks" / "digits.ndjson"
# All see the whole run: none of them stops it. A loaded machine may be slow to answer a gate.
CONFIG = """
[providers]
python = "PYTHON"

[[hooks]]
type = "CheckInvalidLossHook"
name = "check in Rust"
policy = "observe"
interval = 4

[[hooks]]
type = "CheckInvalidLossHook"
module = "my_hooks"
name = "check in Python"
policy = "observe"
interval = 4

[[hooks]]
type = "Rule"
name = "check as a rule"
policy = "observe"
at = "after_train_iter"
every = 4
gate = true
when = "!is_finite(loss)"
do = "stop('loss become infinite or NaN!')"
otherwise = "stop"

[[hooks]]
type = "ReduceOnPlateau"
name = "plateau in Rust"
policy = "observe"
patience = 2
min_delta = 0.02

[[hooks]]
type = "ReduceOnPlateau"
module = "plateau"
name = "plateau in Python"
policy = "observe"
patience = 2
min_delta = 0.02
"""
TRAIN = """
import json, sys, hookbus
recorded = json.loads(open(sys.argv[1]).read())
with hookbus.attach("digits", max_epochs=len(recorded), iters_per_epoch=9) as bus:
    for epoch in bus.epochs():
        losses, val_loss = recorded[epoch]
        for loss in bus.iters(losses):
            bus.report(loss=loss)
        bus.event("after_val_epoch", val_loss=val_loss)
    print("trained", flush=True)
    sys.stdin.readline()
"""


def recorded() -> list[tuple[list[float], float]]:
    """Of each epoch its losses, and its validation's."""
    rows = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    found = [
        (row["epoch"], row["point"], math.nan if row["value"] is None else row["value"])
        for row in rows
        if row["table"] == "metrics" and row["metric"] in ("loss", "val_loss")
    ]
    epochs = 1 + max(epoch for epoch, _, _ in found)
    losses = [
        [value for at, point, value in found if (at, point) == (epoch, "after_train_iter")] for epoch in range(epochs)
    ]
    vals = {at: value for at, point, value in found if point == "after_val_epoch"}
    return [(each, vals.get(epoch, 0.0)) for epoch, each in enumerate(losses)]


def test_hooks_of_every_kind_decide_alike_on_a_recorded_run(
    start_daemon: Callable[..., Daemon], start_script: Start, tmp_path: Path
) -> None:
    for name, text in (("my_hooks", f"{CHECK}\nCheckInvalidLossHook.deadline_ms = 60_000\n"), ("plateau", PLATEAU)):
        (tmp_path / f"{name}.py").write_text(text)
    config = CONFIG.replace("PYTHON", sys.executable).replace("[providers]", f"[providers]\npath = [{str(tmp_path)!r}]")
    daemon = start_daemon(config, program="own-daemon")
    (tmp_path / "recorded.json").write_text(json.dumps(recorded()))
    process = start_script(TRAIN, daemon.address, str(tmp_path / "recorded.json"))
    assert said(process) == "trained"

    def hooks() -> dict[str, dict]:
        return {hook["name"]: hook for hook in daemon.ask("show", "digits")["hooks"]}

    for name in ("plateau in Rust", "plateau in Python"):
        until(lambda each=name: hooks()[each]["calls"] == len(recorded()), f"{name} is not called as often")  # type: ignore[misc]
    until(
        lambda: hooks()["plateau in Python"]["decisions"] == hooks()["plateau in Rust"]["decisions"], "it decides less"
    )
    process.stdin.write("\n")  # type: ignore[union-attr]
    assert ended(process)[0] == 0
    for hook in hooks().values():
        assert (hook["errors"], hook["timeouts"], hook["missed"]) == (0, 0, 0), hook
    out = tmp_path / "out"
    command = [str(binary("hookbus")), "--address", daemon.address, "export", "digits", "--ndjson", str(out)]
    subprocess.run(command, check=True, timeout=PATIENCE_S, env=clean_environment())
    log = [json.loads(line) for line in (out / "log.ndjson").read_text().splitlines()]
    decided: dict[str, list[tuple]] = {}
    for row in log:
        if row["kind"] == "decision":
            # a reason says in words what each found; a learning rate is the decision itself
            text = row["text"] if "lr" in row["what"] else row["text"].split(" (")[0]
            decided.setdefault(row["who"], []).append((row["epoch"], row["iter"], row["point"], row["what"], text))
    check, plateau = decided["check in Rust"], decided["plateau in Rust"]
    assert len(check) >= 2
    assert len(plateau) >= 2
    assert decided == {
        "check in Rust": check,
        "check in Python": check,
        "check as a rule": check,
        "plateau in Rust": plateau,
        "plateau in Python": plateau,
    }
