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

__all__ = ["Bus", "TrainingStopped", "__version__", "attach"]
