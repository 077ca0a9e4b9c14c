"""docs/write_your_own_hook.md: every snippet is run; its CheckInvalidLossHook decides as the recorded original did."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, Daemon, binary, clean_environment
from fake_daemon import FakeDaemon, call, message, opened
from own_hooks import Daemonlike, Load, load_text, made, refusal

from hookbus.hooks._load import load
from hookbus.hooks._offer import Request, offer
from hookbus.hooks._plan import is_due, wants

__all__ = ["load_text"]
PAGE = (ROOT / "docs/write_your_own_hook.md").read_text()
CASES = json.loads((ROOT / "tests/oracle/check_invalid_loss.json").read_text())["cases"]
SEQUENCES = [case for case in CASES if case["kind"].startswith("seq")]
VALUES = [case for case in CASES if case["kind"] == "value"]
# no single real number: the original raises an error of its own, which decides nothing, and a trainer cannot report it
NO_NUMBERS = [
    case
    for case in VALUES
    if (case["expected"]["raised"] or {}).get("type") == "RuntimeError" or "complex" in case["input"]["loss"]["dtype"]
]
REPORTED = [case for case in VALUES if case not in NO_NUMBERS]
NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def files() -> dict[str, str]:
    """Each Python snippet is a file; its first line says which."""
    return {block.split("\n", 1)[0].removeprefix("# "): block for block in blocks("python")}


CHECK, PLATEAU = files()["my_hooks.py"], files()["plateau.py"]
ASKED_EACH_TIME = CHECK.replace('    every = "interval"\n', "")
assert ASKED_EACH_TIME != CHECK


def written(folder: Path) -> Path:
    for name, text in files().items():
        (folder / name).write_text(text)
    return folder


def test_every_class_of_the_page_holds(load_text: Load) -> None:
    assert list(files()) == ["my_hooks.py", "plateau.py"]
    for text in files().values():
        assert made(load_text(text)).summary


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML since 3.11")
def test_every_hook_of_the_pages_configuration_holds(load_text: Load, tmp_path: Path) -> None:
    import tomllib

    asked = [hook for block in blocks("toml") for hook in tomllib.loads(block)["hooks"]]
    assert [hook["type"] for hook in asked] == ["CheckInvalidLossHook", "ReduceOnPlateau", "Rule", "Rule"]
    for hook in asked[:2]:
        module = hook.pop("module")
        loaded = load_text(files()[f"{module}.py"])
        assert not offer([Request.of(hook)], loaded.file).refused
    # the daemon's own reading of all of it
    config = tmp_path / "hookbusd.toml"
    config.write_text("".join(blocks("toml")))
    command = [str(binary("hookbusd")), "--config", str(config), "--check-config"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=clean_environment())
    assert (checked.returncode, checked.stdout) == (0, "the configuration is valid\n"), checked.stderr


def test_the_pages_rust_is_that_of_the_example_which_is_built() -> None:
    snippets = blocks("rust")
    assert [text.split("\n")[0].split(",")[0] for text in snippets] == ["// src/main.rs", "// src/reduce_on_plateau.rs"]
    for text in snippets:
        head, body = text.split("\n", 1)
        file = ROOT / "demo/own_daemon" / head.removeprefix("// ").split(",")[0]
        assert body in file.read_text(), f"{file} is otherwise"


def in_dtype(loss: float, dtype: str) -> float:
    """As a tensor of this type has it: it may overflow."""
    if dtype in ("float32", "float16", "bfloat16"):
        try:
            (loss,) = struct.unpack("f", struct.pack("f", loss))
        except OverflowError:
            return math.copysign(math.inf, loss)
    limit = {"float16": 65520.0, "bfloat16": (2.0 - 2.0**-8) * 2.0**127}.get(dtype)
    return math.copysign(math.inf, loss) if limit is not None and abs(loss) >= limit else loss


def decided(
    load_text: Load, config: dict, start: int, losses: list[float], text: str = CHECK
) -> tuple[list[int], list[int], list]:
    """Iterations that are due, those with a stop, and the lines that are logged."""
    loaded = load_text(text)
    daemon = Daemonlike(loaded, dict(type="CheckInvalidLossHook", **config))
    (plan,) = daemon.hooks[0].subscriptions
    checked, raised, logs = [], [], []
    for iter, loss in enumerate(losses, start):
        if is_due(plan.base, plan.n, 0, iter, iter):
            checked.append(iter)
        if not wants(plan, 0, iter, iter, {"loss": loss}):
            continue
        decisions, _, error, _ = daemon.call(at=(0, iter, iter), loss=loss)
        assert not error
        for what, reason, lines in decisions:
            assert (what, reason) == ("stop", "loss become infinite or NaN!")
            raised.append(iter)
            logs += [["INFO" if level == 20 else level, text] for level, text in lines]
    return checked, raised, logs


@pytest.mark.parametrize("case", SEQUENCES, ids=[case["name"] for case in SEQUENCES])
def test_the_check_decides_as_the_original_over_sequences(case: dict, load_text: Load) -> None:
    input, expected = case["input"], case["expected"]
    losses = [in_dtype(float(NUMBERS.get(loss, loss)), input["dtype"]) for loss in input["losses"]]
    checked, raised, logs = decided(load_text, case["config"], input["start_iter"], losses)
    assert checked == expected["checked_iters"]
    assert raised == expected["raised_iters"]
    assert len(logs) == expected["n_logs"]
    if expected["first_raise"] is not None:
        assert logs[:1] == expected["first_raise"]["logs"]
    # with MMEngine's helper alone, without `every`, it is asked more often and decides the same
    assert decided(load_text, case["config"], input["start_iter"], losses, ASKED_EACH_TIME)[1:] == (raised, logs)


def test_the_cases_without_a_number_are_those_known() -> None:
    assert (len(VALUES), len(NO_NUMBERS)) == (34, 5)


@pytest.mark.parametrize("case", REPORTED, ids=[case["name"] for case in REPORTED])
def test_the_check_decides_as_the_original_on_values(case: dict, load_text: Load) -> None:
    input, expected = case["input"], case["expected"]
    raised = expected["raised"]
    value = input["loss"]["value"]
    if isinstance(value, list):
        (value,) = value if not isinstance(value[0], list) else value[0]
    loss = in_dtype(float(NUMBERS.get(value, value)), input["loss"]["dtype"])
    _, stopped, logs = decided(load_text, case["config"], input["start_iter"], [loss])
    assert bool(stopped) == (raised is not None)
    assert logs == expected["logs"]


@pytest.mark.parametrize("text", [CHECK, ASKED_EACH_TIME], ids=["every", "the helper alone"])
def test_a_gate_that_held_on_another_rank_stops_too(text: str, load_text: Load) -> None:
    daemon = Daemonlike(load_text(text), dict(type="CheckInvalidLossHook", interval=1))
    assert daemon.call(loss=0.5, held_on=[3])[0] == [
        ("stop", "loss become infinite or NaN!", [(20, "loss become infinite or NaN!")])
    ]
    assert daemon.call(loss=0.5)[0] == []


def reference(values: list[float], patience: int, factor: float, min_delta: float, cooldown: int) -> list[float | None]:
    """torch 2's ReduceLROnPlateau.step, mode min, threshold_mode abs, with a learning rate of 1."""
    best, bad, cooling, lr = math.inf, 0, 0, 1.0
    steps: list[float | None] = []
    for value in values:
        if value < best - min_delta:
            best, bad = value, 0
        else:
            bad += 1
        if cooling > 0:
            cooling -= 1
            bad = 0
        reduced = bad > patience
        if reduced:
            lr, cooling, bad = lr * factor, cooldown, 0
        steps.append(lr if reduced else None)
    return steps


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("cooldown", [0, 2])
@pytest.mark.parametrize("min_delta", [0.0, 0.05])
def test_the_plateau_is_torchs_also_across_a_restart(
    patience: int, cooldown: int, min_delta: float, load_text: Load
) -> None:
    args = dict(patience=patience, factor=0.5, min_delta=min_delta, cooldown=cooldown)
    values = [1.0, 0.9, 0.89, 0.88, 0.9, 0.91, math.nan, 0.5, 0.5, 0.49, 0.6, 0.6, 0.6, 0.48, 0.47, 0.47, 0.47, 0.47]
    daemon = Daemonlike(load_text(PLATEAU), dict(type="ReduceOnPlateau", **args))
    state, found = None, []
    for epoch, value in enumerate(values):
        decisions, now, error, _ = daemon.call("after_val_epoch", at=(epoch, 0, 0), val_loss=value)
        assert not error
        state = now or state
        found.append(decisions[0][3] if decisions else None)
        if epoch % 3 == 0 and state is not None:
            daemon.open(states={"ReduceOnPlateau": state})
    assert found == reference(values, **args)
    assert any(step is not None for step in found) or patience == 3


