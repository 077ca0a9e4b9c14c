"""What the native session makes of Python values in a description, as NumClassCheckHook decides from it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from conftest import Daemon

Run = Callable[..., "subprocess.CompletedProcess[str]"]

HEAD = """
import json
import numpy as np
from hookbus import _native

class Text(str):
    pass

def head(value):
    return [("", "Net", value, False, False)]

class NoText:
    def __str__(self):
        raise ValueError("no text")

three = ("a", "b", "c")
said = []
session = _native.attach(
    run="description", address=None, token_file=None, ca_file=None, hooks=[dict(type="NumClassCheckHook")],
    capabilities=["stop", "log"], allow=None, gathers=False, place=None, timeout_s=30.0,
)
session.set_apply(lambda actions, point: said.extend(action[-1] for action in actions))
session.facts()
session.emit("before_train")
"""

CASES = (
    HEAD
    + """
cases = [  # modules, classes, what is wrong
    (head(3), three, None),
    (head(3.0), list(three), None),
    (head(True), ("a",), None),
    (head(np.int64(3)), range(3), None),
    (head(np.float32(3)), b"abc", None),
    (head(4), Text("abc"), "(4)"),
    (head("3"), three, "(3)"),
    (head(None), three, "(None)"),
    (head(float("nan")), three, "(nan)"),
    (head(NoText()), three, "(?)"),
    (head(3), "abc", "classes = (abc,)"),
    ([("neck.rpn_head", "Head", 1, False, False)], three, None),
    ([("vgg", "Other", 1, True, False)], three, None),
    ([("semantic", "Other", 1, False, True)], three, None),
    ([("semantic", "FusedSemanticHead", 1, False, False)], three, "FusedSemanticHead of Net"),
    (head(7), None, "Please set `classes` in the Coco"),
]
wrong = []
for epoch, (modules, classes, says) in enumerate(cases):
    said.clear()
    session.describe("Net", modules, {"train": ("Coco", classes)})
    session.emit("before_train_epoch", epoch=epoch)
    if len(said) != (says is not None) or not all(says in text for text in said):
        wrong.append((repr(modules), repr(classes), says, list(said)))
session.close("finished", False)
print(json.dumps(wrong))
"""
)

NO_LENGTH = (
    HEAD
    + """
try:
    session.describe("Net", head(3), {"train": ("Coco", iter(three))})
except TypeError as error:
    print(error)
"""
)


def test_values_compare_as_in_python(daemon: Daemon, run_script: Run) -> None:
    done = run_script(CASES, daemon)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_classes_without_a_length_are_pythons_own_error(daemon: Daemon, run_script: Run) -> None:
    done = run_script(NO_LENGTH, daemon)
    assert "has no len()" in done.stdout, done.stderr
