"""The end of a process: each bus that is still open says goodbye, all of them within one second.

A forked child leaves its parent's buses alone, and says goodbye for those that it has attached itself.
"""

from __future__ import annotations

import atexit
import os
import sys

from . import _native

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from ._bus import Bus

_open: list[Bus] = []
_process: int | None = None  # whose they are


def watch(bus: Bus) -> None:
    """Keeps a bus until it is closed, or this process ends."""
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        _open.clear()
        atexit.register(_close_all)
        _at_end_of_multiprocessing()
    _open.append(bus)


def forget(bus: Bus) -> None:
    """It is closed."""
    if bus in _open:
        _open.remove(bus)


def _at_end_of_multiprocessing() -> None:
    """A process of multiprocessing may end without atexit, but not without its own finalizers."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _close_all, exitpriority=0)


def _close_all() -> None:
    if _process != os.getpid():
        return
    buses = list(_open)
    # a script that ends by an exception leaves it here; one that ends by itself leaves nothing
    error = getattr(sys, "last_value", None)
    _native.close_all([bus.goodbye(error) for bus in buses])
    for bus in buses:
        bus.closed()
