"""NumClassCheckHook: that the adapter's description of real modules is what the original sees, and what comes of it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from conftest import Daemon
from originals import VGG, FusedSemanticHead
from rig import Rig, StandInLoader
from torch import nn

MENDED = (("andcheck", "and check"), ("does not matches", "does not match"), ("str.Add", "str. Add"))


class StrSub(str):
    pass


def decide(case: dict[str, Any], daemon: Daemon, folder: Path) -> bool:
    given, expected = case["input"], case["expected"]
    model = model_of(given["model"], given["model_class"])
    if case["kind"] == "shared_module":  # registered under a second name too, which the hook never sees
        first = given["model"][1][0]
        model.add_module("bbox_head" if first == "rpn_head" else "rpn_head", getattr(model, first))
    dataset = type(given["dataset_class"], (), {"metainfo": metainfo(given["classes"])})()
    rig = Rig(daemon, folder, [{"type": "NumClassCheckHook", **case["config"]}], model, StandInLoader(dataset))
    if given["stage"] == "before_val_epoch":
        rig.validates(dataset)
        rig.reach("before_run")
        rig.reach("before_val")
    else:
        rig.begin()
    rig.reach(given["stage"])
    rig.end()
    raised = expected["raised"]
    if raised is None:
        assert rig.stop is None, rig.stop
    else:
        assert str(rig.stop) == mended(raised["str"], given)
    logs = [entry for entry in rig.logs if entry[0] == "WARNING"]
    assert logs == [[level, mended(text, given)] for level, text in expected["logs"]]
    return raised is None and not logs


def mended(text: str, given: dict[str, Any]) -> str:
    name, length = given["dataset_class"], given["classes"].get("len")
    for old, new in (*MENDED, (f"{name}should", f"{name} should"), (f"`classes` {length})", f"`classes` ({length})")):
        text = text.replace(old, new)
    return text


def metainfo(classes: dict[str, Any]) -> dict[str, Any]:
    kind = classes["type"]
    if kind == "key_absent":
        return {}
    if kind == "none":
        return {"classes": None}
    value = classes["value"]
    made = {
        "dict": dict.fromkeys,
        "range": lambda numbers: range(len(numbers)),
        "bytes": bytes,
        "StrSub": StrSub,
        "str": str,
        "list": list,
        "tuple": tuple,
    }[kind](value)
    assert len(made) == classes["len"]
    return {"classes": made}


def model_of(listing: list[list[Any]], root_class: str) -> nn.Module:
    """Real modules, of which named_modules() gives the listing again. Where it is empty: a model without any module."""
    root: nn.Module | None = None
    for name, class_name, has, num_classes, is_vgg, is_fused in listing:
        base = VGG if is_vgg else FusedSemanticHead if is_fused else nn.Module
        kind = base if base.__name__ == class_name else type(class_name, (base,), {})
        module = kind.__new__(kind)
        nn.Module.__init__(module)
        if has:
            module.num_classes = value(num_classes)
        if root is None:
            root = module
        else:
            *above, last = name.split(".")
            root.get_submodule(".".join(above)).add_module(last, module)
    if root is None:
        return type(root_class, (nn.Module,), {"named_modules": lambda self: iter(())})()
    seen = [[name, type(module).__name__] for name, module in root.named_modules()]
    assert seen == [row[:2] for row in listing]
    return root


def value(recorded: Any) -> Any:
    if isinstance(recorded, str):
        return ast.literal_eval(recorded.removeprefix("repr:"))
    return recorded