def test_a_value_that_is_not_finite_is_no_better_and_is_forgotten(load_text: Load) -> None:
    daemon = Daemonlike(load_text(PLATEAU), dict(type="ReduceOnPlateau", patience=1))
    for value in (-math.inf, math.inf):
        decisions, state, error, _ = daemon.call("after_val_epoch", val_loss=value)
        assert not error
    assert decisions[0][:3] == ("lr", None, "scale")
    assert state is not None
    assert json.loads(state)["best"] is None


@pytest.mark.parametrize("args", [dict(factor=1), dict(factor=0.0), dict(factor=math.nan), dict(metric="")])
def test_the_plateau_refuses_what_cannot_be(args: dict, load_text: Load) -> None:
    assert "its constructor raised ValueError: factor is" in refusal(load_text(PLATEAU), **args)


def test_what_the_page_prints_is_what_is_printed(tmp_path: Path) -> None:
    written(tmp_path)
    shown = re.findall(r"```sh\n(hookbus hooks test .*?)\n```\n\n```text\n(.*?)```", PAGE, re.S)
    assert len(shown) == 3
    for line, printed in shown:
        words = [str(binary("hookbus")), *shlex.split(line)[1:], "--python", sys.executable]
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE_S, env=clean_environment()
        )
        assert (done.returncode, done.stdout) == (0, printed), done.stderr


