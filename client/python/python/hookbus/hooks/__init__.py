"""Hooks of your own, in Python: a class with methods named after the points, in a process of its own beside the daemon.

    import math

    import hookbus

    @hookbus.HOOKS.register_module()
    class CheckInvalidLossHook(hookbus.Hook):
        fields = ("loss",)
        gate = "!is_finite(loss)"
        otherwise = "stop"
        every = "interval"

        def __init__(self, interval=50):
            self.interval = interval

        def after_train_iter(self, event, cx):
            if not math.isfinite(event["loss"]):
                cx.stop("loss become infinite or NaN!")

docs/write_your_own_hook.md is the page to read.

| file | idea |
|---|---|
| `_registry` | HOOKS: types by name, as MMEngine's registry |
| `_hook`, `_points` | the base class with MMEngine's helper predicates; the points |
| `_event`, `_context`, `_memory` | what a hook sees, and what it can decide |
| `_plan` | what a class overrides, as subscriptions; which events are due |
| `_offer`, `_errors` | from requests to hooks that hold, and why others do not; the line that raised |
| `_dispatch`, `_slot` | calls in, answers out, without any I/O |
| `_load` | a module by its name or file |
| `_recording`, `_replay`, `_report` | a recorded run, fed through the same dispatcher |
"""

from ._context import Context, Run
from ._event import Event
from ._hook import Hook
from ._memory import Reading, Unknown
from ._points import POINTS
from ._registry import HOOKS, Registry

__all__ = ["HOOKS", "POINTS", "Context", "Event", "Hook", "Reading", "Registry", "Run", "Unknown"]
