"""Kills the provider of a hook under a running training, again and again: nothing is seen twice, forgotten or felt."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

from conftest import PATIENCE_S, Daemon, binary, clean_environment
from drive import Wrong, wait_for

EVERY = 25
HOOK = f'''
import time

import hookbus

@hookbus.HOOKS.register_module()
class Sums(hookbus.Hook):
    """Counts the iterations and sums their losses; says both now and then."""

    fields = ("loss",)

    def __init__(self):
        self.seen, self.sum = 0, 0.0

    def after_train_iter(self, event, cx):
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass  # most deaths come in here
        self.seen += 1
        self.sum += event["loss"]
        if self.seen % {EVERY} == 0:
            cx.log(f"seen {{self.seen}} at {{event.iter}}, sum {{self.sum!r}}")

    def state_dict(self):
        return [self.seen, self.sum]

    def load_state_dict(self, state):
        self.seen, self.sum = state


@hookbus.HOOKS.register_module()
class Check(hookbus.Hook):
    """A gate that never stops, however its process is."""

    gate = True
    every = 40
    deadline_ms = 50

    def after_train_iter(self, event, cx):
        pass
'''
# Goes on at its own pace until it is told to end, so that calls are under way whenever the provider dies.
TRAIN = """
import json, math, select, sys, time
import hookbus
connected, iters = sys.argv[1] == "beside", int(sys.argv[2])
losses, weight, longest = [], 1.0, 0.0
with hookbus.attach("provided", max_epochs=1, iters_per_epoch=10**9) as bus:
    assert bus.status()["connected"] == connected, bus.status()
    for i in bus.iters(range(10**9)):
        if len(losses) >= iters > 0 or (iters == 0 and select.select([sys.stdin], [], [], 0)[0]):
            break
        weight -= 0.1 * math.sin(weight * len(losses))
        losses.append(weight)
        before = time.perf_counter()
        bus.report(loss=weight)
        longest = max(longest, time.perf_counter() - before)
        if connected:
            time.sleep(0.002)
    if connected:
        print(json.dumps({"iters": len(losses)}), flush=True)
        sys.stdin.readline()
        sys.stdin.readline()
        bus.event("after_train_epoch")  # lines that came late are written
        bus.event("after_train")
print(json.dumps({"losses": losses, "weight": weight, "longest_s": longest}))
"""


class Killed:
    """What was seen."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.iters = self.failures = 0
        self.longest_ms = 0.0


def killed(folder: Path, kills: int, seed: int) -> Killed:
    """One training, and so many deaths of its provider."""
    chance = random.Random(seed)
    (folder / "sums.py").write_text(HOOK)
    (folder / "train.py").write_text(TRAIN)
    daemon = Daemon(folder, "")
    seen = Killed()
    provider = serve(folder, daemon)
    with (folder / "train.log").open("w") as log:
        training = subprocess.Popen(
            [sys.executable, str(folder / "train.py"), "beside", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=clean_environment(HOOKBUS_ADDRESS=daemon.address),
        )
    try:
        wait_for("first decision", lambda: training.poll() is not None or hooks(daemon).get("decisions", 0) > 0)
        for _ in range(kills):
            before = hooks(daemon)["decisions"]
            # an answer in between, so that it is not one long failure; then anywhere
            wait_for("decision after a death", lambda: hooks(daemon)["decisions"] > before)  # noqa: B023
            wait_for("moment", lambda: chance.random() < 0.02)
            provider.kill()
            provider.communicate()
            provider = serve(folder, daemon)
        assert training.stdin is not None
        assert training.stdout is not None
        training.stdin.write("end\n")
        training.stdin.flush()
        seen.iters = json.loads(training.stdout.readline())["iters"]
        wait_for("last decision", lambda: hooks(daemon)["decisions"] >= seen.iters // EVERY)
        out, _ = training.communicate("end\n", timeout=PATIENCE_S)
        hook = hooks(daemon)
    finally:
        for process in (training, provider):
            process.kill()
            process.communicate()
        daemon.kill()
    compare(folder, seen, json.loads(out), hook)
    return seen


def serve(folder: Path, daemon: Daemon) -> subprocess.Popen[str]:
    """Serves the hooks, and waits until the daemon has taken them."""
    command = [str(binary("hookbus")), "--address", daemon.address, "hooks", "serve", str(folder / "sums.py")]
    process = subprocess.Popen(
        [*command, "--python", sys.executable], stderr=subprocess.PIPE, text=True, env=clean_environment(), cwd=folder
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("hookbus: serving "):
            return process
    raise Wrong(f"the provider does not serve: {said}")


def hooks(daemon: Daemon) -> dict:
    """Of the hook that sums; empty before the run is there."""
    command = [str(binary("hookbus")), "--address", daemon.address, "show", "provided", "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=clean_environment())
    if shown.returncode:
        return {}
    return next((hook for hook in json.loads(shown.stdout)["hooks"] if hook["name"] == "Sums"), {})


def compare(folder: Path, seen: Killed, trained: dict, hook: dict) -> None:
    """With the same training without hookbus, and with what a hook that lives would have seen."""
    alone = subprocess.run(
        [sys.executable, str(folder / "train.py"), "alone", str(seen.iters)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=clean_environment(HOOKBUS_ADDRESS=f"unix://{folder}/nowhere.sock"),
    )
    if alone.returncode:
        raise Wrong(f"the training without hookbus ended with {alone.returncode}: {alone.stderr[-2000:]}")
    without = json.loads(alone.stdout)
    for what in ("losses", "weight"):
        if trained[what] != without[what]:
            seen.wrong.append(f"the {what} are not those of a training without hookbus")
    expected, total = [], 0.0
    for iter, loss in enumerate(without["losses"]):
        total += loss
        if iter % EVERY == EVERY - 1:
            expected.append((iter + 1, iter, repr(total)))
    log = (folder / "train.log").read_text()
    said = [(int(n), int(at), total) for n, at, total in re.findall(r"seen (\d+) at (\d+), sum (\S+)", log)]
    if said != expected:
        first = next((pair for pair in zip(said, expected, strict=False) if pair[0] != pair[1]), None)
        seen.wrong.append(f"{len(said)} lines of the hook, {len(expected)} expected; the first that differs: {first}")
    if hook["missed"] or hook["disabled"]:
        seen.wrong.append(f"the hook missed {hook['missed']} events, disabled: {hook['disabled']}")
    seen.failures = hook["errors"]
    seen.longest_ms = trained["longest_s"] * 1000
