"""hookbus.Hook: the predicates with MMEngine's meaning, the plan of what a class overrides, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from own_hooks import HEAD, Load, load_text, made, offered, refusal

import hookbus
from hookbus.hooks import POINTS, Registry
from hookbus.hooks._load import Missing
from hookbus.hooks._plan import is_due

__all__ = ["load_text"]
ORACLE = ROOT / "tests/oracle"
HELPERS = json.loads((ORACLE / "helpers.json").read_text())["cases"]


@pytest.mark.parametrize("case", HELPERS, ids=[case["name"] for case in HELPERS])
def test_the_predicates_are_mmengines(case: dict) -> None:
    hook, config, input = hookbus.Hook(), case["config"], case["input"]
    batch_idx = input.get("batch_idx", 0)
    at = SimpleNamespace(epoch=input.get("epoch"), iter=input.get("iter"), inner_iter=batch_idx)
    run = SimpleNamespace(
        iters_per_epoch=input.get("len(dataloader)"),
        max_epochs=input.get("max_epochs"),
        max_iters=input.get("max_iters"),
    )
    start = () if config.get("start") is None else (config["start"],)
    call = getattr(hook, case["kind"])
    rest = (config["n"], *start) if "n" in config else (SimpleNamespace(run=run),)
    result = call(at, *rest)
    assert (result, type(result).__name__) == (case["expected"]["result"], case["expected"]["type"])
    if (
        case["kind"].startswith("every_n")
        and isinstance(config["n"], int)
        and (at.iter or batch_idx or at.epoch or 0) >= 0
    ):
        base = {"every_n_epochs": "epoch", "every_n_train_iters": "iter", "every_n_inner_iters": "inner_iter"}[
            case["kind"]
        ]
        counts = (at.epoch or 0, at.iter or 0, at.inner_iter)
        assert is_due(base, config["n"], *counts, *start) == case["expected"]["result"], "the plan counts alike"


def test_a_predicate_whose_fact_is_not_known_says_which() -> None:
    cx = SimpleNamespace(run=SimpleNamespace(max_epochs=None))
    with pytest.raises(LookupError, match=r"has not said max_epochs: hookbus.attach\(..., max_epochs=N\)"):
        hookbus.Hook().is_last_train_epoch(SimpleNamespace(epoch=1), cx)  # type: ignore[arg-type]


def test_the_points_are_mmengines_and_the_one_more() -> None:
    recorded = json.loads((ORACLE / "hook_points.json").read_text())["stages_in_order"]
    assert [point for point in POINTS if point != "after_save_checkpoint"] == recorded
    assert all(callable(getattr(hookbus.Hook, point)) for point in POINTS)


def test_importing_hookbus_imports_neither_hooks_nor_a_framework() -> None:
    words = "import hookbus, sys; print([m for m in ('hookbus.hooks', 'inspect', 'json', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_registry_is_mmengines() -> None:
    registry = Registry("HOOKS")

    @registry.register_module()
    class A(hookbus.Hook): ...

    @registry.register_module(name=["B", "C"])
    class Other(hookbus.Hook):
        def __init__(self, interval: int = 5) -> None:
            self.interval = interval

    registry.register_module(name="D", module=A)
    assert list(registry) == ["A", "B", "C", "D"]
    assert registry.get("D") is A
    assert registry.get("E") is None
    built = registry.build(dict(type="B", interval=7))
    assert isinstance(built, Other)
    assert built.interval == 7
    with pytest.raises(KeyError, match="A is already registered in HOOKS at test_hook_class"):
        registry.register_module(name="A")(Other)
    registry.register_module(name="A", force=True)(Other)
    assert registry.get("A") is Other
    with pytest.raises(KeyError, match="do you mean B"):
        registry.build(dict(type="BB"))
    with pytest.raises(TypeError, match="written with brackets"):
        registry.register_module(A)  # type: ignore[arg-type]


def plan(loaded: object, **args: object) -> dict[str, tuple]:
    """(base, n, gate, condition, otherwise, deadline) of each point."""
    return {each.point: tuple(each[1:3]) + tuple(each[4:8]) for each in made(loaded, **args).subscriptions}  # type: ignore[arg-type]


def test_what_is_overridden_is_the_plan(load_text: Load) -> None:
    loaded = load_text(
        HEAD + '    fields = ("loss", "lr")\n    every = "interval"\n'
        "    def __init__(self, interval=10):\n        self.interval = interval\n"
        "    def after_train_iter(self, event, cx): ...\n    def after_val_iter(self, event, cx): ...\n"
        "    def after_train_epoch(self, event, cx): ...\n    def before_train(self, event, cx): ...\n"
        "    def _before_all(self): ...\n    def every_other(self): ...\n"
    )
    assert plan(loaded, interval=3) == {
        "before_train": ("always", 0, False, "", "continue", 2000),
        "after_train_iter": ("iter", 3, False, "", "continue", 50),
        "after_train_epoch": ("epoch", 3, False, "", "continue", 2000),
        "after_val_iter": ("inner_iter", 3, False, "", "continue", 50),
    }
    assert all(each.fields == ("loss", "lr") for each in made(loaded).subscriptions)


def test_gates_and_intervals_may_differ_by_point(load_text: Load) -> None:
    loaded = load_text(
        HEAD + '    gate = {"after_train_iter": "!is_finite(loss)", "before_train": True}\n    otherwise = "stop"\n'
        '    every = {"after_train_iter": 5.0}\n    deadline_ms = 7\n    def before_train(self, event, cx): ...\n'
        "    def after_train_iter(self, event, cx): ...\n    after_val_iter = after_train_iter\n"
    )
    assert plan(loaded) == {
        "before_train": ("always", 0, True, "", "stop", 7),
        "after_train_iter": ("iter", 5, True, "loss", "stop", 7),
        "after_val_iter": ("always", 0, False, "", "stop", 7),
    }
    fields = {each.point: each.fields for each in made(loaded).subscriptions}
    assert fields == {"before_train": (), "after_train_iter": ("loss",), "after_val_iter": ()}


def test_a_point_of_the_trainers_own_is_named(load_text: Load) -> None:
    loaded = load_text(HEAD + '    points = ("after_ema",)\n    def after_ema(self, event, cx): ...\n')
    assert plan(loaded) == {"after_ema": ("always", 0, False, "", "continue", 2000)}


def test_arguments_of_the_daemon_reach_no_constructor(load_text: Load) -> None:
    loaded = load_text(HEAD + '    priority = "LOW"\n    def before_train(self, event, cx): ...\n')
    assert made(loaded).args == {"priority": "LOW"}
    assert made(loaded, priority=10, policy="warn").args == {"priority": 10, "policy": "warn"}


METHOD = "    def after_train_iter(self, event, cx): ...\n"
BAD = {
    "a point that is none": (
        "    def after_train_itr(self, event, cx): ...\n",
        r"no point after_train_itr; do you mean after_train_iter\?",
    ),
    "a point of MMEngine's own": (
        "    def _after_iter(self, event, cx): ...\n",
        "write after_train_iter, after_val_iter",
    ),
    "no point": ("    pass\n", "it overrides no point"),
    "MMEngine's signature": (
        "    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None): ...\n",
        r"is MMEngine's signature: write it as def after_train_iter\(self, event, cx\)",
    ),
    "too few parameters": ("    def before_train(self, runner): ...\n", r"does not take the event and cx"),
    "async": ("    async def before_train(self, event, cx): ...\n", "would not run when it is called"),
    "static": ("    @staticmethod\n    def before_train(event, cx): ...\n", "no plain method"),
    "the model": ('    fields = ("model",)\n' + METHOD, "a trainer cannot send: it stays in the trainer's process"),
    "the batch": ('    fields = ("data_batch",)\n' + METHOD, "a trainer cannot send: tensors stay"),
    "the runner": ('    fields = ("runner",)\n' + METHOD, "a trainer cannot send: .*the event and cx have"),
    "one field without a tuple": ('    fields = "loss"\n' + METHOD, r"a tuple of names, as \('loss',\)"),
    "every of no argument": ('    every = "intervall"\n' + METHOD, "no attribute of that name"),
    "every of a text": (
        '    every = "interval"\n    interval = "often"\n' + METHOD,
        "interval = 'often': how often is a whole number",
    ),
    "every of a fraction": ("    every = 0.5\n" + METHOD, "every = 0.5: how often is a whole number"),
    "every of no count": ("    every = 2\n    def before_train(self, event, cx): ...\n", "nothing to count"),
    "every of another point": ('    every = {"after_val_iter": 2}\n' + METHOD, "there is no method after_val_iter"),
    "a gate that is none": ('    gate = "loss > 3"\n' + METHOD, r'is no condition: "!is_finite\(NAME\)"'),
    "a gate that is a number": ("    gate = 1\n" + METHOD, "gate = 1 is no condition"),
    "a gate on no metric": ('    gate = "!is_finite(model)"\n' + METHOD, "model is no metric"),
    "otherwise without a gate": ('    otherwise = "stop"\n' + METHOD, "otherwise = 'stop' without a gate"),
    "an otherwise that is none": ('    gate = True\n    otherwise = "halt"\n' + METHOD, '"continue" or "stop"'),
    "a deadline of nothing": ("    gate = True\n    deadline_ms = 0\n" + METHOD, "whole number of milliseconds"),
    "points without a method": ('    points = ("after_ema",)\n' + METHOD, "no method of that name"),
    "a constructor that raises": (
        "    def __init__(self):\n        raise ValueError('no GPU here')\n" + METHOD,
        r"its constructor raised ValueError: no GPU here \(my_hooks.py:7\)",
    ),
    "a constructor that exits": (
        "    def __init__(self):\n        exit(3)\n" + METHOD,
        "its constructor raised SystemExit: 3",
    ),
    "a constructor that raises what is no Exception": (
        "    def __init__(self):\n        raise GeneratorExit('so')\n" + METHOD,
        r"its constructor raised GeneratorExit: so \(my_hooks.py:7\)",
    ),
    "fields that are a number": ("    fields = 3\n" + METHOD, "fields = 3: a tuple of names"),
    "points that are a number": ("    points = 3\n" + METHOD, "points = 3: a tuple of names"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_hook_is_refused_with_the_reason(name: str, load_text: Load) -> None:
    import re

    body, why = BAD[name]
    said = refusal(load_text(HEAD + body))
    assert re.search(why, said), said
    assert "\n" not in said


def test_arguments_that_do_not_fit_are_refused(load_text: Load) -> None:
    loaded = load_text(HEAD + "    def __init__(self, interval=50, *, scale): ...\n" + METHOD)
    assert refusal(loaded, intervall=3, scale=1) == (
        "its arguments do not fit Own(interval=50, *, scale): got an unexpected keyword argument 'intervall'; "
        "do you mean interval?"
    )
    assert "missing a required" in refusal(loaded)


def test_the_rest_holds(load_text: Load) -> None:
    loaded = load_text(
        HEAD + METHOD + "class Plain(hookbus.Hook):\n    pass\n@hookbus.HOOKS.register_module()\nclass Foreign: ...\n"
    )
    found = offered(
        loaded,
        dict(type="Own"),
        dict(type="Own"),
        dict(type="Own", name="second"),
        dict(type="Onw"),
        dict(type="Plain"),
        dict(type="Foreign"),
    )
    assert [each.request.name for each in found.hooks] == ["Own", "second"]
    refused = dict(found.refused)
    assert "another hook of this name" in refused["hook Own"]
    assert "there is no hook Onw in this module; do you mean Own? There is: Own, Foreign" in refused["hook Onw"]
    assert "not registered: write @hookbus.HOOKS.register_module() above it" in refused["hook Plain"]
    assert "is no hook: class Foreign(hookbus.Hook)" in refused["hook Foreign"]


def test_a_module_that_does_not_import_says_where(load_text: Load, tmp_path: Path) -> None:
    table = {
        "x = 1\nif\n": r"module my_hooks does not import: SyntaxError: invalid syntax \(my_hooks.py:2\)",
        "import hookbus\nimport nowhere_at_all\n": r"ModuleNotFoundError: No module named .* \(my_hooks.py:2\)",
        "def f():\n    return 1 / 0\nf()\n": r"ZeroDivisionError: division by zero \(my_hooks.py:2\)",
        HEAD + METHOD + HEAD + METHOD: r"KeyError: Own is already registered in HOOKS at my_hooks.*\(my_hooks.py:\d+\)",
        "raise SystemExit(4)\n": "SystemExit: 4",
        "raise GeneratorExit(5)\n": "GeneratorExit: 5",
    }
    for text, why in table.items():
        with pytest.raises(Missing, match=why):
            load_text(text)
    with pytest.raises(Missing, match="there is no file"):
        hookbus_load(tmp_path / "none.py")
    with pytest.raises(Missing, match=r"there is no module nowhere_hooks for .*PYTHONPATH"):
        hookbus_load("nowhere_hooks")
    with pytest.raises(Missing, match="is no name of a module"):
        load_text("", name="my-hooks")


def hookbus_load(module: object) -> None:
    from hookbus.hooks._load import load

    load(str(module))
