"""hookbus: the hooks of a training run, outside the training process.

    with hookbus.attach(run="digits", max_epochs=20, iters_per_epoch=len(loader)) as bus:
        bus.bind(optimizer=optimizer, model=model)
        for epoch in bus.epochs():
            for batch in bus.iters(loader):
                bus.report(loss=step(batch))

Importing this imports no framework, installs no log handler and opens no connection.
"""

from ._attach import attach
from ._bus import Bus
from ._native import __version__
from ._stopped import TrainingStopped

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from .hooks import HOOKS, Hook

__all__ = ["HOOKS", "Bus", "Hook", "TrainingStopped", "__version__", "attach"]


def __getattr__(name: str) -> object:
    """What hooks of one's own need is imported where it is used: a training does without."""
    if name in ("HOOKS", "Hook"):
        from . import hooks

        found = globals()[name] = getattr(hooks, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