def test_the_line_that_serves_serves(daemon: Daemon, tmp_path: Path) -> None:
    lines = re.findall(r"```sh\n(.*?)\n```", PAGE, re.S)
    (line,) = (line for line in lines if " serve " in line)
    written(tmp_path)
    path = os.pathsep.join([str(binary("hookbus").parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = clean_environment(PATH=path, HOOKBUS_ADDRESS=daemon.address)
    words = shlex.split(line)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
    finally:
        process.kill()
        process.communicate()
    assert said == f"hookbus: serving CheckInvalidLossHook of my_hooks at {daemon.address}\n"


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """A folder with the two packages; where node or the packages are not to be had, the test is skipped."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = ROOT / ".cache/node"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules/@grpc/proto-loader").exists():
        install = ["npm", "install", "--silent", "--no-fund", "@grpc/grpc-js@1", "@grpc/proto-loader@0.8"]
        try:
            done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not install @grpc/grpc-js within 120 s")
        if done.returncode != 0:
            pytest.skip(f"npm cannot install @grpc/grpc-js here: {done.stderr.strip()[:200]}")
    return folder


def test_the_provider_in_another_language_serves(node_modules: Path) -> None:
    (text,) = blocks("js")
    assert len(text.splitlines()) <= 40
    (node_modules / "node_hooks.mjs").write_text(text)
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        fake = FakeDaemon(Path(folder) / "d.sock")
        command = ["node", "node_hooks.mjs", fake.address.replace("unix://", "unix:"), str(ROOT / "proto")]
        process = subprocess.Popen(command, cwd=node_modules, env=os.environ | {"NODE_PATH": ""})
        try:
            for _ in range(2):  # it comes back
                connection = fake.connection(module="node_hooks")
                (hook,) = connection.hears("offer").hooks
                (plan,) = hook.subscriptions
                assert (hook.request.type, plan.point, plan.every.base, plan.every.n) == (
                    "LossLimit",
                    "after_train_iter",
                    1,
                    2,
                )
                connection.say(opened=opened())
                calls = [
                    call(id, hook="LossLimit", iter=id, fields={"loss": loss}) for id, loss in ((1, 4.0), (2, 6.5))
                ]
                connection.say(calls=message("Calls", calls=calls))
                first, second = connection.answers(2)
                assert (first.run, first.id, list(first.decisions)) == (1, 1, [])
                assert (second.id, second.decisions[0].stop.reason) == (2, "loss 6.5 at iteration 2")
                connection.end()
        finally:
            process.kill()
            process.wait()
            fake.stop()


def test_the_modules_of_the_page_import_by_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(written(tmp_path)))
    from hookbus.hooks import HOOKS

    monkeypatch.setattr(HOOKS, "_types", {})
    try:
        assert load("plateau").types == ["ReduceOnPlateau"]
    finally:
        sys.modules.pop("plateau", None)
